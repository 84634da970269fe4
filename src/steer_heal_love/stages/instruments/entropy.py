"""How sharp a model is beside its base, at which temperature it would be no sharper, and how far it
has moved: on fixed reference texts, and on its own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import run_in_shards
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.temperature import current_head
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import final_states
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.lm.tokens import Ids
from steer_heal_love.maths.head import Head
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.maths.temperature import (
    HELD_ELEMENTS,
    Positions,
    Split,
    entropy_per_position,
    match_entropy,
    split_cross_entropy,
)
from steer_heal_love.maths.tilted_head import TiltedHead
from steer_heal_love.records import Completion, Interval, Measurement
from steer_heal_love.stages.instruments.capability import ordinary_paragraphs, paragraph_ids

SAMPLES = 24  # of the base, to held-out prompts
PARAGRAPHS = 8  # of ordinary text
TOKENS = 64  # of each text, at most

RESAMPLES = 2000


def sample_reference(lm: LanguageModel, prompts: Sequence[str], *, seed: int) -> list[Completion]:
    """What the bare base answers to these prompts: short, drawn from its whole distribution."""
    whole = Sampling(TOKENS, temperature=1.0, top_k=len(lm.head.weight), top_p=1.0)
    with base(lm):
        return sample_answers(lm, prompts, whole, seed=seed)


class Reference:
    """The fixed texts of a model and an axis, and how the base model reads them.

    Its own samples, and so many paragraphs of ordinary text.
    """

    def __init__(
        self, lm: LanguageModel, samples: Sequence[Completion], paragraphs: int = PARAGRAPHS
    ) -> None:
        self.lm, self.questions = lm, [c.prompt for c in samples]
        plain = paragraph_ids(lm, ordinary_paragraphs()[:paragraphs])
        self._opened = [row[:1] for row in plain if len(row) > 1]
        self._answers: list[Ids] = [(*c.token_ids, *_end(c)) for c in samples]
        self._plain: list[Ids] = [tuple(row[1 : TOKENS + 1]) for row in plain if len(row) > 1]
        self.lengths = [len(text) for text in (*self._answers, *self._plain)]

    def read(self, system: str | None = None) -> Tensor:
        """Final states [positions, d] of the model as it is patched now.

        Args:
            system: system prompt of the answers; ordinary text has none.
        """
        prompts = [encode_chat(self.lm, q, system) for q in self.questions]
        rows = final_states(self.lm, prompts, self._answers)
        rows += final_states(self.lm, self._opened, self._plain)
        return torch.cat(rows).to(self.lm.device)

    @cached_property
    def targets(self) -> Tensor:
        """The token at each position."""
        ids = [t for text in (*self._answers, *self._plain) for t in text]
        return torch.tensor(ids, device=self.lm.device)

    @cached_property
    def base_positions(self) -> Positions:
        """The base model's own reading, once for all conditions.

        Its tokens are in no condition's account: which one comes first depends on what was stored.
        """
        counter = self.lm.token_counter
        before = counter.tokens
        with base(self.lm):
            positions = Positions(self.read(), self.lm.head)
        counter.tokens = before
        return positions

    @cached_property
    def base_entropy(self) -> Tensor:
        """Entropy of the base model at each position, nats."""
        return entropy_per_position(self.base_positions)

    @cached_property
    def weights(self) -> Tensor:
        """Of each position in a mean over texts of their means, float64."""
        each = [
            torch.full((n,), 1 / (n * len(self.lengths)), dtype=torch.float64) for n in self.lengths
        ]
        return torch.cat(each).to(self.lm.device)

    def means(self, values: Tensor) -> tuple[float, ...]:
        """The mean over each text of what there is per position."""
        return tuple(float(part.mean()) for part in values.double().cpu().split(self.lengths))


@dataclass(frozen=True)
class Sharpness:
    """What the reference texts say of a model, and the temperature that undoes it.

    `temperature` is None where the base's entropy is reached at no temperature in range.
    """

    measurement: Measurement
    temperature: float | None


def measure_entropy(reference: Reference, system: str | None = None) -> Sharpness:
    """Entropy of the model as it is patched now, on the reference texts, and its match to base's.

    Figures, means over the texts of their means over positions: `entropy_nats`;
    `entropy_shift_nats`, less base's; and `kl_matched_nats`, KL(model at T* ‖ base). And
    `temperature_match`, the T* that the logits have to be divided by for base's entropy (a point: 1
    is as sharp as base, more is sharper). Where no T from 0.1 to 10 matches, it and the divergence
    are left out. Items are the texts' means.

    Raises:
        DivergedError: an entropy is NaN.
    """
    own = Positions(reference.read(system), current_head(reference.lm), held_elements=HELD_ELEMENTS)
    entropy = entropy_per_position(own)
    _check(entropy)
    items = {
        "entropy_nats": reference.means(entropy),
        "entropy_shift_nats": reference.means(entropy - reference.base_entropy),
    }
    target = float(reference.base_entropy.double() @ reference.weights)
    matched = match_entropy(own, target, reference.weights)
    figures = {}
    if matched is not None:
        figures["temperature_match"] = Interval(matched, matched, matched)
        split = split_cross_entropy(own, reference.base_positions, reference.targets, matched)
        items["kl_matched_nats"] = reference.means(split.kl)
    figures |= {n: bootstrap_mean(values, resamples=RESAMPLES) for n, values in items.items()}
    return Sharpness(Measurement(figures, items), matched)


def split_answers(
    lm: LanguageModel, completions: Sequence[Completion], system: str | None = None
) -> list[Split]:
    """Each answer's expected cross-entropy under the bare base, in its parts, per token, on CPU.

    The model as it is patched now reads the answers with the system prompt, base without.

    Raises:
        DivergedError: a number is NaN.
    """
    prompts = [encode_chat(lm, c.prompt, system) for c in completions]
    answers = [c.token_ids for c in completions]
    student = final_states(lm, prompts, answers)
    with base(lm):
        theirs = final_states(lm, [encode_chat(lm, c.prompt) for c in completions], answers)
    head = current_head(lm)

    def read(rows: list[int]) -> list[Tensor]:
        chosen = [answers[i] for i in rows]
        return _split(lm, head, [student[i] for i in rows], [theirs[i] for i in rows], chosen)

    return [Split(*part) for part in run_in_shards(lm, len(answers), read)]


def _split(
    lm: LanguageModel,
    head: Head | TiltedHead,
    student: Sequence[Tensor],
    theirs: Sequence[Tensor],
    answers: Sequence[Ids],
) -> list[Tensor]:
    """[entropy, kl, surprise] × tokens of each answer."""
    targets = torch.tensor([t for a in answers for t in a], dtype=torch.long, device=lm.device)
    own, base_own = (
        Positions(torch.cat(list(states)).to(lm.device), h)
        for states, h in ((student, head), (theirs, lm.head))
    )
    split = split_cross_entropy(own, base_own, targets)
    values = torch.stack([split.entropy, split.kl, split.surprise]).cpu()
    _check(values)
    return [part.clone() for part in values.split([len(a) for a in answers], dim=1)]


def measure_divergence(splits: Sequence[Split]) -> Measurement:
    """How far the model is from base on its own answers, and how sharp it is there.

    Figures, means over the answers: `entropy_own_nats`, the mean entropy over an answer's tokens;
    `kl_nats` and `kl_rmse_nats`, mean and root mean square over them of KL(model ‖ base), the
    latter the barrier's D. `entropy_own_nats + kl_nats` is the cross-entropy that answers drawn
    from the whole distribution at temperature 1 have under base in expectation, so the logarithm
    of `perplexity` but for the tokens' sampling noise; answers that are drawn from the top alone
    have less, by as much as the tail that is cut off carries. An empty answer has no value.
    """
    items: dict[str, tuple[float | None, ...]] = {
        "entropy_own_nats": tuple(_mean(s.entropy) for s in splits),
        "kl_nats": tuple(_mean(s.kl) for s in splits),
        "kl_rmse_nats": tuple(None if v is None else v**0.5 for v in map(_mean_square, splits)),
    }
    there = {name: [v for v in values if v is not None] for name, values in items.items()}
    figures = {n: bootstrap_mean(v, resamples=RESAMPLES) for n, v in there.items() if v}
    return Measurement(figures, items)


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _mean_square(split: Split) -> float | None:
    return _mean(split.kl.square())


def _end(completion: Completion) -> tuple[int, ...]:
    return () if completion.end_id is None else (completion.end_id,)


def _check(values: Tensor) -> None:
    if bool(values.isnan().any()):
        raise DivergedError(
            "scoring: an entropy or a divergence is NaN, so the model is broken: lower the dose or "
            "the learning rate, or use float32"
        )
