"""Techniques at equal coherence: the line through a technique's doses, and where it meets a value.

Every technique has the same prompts and the same noise, so the bootstrap draws prompts, all seeds
of a prompt together, and the same prompts for every technique: a difference is a paired one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.dose.cells import Values
from steer_heal_love.maths.paired import percentile_interval, with_gaps
from steer_heal_love.records import Interval

RESAMPLES = 2000

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.int64]]

MEDIANS = {"perplexity": "perplexity", "tail": "tail"}
MEANS = {
    "trait": "persona_nats",
    "loops": "loop",
    "broken": "broken",
    "kept": "kept",
    "dropped": "dropped",
    "rewinds": "rewinds",
    "tokens": "tokens",
}


@dataclass(frozen=True)
class Line:
    """A technique's doses in ascending order with each statistic, [doses, 1 + resamples].

    Column 0 is of all prompts, the others are of the resamples.
    """

    kappas: tuple[float, ...]
    values: Mapping[str, Array]


def draw_prompts(count: int, seed: int = 0) -> Index:
    """Indices of prompts, [1 + resamples, count]: first all, then drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    return np.concatenate([np.arange(count)[None], drawn])


def line_of(cells: Mapping[float, Sequence[Values]], drawn: Index) -> Line:
    """The line through these doses, each of which has the cells of all seeds."""
    kappas = tuple(sorted(cells))
    found = {
        name: np.stack([_statistic(cells[k], key, drawn, median=True) for k in kappas])
        for name, key in MEDIANS.items()
    }
    found |= {
        name: np.stack([_statistic(cells[k], key, drawn, median=False) for k in kappas])
        for name, key in MEANS.items()
    }
    return Line(kappas, {**found, "kappa": np.array(kappas)[:, None] * np.ones(len(drawn))})


def _statistic(cells: Sequence[Values], key: str, drawn: Index, *, median: bool) -> Array:
    """Mean or median over seeds and drawn prompts; completions without a value are left out."""
    values = np.stack([with_gaps(cell[key]) for cell in cells])  # [seeds, prompts]
    chosen = values[:, drawn].transpose(1, 0, 2).reshape(len(drawn), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any value: NaN
        found: Array = np.nanmedian(chosen, 1) if median else np.nanmean(chosen, 1)
    return found


def at_value(line: Line, name: str, target: Array) -> dict[str, Array]:
    """Every statistic where `name` first rises through the target, straight between two doses.

    Perplexities are taken as logarithms. NaN where the line never does: the doses do not reach that
    far, or begin above it.
    """
    height, wanted = line.values[name], target
    if name in MEDIANS:
        height, wanted = np.log(height), np.log(target)
    below, above = height[:-1], height[1:]
    crosses = (below < wanted) & (wanted <= above)
    first = crosses.argmax(0)
    column = np.arange(height.shape[1])
    with np.errstate(all="ignore"):
        share = ((wanted - below) / (above - below))[first, column]
    share = np.where(crosses.any(0), share, np.nan)
    return _between(line, first, share)


def at_dose(line: Line, kappa: float) -> dict[str, Array]:
    """Every statistic at a dose between two that were measured; NaN outside of them."""
    kappas = np.array(line.kappas)
    first = int(np.clip(np.searchsorted(kappas, kappa) - 1, 0, len(kappas) - 2))
    share = (kappa - kappas[first]) / (kappas[first + 1] - kappas[first])
    width = line.values["kappa"].shape[1]
    inside = share if 0 <= share <= 1 else np.nan
    return _between(line, np.full(width, first), np.full(width, inside))


def _between(line: Line, first: Index, share: Array) -> dict[str, Array]:
    column = np.arange(len(first))
    found = {}
    for name, values in line.values.items():
        low, high = values[first, column], values[first + 1, column]
        if name in MEDIANS:
            found[name] = np.exp(np.log(low) + share * (np.log(high) - np.log(low)))
        else:
            found[name] = low + share * (high - low)
    return found


def interval(values: Array) -> Interval | None:
    """The estimate of all prompts with the middle 95 % of the resamples; None where there is none.

    A technique that reaches the value in few of the resamples has an interval without bounds.
    """
    if not np.isfinite(values[0]):
        return None
    return percentile_interval(float(values[0]), values[1:])
