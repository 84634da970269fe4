"""What the measurements say: every technique beside the constant dose, at equal coherence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results.dose.cells import Study, Values, measure_cell, measure_pairs
from results.dose.matched import Line, at_dose, at_value, draw_prompts, interval, line_of
from results.dose.techniques import BACKTRACK, CONSTANT, Technique
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Interval
from steer_heal_love.stages.dosing.application import DosingConfig

MATCHES = (1.1, 1.25, 1.5)  # of base's median perplexity
MAIN = 1.25  # the verdicts' own limit of what is as coherent as base
SHOWN = ("kappa", "trait", "perplexity", "tail", "loops", "kept", "dropped", "cost")

Figures = Mapping[str, Interval | None]


@dataclass(frozen=True)
class Matched:
    """A technique where its perplexity is a multiple of base's."""

    name: str
    factor: float
    figures: Figures  # of `SHOWN`
    against_constant: Interval | None  # its trait less the constant dose's


@dataclass(frozen=True)
class Knee:
    """Backtracking beside a constant dose, at that dose and at the dose with as much trait."""

    kappa: float
    constant: Figures
    same_dose: Figures
    same_trait: Figures
    ratio: Interval | None  # of the kept shares at the same trait


@dataclass(frozen=True)
class Comparison:
    """All techniques, as lines and at equal coherence."""

    lines: Mapping[str, Line]
    pairs: Mapping[str, Mapping[float, Interval]]
    matched: tuple[Matched, ...]
    knees: tuple[Knee, ...]  # the knee first, then the doses above it


def compare(
    study: Study,
    techniques: Sequence[Technique],
    target_keep: float,
    tell: Callable[[str], None] = lambda _what: None,
) -> Comparison:
    """Measure every cell that is missing, seed by seed, then compare.

    Args:
        tell: told of each technique that a seed is done with.
    """
    for seed in study.seeds:
        for t in techniques:
            for kappa in t.kappas:
                measure_cell(study, t.name, t.dosing, kappa, seed)
            tell(f"seed {seed}, {t.name}")
    base = _cells(study, "base", DosingConfig(), 0.0)
    measured = {
        t.name: {0.0: base} | {k: _cells(study, t.name, t.dosing, k) for k in t.kappas}
        for t in techniques
    }
    drawn = draw_prompts(study.samples)
    lines = {name: line_of(cells, drawn) for name, cells in measured.items()}
    matched = [
        _match(name, line, lines[CONSTANT.name], factor)
        for factor in MATCHES
        for name, line in lines.items()
    ]
    pairs = {t.name: _pairs(study, t) for t in techniques if not t.dosing.follows}
    return Comparison(lines, pairs, tuple(matched), find_knees(lines, target_keep))


def _cells(study: Study, name: str, dosing: DosingConfig, kappa: float) -> list[Values]:
    return [measure_cell(study, name, dosing, kappa, seed) for seed in study.seeds]


def _pairs(study: Study, technique: Technique) -> dict[float, Interval]:
    return {
        kappa: bootstrap_mean(measure_pairs(study, technique.name, technique.dosing, kappa))
        for kappa in (0.0, *technique.kappas)
    }


def _match(name: str, line: Line, constant: Line, factor: float) -> Matched:
    target = factor * line.values["perplexity"][0]  # κ = 0: base, in each resample its own
    there = at_value(line, "perplexity", target)
    plain = at_value(constant, "perplexity", target)
    return Matched(name, factor, _figures(there), interval(there["trait"] - plain["trait"]))


def _figures(values: Mapping[str, np.ndarray]) -> dict[str, Interval | None]:
    with np.errstate(all="ignore"):
        cost = values["tokens"] / values["kept"]
    every = {**values, "cost": np.where(np.isfinite(cost), cost, np.nan)}
    return {name: interval(every[name]) for name in SHOWN}


def find_knees(lines: Mapping[str, Line], target_keep: float) -> tuple[Knee, ...]:
    """The knee, and then each constant dose above it that was measured.

    Empty where the doses do not reach the knee, or backtracking was not measured.
    """
    constant, backtrack = lines[CONSTANT.name], lines.get(BACKTRACK.name)
    limit = np.full(constant.values["broken"].shape[1], 1 - target_keep)
    knee = float(at_value(constant, "broken", limit)["kappa"][0])
    if backtrack is None or not np.isfinite(knee):
        return ()
    doses = (knee, *(k for k in constant.kappas if k > knee))
    return tuple(_beside(constant, backtrack, kappa) for kappa in doses)


def _beside(constant: Line, backtrack: Line, kappa: float) -> Knee:
    plain = at_dose(constant, kappa)
    same_trait = at_value(backtrack, "trait", plain["trait"])
    with np.errstate(all="ignore"):
        ratio = same_trait["kept"] / plain["kept"]
    return Knee(
        kappa,
        _figures(plain),
        _figures(at_dose(backtrack, kappa)),
        _figures(same_trait),
        interval(np.where(np.isfinite(ratio), ratio, np.nan)),
    )
