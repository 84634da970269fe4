"""The texts: the base model's own samples, with and without a loop.

They are the samples that its filter lets through. Steered texts, as the loop collects them, differ
from the base everywhere: the trait alone would use up much of τ, and what an aggregate sees of the
loop could not be told from what it sees of the trait. On its own samples the base model is at no
distance from itself, and what exceeds that is the loop's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from results.planted.planting import Planted, choose_places, plant
from results.planted.study import Study
from steer_heal_love.errors import StarvedRound
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import decode_text
from steer_heal_love.loop.collect import base_limits, sample
from steer_heal_love.loop.context import seed_of
from steer_heal_love.loop.dose_curve import spread_prompts
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.records import Completion
from steer_heal_love.stages import filter as filtering


@dataclass(frozen=True)
class Texts:
    """The texts of a seed: those to heal on, loops planted in a share of them, and fresh ones."""

    training: tuple[Completion, ...]
    planted: dict[int, Planted]  # by index into `training`
    fresh: tuple[tuple[str, Planted], ...]  # prompt and planted text, that no student learns from

    @property
    def loops(self) -> list[tuple[str, Planted]]:
        """Prompt and text of what was planted among the texts to heal on."""
        return [(self.training[i].prompt, p) for i, p in self.planted.items()]


@cache
def texts_of(study: Study, seed: int) -> Texts:
    """The base model's samples of this seed that the filter finds coherent, loops planted.

    Raises:
        StarvedRound: too few are, or too few of them are long enough.
    """
    kept = _sampled(study, seed)
    if len(kept) < study.texts + study.fresh:
        raise StarvedRound(
            f"seed {seed}: {len(kept)} texts of the base model pass the filter, and "
            f"{study.texts + study.fresh} are wanted"
        )
    training, others = list(kept[: study.texts]), kept[study.texts :][: study.fresh]
    try:
        places = choose_places([len(c.token_ids) for c in training], study.share, study.kinds, seed)
    except ValueError as error:
        raise StarvedRound(f"seed {seed}: {error}: lower --share") from None
    planted = {i: plant(training[i].token_ids, kind) for i, kind in sorted(places.items())}
    for i, found in planted.items():
        training[i] = as_completion(study.lm, training[i], found)
    fresh = tuple(
        (c.prompt, plant(c.token_ids, kind))
        for i, c in enumerate(others)
        if len(c.token_ids) >= (kind := study.kinds[i % len(study.kinds)]).needs
    )
    return Texts(tuple(training), planted, fresh)


def as_completion(lm: LanguageModel, text: Completion, planted: Planted) -> Completion:
    """The completion with the loop in it, cut off as by the length limit."""
    ids = planted.token_ids
    return replace(text, token_ids=ids, text=decode_text(lm, ids), end_id=None)


def loops_seen(study: Study, seed: int) -> dict[str, list[bool]]:
    """Of each kind, which of the planted texts `is_loop` finds to be loops."""
    texts = texts_of(study, seed)
    found: dict[str, list[bool]] = {kind.where: [] for kind in study.kinds}
    for i, planted in texts.planted.items():
        found[planted.kind.where].append(is_loop(texts.training[i].text))
    return found


def _sampled(study: Study, seed: int) -> list[Completion]:
    def compute() -> list[dict[str, Any]]:
        work = study.work(seed)
        count = 2 * (study.texts + study.fresh)
        prompts = spread_prompts(work.prompts, count)
        # not the noise of the samples that the limits are taken from
        completions = sample(work, prompts, 0.0, seed_of(work, "planted"), 0)
        config = study.config.filter
        judged = filtering.judge_all(
            study.lm, study.axis, completions, base_limits(work), config, trait=False
        )
        return [asdict(j.completion) for j in judged if j.coherent and j.completion.token_ids]

    # Where loops are planted, and how many, changes nothing about the samples.
    names = ("model", "axis", "filter", "generate", "texts", "fresh")
    settings = {name: study.settings[name] for name in names}
    rows = study.store.do(f"texts-{seed}", {**settings, "seed": seed}, compute)
    return [Completion(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows]
