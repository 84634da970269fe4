"""From seven probabilities per vignette to a profile of moral foundations, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from steer_heal_love.errors import DivergedError
from steer_heal_love.inputs.vignettes import FOUNDATIONS, Vignette
from steer_heal_love.maths.statistics import (
    bootstrap_mean,
    bootstrap_statistic,
    informedness,
    proportion_interval,
)
from steer_heal_love.records import Interval, Measurement

RESAMPLES = 500  # of the statistics that are no mean: each resample is slow
FLOOR = 1e-12  # below which a probability counts as this in the cross-entropy


def profile_measurement(
    vignettes: Sequence[Vignette],
    p: Float[np.ndarray, "vignettes 7"],
    p_ans_any: Float[np.ndarray, " vignettes"] | None,
) -> Measurement:
    """Figures and values per vignette of answers to a choice among the seven foundations.

    Figures, each with its 95 % bootstrap interval over the vignettes:

    - `p_<foundation>`: mean p. The seven sum to 1.
    - `<foundation>_nats`: log(mean p), nats.
    - `p_ans_any`: mean mass of the full vocabulary on the seven answers; falls with coherence.
    - `top1_accuracy`: share of vignettes whose likeliest answer is the label; chance is 1/7.
    - `informedness`: macro Youden's J of the likeliest answers against the labels; chance is 0.
    - `soft_nll`: cross-entropy of the human shares h, `mean of −Σ_f h_f log p_f`, nats.
    - `human_<foundation>`: mean human share, to compare the profile with.
    - `unscorable_share`: vignettes without a reading, which all other figures leave out.

    The label is what most people chose, or what the vignette was written for where there are no
    human shares; `soft_nll` and `human_…` need the shares. Items have the figures' names, and
    `top1` is the likeliest answer's place in `FOUNDATIONS`.

    Args:
        p: rows of NaN where the vignette could not be read.
        p_ans_any: None where it is not known.

    Raises:
        DivergedError: not one vignette could be read.
    """
    read = np.isfinite(p).all(1)
    if not bool(read.any()):
        raise DivergedError(
            "forced choice: no vignette could be read (the probabilities are NaN): the model is "
            "broken; lower the dose, or use float32"
        )
    columns = _columns(vignettes, p, p_ans_any)
    items = {
        name: tuple(
            float(v) if ok and math.isfinite(v) else None
            for v, ok in zip(values, read, strict=True)
        )
        for name, values in columns.items()
    }
    figures = {
        name: bootstrap_mean([v for v in values if v is not None])
        for name, values in items.items()
        if name != "top1" and any(v is not None for v in values)
    }
    figures |= {f"{f}_nats": _log(figures[f"p_{f}"]) for f in FOUNDATIONS}
    figures["unscorable_share"] = proportion_interval(int((~read).sum()), len(read))
    labels = [FOUNDATIONS.index(v.label) for v in vignettes]
    kept = [(t, int(k)) for t, k in zip(labels, items["top1"], strict=True) if k is not None]
    if len({true for true, _ in kept}) > 1:
        figures["informedness"] = _informedness(kept)
    return Measurement(figures, items)


def _columns(
    vignettes: Sequence[Vignette],
    p: Float[np.ndarray, "vignettes 7"],
    p_ans_any: Float[np.ndarray, " vignettes"] | None,
) -> dict[str, Float[np.ndarray, " vignettes"]]:
    """One value per vignette of everything that is averaged; NaN where there is none."""
    nothing = [math.nan] * len(FOUNDATIONS)
    human = np.array([v.human or nothing for v in vignettes])
    top1 = np.array([int(row.argmax()) for row in p], dtype=np.float64)
    labels = np.array([FOUNDATIONS.index(v.label) for v in vignettes])
    columns = {f"p_{f}": p[:, i] for i, f in enumerate(FOUNDATIONS)}
    columns["top1"] = top1
    columns["top1_accuracy"] = (top1 == labels).astype(np.float64)
    columns["soft_nll"] = -(human * np.log(np.clip(p, FLOOR, 1))).sum(1)
    columns |= {f"human_{f}": human[:, i] for i, f in enumerate(FOUNDATIONS)}
    if p_ans_any is not None:
        columns["p_ans_any"] = p_ans_any
    return columns


def _log(interval: Interval) -> Interval:
    """The logarithm of a mean probability: monotone, so the bounds are the bounds' logarithms."""
    value, low, high = (
        math.log(x) if x > 0 else -math.inf for x in (interval.value, interval.low, interval.high)
    )
    return Interval(value, low, high)


def _informedness(pairs: Sequence[tuple[int, int]]) -> Interval:
    """Macro informedness of (label, likeliest answer) pairs."""
    classes = range(len(FOUNDATIONS))

    def statistic(rows: np.ndarray) -> float:
        true, predicted = rows.astype(int).T.tolist()
        # A resample of a tiny set may hold one class only, where there is nothing to tell apart.
        return informedness(true, predicted, classes) if len(set(true)) > 1 else math.nan

    return bootstrap_statistic(np.array(pairs, dtype=np.float64), statistic, resamples=RESAMPLES)
