"""Can an axis be measured on this model? The two persona prompts must differ in it."""

from __future__ import annotations

from dataclasses import dataclass

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Axis, Interval
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from steer_heal_love.stages.instruments.foundations import Foundations, FoundationsConfig
from steer_heal_love.verdicts.answers import Verdict
from steer_heal_love.verdicts.instruments import forced_choice_validity, validity

VIGNETTE_SEED = 0


@dataclass(frozen=True)
class Validity:
    """The answer pairs under no system prompt and under each persona, nats per token."""

    base: Interval
    pos: Interval
    neg: Interval
    verdict: Verdict  # whether pos is above neg, by the paired interval over the pairs
    pair_shifts: tuple[float, ...]  # positive − negative persona prompt, of each pair
    vignettes: Verdict | None = None  # None where the axis names no foundation, or none was asked

    @property
    def blind(self) -> float:
        """Half the width of the verdict's interval: a shift much below it cannot be told."""
        interval = self.verdict.interval
        return (interval.high - interval.low) / 2 if interval else float("inf")

    def against(self) -> list[int]:
        """Indices of the pairs that go the other way, the worst first."""
        order = sorted(range(len(self.pair_shifts)), key=self.pair_shifts.__getitem__)
        return [i for i in order if self.pair_shifts[i] < 0]


def check_validity(lm: LanguageModel, axis: Axis, *, vignettes: bool = False) -> Validity:
    """Measure the answer pairs, and with `vignettes` the moral ones, under both persona prompts."""
    base, pos, neg = (
        answer_pair_values(lm, axis, s) for s in (None, axis.pos_system, axis.neg_system)
    )
    return Validity(
        base=bootstrap_mean(base),
        pos=bootstrap_mean(pos),
        neg=bootstrap_mean(neg),
        verdict=validity(pos, neg),
        pair_shifts=tuple(a - b for a, b in zip(pos, neg, strict=True)),
        vignettes=_vignettes(lm, axis) if vignettes and axis.foundations else None,
    )


def _vignettes(lm: LanguageModel, axis: Axis) -> Verdict | None:
    asked = Foundations(FoundationsConfig())
    pos, neg = (
        asked.measure(lm, system=s, seed=VIGNETTE_SEED) for s in (axis.pos_system, axis.neg_system)
    )
    return forced_choice_validity(pos, neg, axis.foundations)
