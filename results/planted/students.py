"""Students healed behind each barrier on the base model's own samples, loops planted in some.

Steered texts, as the loop collects them, differ from the base everywhere: the trait alone would use
up much of τ. On its own samples the base model is at no distance from itself, and what exceeds that
is the loop's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from results.lines import lines_of
from results.planted.planting import KINDS, Planted, choose_places, plant
from results.planted.tables import AGGREGATES, CLEAN, matched_taus
from results.store import Store, tell
from steer_heal_love.api import heal
from steer_heal_love.budget.rows import settled
from steer_heal_love.errors import StarvedRound
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.loop.collect import base_limits, sample
from steer_heal_love.loop.context import Work, seed_of, training_prompts
from steer_heal_love.loop.dose_curve import spread_prompts
from steer_heal_love.maths.divergence import aggregate_per_sequence
from steer_heal_love.maths.head import head_losses
from steer_heal_love.records import Axis, Completion, Context, NoPieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.settings import load_config
from steer_heal_love.runs.files import write_text
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.heal import Example
from steer_heal_love.stages.healing.texts import reference_states

SEEDS = (0, 1, 2)
FRESH = 16  # planted texts besides, that no student learns from: what is learnt of loops as such


@dataclass(frozen=True, eq=False)
class Setup:
    """What every piece that is measured shares."""

    lm: LanguageModel
    axis: Axis
    contexts: Sequence[Context]
    config: RunConfig
    share: float  # of the texts that a loop is planted in
    store: Store

    @property
    def settings(self) -> dict[str, Any]:
        """What every stored piece depends on."""
        stages = {key: getattr(self.config, key).model_dump() for key in ("filter", "generate")}
        texts = {"texts": self.config.dose.n_keep, "fresh": FRESH}
        return {"model": self.lm.identity.name, "axis": self.axis.name, **stages, **texts}

    def work(self, seed: int) -> Work:
        """The pieces of work of a run with this seed."""
        config = self.config.model_copy(update={"seed": seed})
        ignore = lambda _stage, _done, _total: None  # noqa: E731
        return Work(self.lm, self.axis, self.contexts, config, NoPieces(), ignore)


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


def measure(options: argparse.Namespace) -> int:
    """The base model and every student, seed by seed, into planted.json; returns the exit code."""
    config, contexts = load_config(options.config), load_contexts()
    lm, axis = load_model(options.model), load_axis(options.axis)
    config = settled(lm, axis, training_prompts(axis, contexts, config.dose), config)
    setup = Setup(lm, axis, contexts, config, options.share, Store(options.store / "planted"))
    base = {str(seed): measure_student(setup, "base", seed, 0.0) for seed in SEEDS}
    students: list[dict[str, Any]] = []

    def heal_behind(barrier: str, tau: float) -> None:
        seeds = {str(seed): measure_student(setup, barrier, seed, tau) for seed in SEEDS}
        students.append({"barrier": barrier, "tau": tau, "seeds": seeds})
        tell(f"planted: {barrier} at τ = {tau:g}")

    for barrier in ("none", *AGGREGATES):
        heal_behind(barrier, options.tau)
    plain = list(students[0]["seeds"].values())
    for barrier, tau in matched_taus(plain, options.tau).items():
        heal_behind(barrier, tau)
    values = {
        "model": lm.identity.name,
        "texts": config.dose.n_keep,
        "share": options.share,
        "kinds": [asdict(kind) for kind in KINDS],
        "tau": options.tau,
        "default_tau": config.heal.tau,
        "environment": describe_environment(lm),
        "shown": shown_text(setup, students[: 1 + len(AGGREGATES)]),
        "base": base,
        "students": students,
    }
    for seed in (seed for s in students for seed in s["seeds"].values()):
        del seed["kl"]  # but for the text that is shown
    write_text(options.docs / "results" / "planted.json", lines_of(values, deep=4))
    return 0


@cache
def texts_of(setup: Setup, seed: int) -> Texts:
    """The base model's samples of this seed that its filter lets through, loops planted.

    Raises:
        StarvedRound: too few are, or too few of them are long enough.
    """
    kept, texts = _sampled(setup, seed), setup.config.dose.n_keep
    if len(kept) < texts + FRESH:
        passed = f"{len(kept)} texts of the base model pass the filter"
        raise StarvedRound(f"seed {seed}: {passed}, and {texts + FRESH} are wanted")
    training, others = kept[:texts], kept[texts : texts + FRESH]
    try:
        places = choose_places([len(c.token_ids) for c in training], setup.share, KINDS, seed)
    except ValueError as error:
        raise StarvedRound(f"seed {seed}: {error}: lower --share") from None
    planted = {i: plant(training[i].token_ids, kind) for i, kind in sorted(places.items())}
    for i, loop in planted.items():
        text = decode_text(setup.lm, loop.token_ids)
        training[i] = replace(training[i], token_ids=loop.token_ids, text=text, end_id=None)
    turns = [(c, KINDS[i % len(KINDS)]) for i, c in enumerate(others)]
    fresh = [(c.prompt, plant(c.token_ids, k)) for c, k in turns if len(c.token_ids) >= k.needs]
    return Texts(tuple(training), planted, tuple(fresh))


def _sampled(setup: Setup, seed: int) -> list[Completion]:
    def compute() -> list[dict[str, Any]]:
        work = setup.work(seed)
        prompts = spread_prompts(work.prompts, 2 * (setup.config.dose.n_keep + FRESH))
        # not the noise of the samples that the limits are taken from
        completions = sample(work, prompts, 0.0, seed_of(work, "planted"), 0)
        limits, config = base_limits(work), setup.config.filter
        judged = filtering.judge_all(setup.lm, setup.axis, completions, limits, config, trait=False)
        return [asdict(j.completion) for j in judged if j.coherent and j.completion.token_ids]

    rows = setup.store.do(f"texts-{seed}", {**setup.settings, "seed": seed}, compute)
    return [Completion(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows]


def measure_student(setup: Setup, barrier: str, seed: int, tau: float) -> Any:
    """What a student healed behind this barrier makes of the texts and of loops.

    Args:
        barrier: an aggregate; or none, or base for the base model, whose τ counts for nothing.
    """
    own = {"divergence": "none"} if barrier == "none" else {"aggregate": barrier, "tau": tau}
    # Nothing is held out: it is the texts that were learnt from whose divergence is looked at.
    config = setup.config.heal.model_copy(update={**own, "validation_share": 0.0})

    def compute() -> dict[str, Any]:
        texts = texts_of(setup, seed)
        if barrier == "base":
            return {"repeats": _repeats(setup.lm, texts)}
        healed = heal(setup.lm, texts.training, config, seed=seed_of(setup.work(seed), "heal", 0))
        ends = [() if c.end_id is None else (c.end_id,) for c in texts.training]
        rows = [(c.prompt, c.token_ids + e) for c, e in zip(texts.training, ends, strict=True)]
        with student(setup.lm, [healed.adapter]):
            kl = [kl for _, kl in look(setup.lm, _examples(setup.lm, rows))]
            repeats = _repeats(setup.lm, texts)
        along = [[round(v, 4) for v in kl[i]] for i in texts.planted]
        return {"divergence": _divergences(texts, kl), "kl": along, "repeats": repeats}

    kinds = [asdict(kind) for kind in KINDS]
    settings = {**setup.settings, "share": setup.share, "kinds": kinds, "heal": config.model_dump()}
    return setup.store.do(f"{barrier}-{tau:g}-{seed}", {**settings, "seed": seed}, compute)


def _examples(lm: LanguageModel, rows: Sequence[tuple[str, Sequence[int]]]) -> list[Example]:
    return [Example(tuple(encode_chat(lm, prompt)), tuple(ids)) for prompt, ids in rows]


@torch.inference_mode()
def look(lm: LanguageModel, examples: Sequence[Example]) -> list[tuple[list[float], list[float]]]:
    """Of each text, position by position: the surprise of its token, and KL(model ‖ base), nats.

    The model is looked at as it is patched now, beside the base model, as the heal sees them.
    """
    own = reference_states(lm, examples, "previous") if examples else []
    base = reference_states(lm, examples, "base") if examples else []
    values = []
    for example, hidden, reference in zip(examples, own, base, strict=True):
        targets = torch.tensor(example.completion, device=lm.device)
        nll, kl = head_losses(hidden, reference, targets, lm.head, "reverse")
        values.append((nll.tolist(), kl.tolist()))
    return values


def _divergences(texts: Texts, kl: Sequence[Sequence[float]]) -> dict[str, dict[str, list[float]]]:
    """D by each aggregate, as the barrier reckons it: of each kind, and of texts without a loop."""
    rows: dict[str, dict[str, list[float]]] = {name: {CLEAN: []} for name in AGGREGATES}
    for i, values in enumerate(kl):
        where = texts.planted[i].kind.where if i in texts.planted else CLEAN
        one = torch.zeros(len(values), dtype=torch.long)
        for name in AGGREGATES:
            d = float(aggregate_per_sequence(torch.tensor(values), one, 1, name)[0])
            rows[name].setdefault(where, []).append(d)
    return rows


def _repeats(lm: LanguageModel, texts: Texts) -> dict[str, list[list[float]]]:
    """log p of each repeat of each loop, nats per token, under the model as it is patched now."""
    said: dict[str, list[list[float]]] = {}
    for name, loops in (("learnt", texts.loops), ("fresh", texts.fresh)):
        seen = look(lm, _examples(lm, [(prompt, text.token_ids) for prompt, text in loops]))
        said[name] = [
            [-float(np.mean(nll[text.repeat(k)])) for k in range(1, text.kind.repeats + 1)]
            for (_, text), (nll, _) in zip(loops, seen, strict=True)
        ]
    return said


def shown_text(setup: Setup, students: Sequence[Any]) -> dict[str, Any]:
    """The text that the figure shows, and each student's KL along it.

    It is the one inside whose loop is seen about as well as most, by the median of D (rmse) under
    the student without a barrier.
    """
    seed, inside = SEEDS[0], KINDS[0].where
    loops = texts_of(setup, seed).loops
    places = [i for i, (_, text) in enumerate(loops) if text.kind.where == inside]
    values = students[0]["seeds"][str(seed)]["divergence"]["rmse"][inside]
    place = places[int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])]
    prompt, text = loops[place]
    return {
        "prompt": prompt,
        "tokens": [decode_text(setup.lm, [token]) for token in text.token_ids],
        "loop": [text.kind.at, text.kind.at + text.kind.loop],
        "period": text.kind.period,
        "kl": {s["barrier"]: s["seeds"][str(seed)]["kl"][place] for s in students},
    }
