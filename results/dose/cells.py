"""One technique at one dose and seed: what was measured of each completion, and of answer pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from results.store import Store
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.loop.collect import base_limits, steered_as_set
from steer_heal_love.loop.context import Work, extract
from steer_heal_love.loop.dose_curve import sample_dose, spread_prompts
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.records import Axis, Ceilings, Context, Direction, Judged, Limits, NoPieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.dosing.application import DosingConfig
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values

Values = dict[str, list[float | None]]  # per completion, in the order of the prompts


@dataclass(frozen=True)
class Study:
    """The model, the axis and the settings that everything is measured under."""

    lm: LanguageModel
    axis: Axis
    contexts: Sequence[Context]
    config: RunConfig
    seeds: tuple[int, ...]
    samples: int
    store: Store

    @property
    def settings(self) -> dict[str, Any]:
        """What every stored piece depends on."""
        return {
            "model": self.lm.identity.name,
            "axis": self.axis.name,
            "samples": self.samples,
            "filter": self.config.filter.model_dump(),
            "generate": self.config.generate.model_dump(),
        }

    def work(self, seed: int, dosing: DosingConfig | None = None) -> Work:
        """The pieces of work of a run with this seed, and with this way of giving a dose."""
        config = self.config.model_copy(
            update={"seed": seed, "dosing": dosing or self.config.dosing}
        )
        ignore = lambda _stage, _done, _total: None  # noqa: E731
        return Work(self.lm, self.axis, self.contexts, config, NoPieces(), ignore)

    @cached_property
    def direction(self) -> Direction:
        """The base model's direction, which no seed changes."""
        return extract(self.work(self.seeds[0]), 0)

    def limits(self, seed: int) -> Limits:
        """The filter's limits in a run with this seed."""
        settings = {**self.settings, "seed": seed}
        found = self.store.do(
            f"limits-{seed}", settings, lambda: asdict(base_limits(self.work(seed)))
        )
        sound, fit = (
            Ceilings(**{n: math.inf if v is None else v for n, v in found[name].items()})
            for name in ("sound", "fit")
        )
        floor = found["trait_nats"]
        return Limits(sound, fit, -math.inf if floor is None else floor)


def measure_cell(study: Study, name: str, dosing: DosingConfig, kappa: float, seed: int) -> Values:
    """What was measured of each completion; the same prompts and noise whatever the technique."""

    def compute() -> Values:
        work = study.work(seed, dosing)
        prompts = spread_prompts(work.prompts, study.samples)
        limits = study.limits(seed)
        return values_of(sample_dose(work, prompts, study.direction, kappa, limits, seed))

    settings = {**study.settings, "dosing": dosing.model_dump(), "kappa": kappa, "seed": seed}
    found: Values = study.store.do(f"cells/{_slug(name)}-{kappa:g}-{seed}", settings, compute)
    return found


def values_of(judged: Sequence[Judged]) -> Values:
    """The figures of each completion as numbers."""
    texts = [j.completion for j in judged]
    return {
        "persona_nats": [j.scores.trait_nats for j in judged],
        "perplexity": [j.scores.perplexity for j in judged],
        "tail": [j.scores.tail_perplexity for j in judged],
        "loop": [float(is_loop(c.text)) for c in texts],
        "broken": [float(not j.coherent) for j in judged],
        "kept": [float(j.kept) for j in judged],
        "dropped": [float(c.dropped) for c in texts],
        "rewinds": [float(c.rewinds) for c in texts],
        "tokens": [float(c.drawn_tokens + c.watched) for c in texts],
    }


def measure_pairs(study: Study, name: str, dosing: DosingConfig, kappa: float) -> list[float]:
    """The trait of each answer pair with the direction on at this dose, nats per token."""

    def compute() -> list[float]:
        work = study.work(study.seeds[0], dosing)
        if kappa == 0:
            return answer_pair_values(study.lm, study.axis)
        with steered_as_set(work, study.direction, kappa):
            return answer_pair_values(study.lm, study.axis)

    settings = {**study.settings, "dosing": dosing.model_dump(), "kappa": kappa}
    found: list[float] = study.store.do(f"pairs/{_slug(name)}-{kappa:g}", settings, compute)
    return found


def _slug(name: str) -> str:
    return name.replace(" ", "-")
