"""The front of raw steering, trait against perplexity, and a model beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from steer_heal_love.maths.paired import Items, percentile_interval, resample, with_gaps
from steer_heal_love.records import Interval


@dataclass(frozen=True)
class FrontPoint:
    """One dose: the trait per item, and the perplexity per sample."""

    kappa: float
    trait: Items
    perplexity: Items


@dataclass(frozen=True)
class Matched:
    """A model against steering at the model's own perplexity."""

    steering: float  # the most trait that steering reaches at no more perplexity
    advantage: Interval  # the model's trait − that
    perplexity: float  # the model's
    lowest: float  # perplexities that the front spans
    highest: float

    @property
    def bracketed(self) -> bool:
        """Whether the front has doses at less and at more perplexity than the model."""
        return self.lowest <= self.perplexity <= self.highest


def match_perplexity(
    trait: Items, perplexity: Items, front: Sequence[FrontPoint], *, seed: int = 0
) -> Matched | None:
    """A model's trait against the best that steering does at no more perplexity than the model's.

    The front is the line through its points in the order of κ, straight in (mean log-perplexity,
    mean trait). Along it `S(p)` is the highest trait at a perplexity of p or less, so that a dose
    that happens to lower both is no way around the comparison. The advantage is `mean trait −
    S(perplexity)`; its 95 % interval is a percentile bootstrap that draws trait items and
    samples, each the same ones for the model and all doses. A resample whose perplexity lies below
    the whole front is held against the front's least perplexing dose; above it, against all of it.

    None where there are fewer than two doses, or the trait items are not the same ones.
    """
    points = sorted(front, key=lambda point: point.kappa)
    traits = [with_gaps(t) for t in (trait, *(p.trait for p in points))]
    samples = [with_gaps(p) for p in (perplexity, *(p.perplexity for p in points))]
    if len(points) < 2 or len({len(t) for t in traits}) > 1:
        return None
    common = np.isfinite(np.stack(traits)).all(0)
    if common.sum() < 2 or not all(np.isfinite(s).any() for s in samples):
        return None
    rng = np.random.default_rng(seed)
    items = _with_all_first(resample(int(common.sum()), rng), int(common.sum()))
    means = np.stack([t[common][items].mean(1) for t in traits])
    with np.errstate(all="ignore"):
        logs = np.stack(_log_means([np.log(s) for s in samples], rng))
    best = _best_within(logs[0], logs[1:], means[1:])
    advantage = means[0] - best
    return Matched(
        steering=float(best[0]),
        advantage=percentile_interval(float(advantage[0]), advantage[1:]),
        perplexity=math.exp(logs[0, 0]),
        lowest=math.exp(logs[1:, 0].min()),
        highest=math.exp(logs[1:, 0].max()),
    )


def _with_all_first(
    index: np.ndarray[tuple[int, int], np.dtype[np.int64]], n: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Row 0: all n items once."""
    return np.concatenate([np.arange(n)[None], index])


def _log_means(
    logs: Sequence[Float[np.ndarray, " _"]], rng: np.random.Generator
) -> list[Float[np.ndarray, " resamples"]]:
    """Mean log-perplexity per condition: of all samples first, then of each resample."""
    indices: dict[int, np.ndarray[tuple[int, int], np.dtype[np.int64]]] = {}
    means = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample of gaps alone: NaN
        for values in logs:
            n = len(values)
            if n not in indices:
                indices[n] = _with_all_first(resample(n, rng), n)
            means.append(np.nanmean(values[indices[n]], axis=1))
    return means


def _best_within(
    limit: Float[np.ndarray, " r"],
    perplexity: Float[np.ndarray, "points r"],
    trait: Float[np.ndarray, "points r"],
) -> Float[np.ndarray, " r"]:
    """The highest trait on the line through the points where the perplexity is within the limit."""
    limit = np.maximum(limit, perplexity.min(0))
    best: Float[np.ndarray, " r"] = np.where(perplexity <= limit, trait, -np.inf).max(0)
    for a, b in zip(range(len(trait) - 1), range(1, len(trait)), strict=True):
        low, high = perplexity[a], perplexity[b]
        crosses = (np.minimum(low, high) <= limit) & (limit < np.maximum(low, high))
        with np.errstate(all="ignore"):
            share = np.where(crosses, (limit - low) / (high - low), 0.0)
        at = trait[a] + share * (trait[b] - trait[a])
        best = np.where(crosses, np.maximum(best, at), best)
    return best
