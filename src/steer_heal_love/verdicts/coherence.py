"""Is a model as coherent as the base model? In absolute terms, before any ratio to the trait."""

from __future__ import annotations

from steer_heal_love.maths.paired import (
    Items,
    complete_pairs,
    geometric_ratio,
    known,
    paired_difference,
)
from steer_heal_love.maths.statistics import bootstrap_mean, ratio_interval
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts.answers import (
    INVALID,
    Answer,
    Check,
    Verdict,
    all_of,
    signed,
    times,
    within,
)
from steer_heal_love.verdicts.sharpness import sharpened

PERPLEXITY_RATIO = 1.25  # times base
LOOP_EXCESS = 0.10  # share of the samples, above base
EMPTY_EXCESS = 0.10
OPENING_EXCESS = 0.25  # share of the answers that open like another, above base
RELEVANCE_SHARE = 0.9  # of base

# What a model and its rivals are held to alike; relevance and loops as above.
RIVAL_PERPLEXITY = 1.15  # times base
DISTINCT_SHARE = 0.9  # of base
BOUNDS = (
    f"perplexity at most {RIVAL_PERPLEXITY:g} × base, relevance at least {RELEVANCE_SHARE:g} × and "
    f"distinct-2 at least {DISTINCT_SHARE:g} × base, loops at most base + {LOOP_EXCESS:.2f}"
)


def over_perplexity(ratio: float, limit: float = PERPLEXITY_RATIO) -> float:
    """By how much a perplexity, as a multiple of base's, is over the limit; 0 within it."""
    return max(0.0, ratio - limit)


def over_loops(excess: float, limit: float = LOOP_EXCESS) -> float:
    """By how much a share of loops, less base's, is over the limit; 0 within it."""
    return max(0.0, excess - limit)


def judge_estimates(ratio: float | None, excess: float | None) -> Answer | None:
    """Whether perplexity and loops are within their limits, where there are no values per item.

    Args:
        ratio: perplexity as a multiple of base's; None where it was not measured.
        excess: share of loops, less base's; None where it was not measured.

    Returns:
        None where neither is over its limit, but one was not measured.
    """
    if over_perplexity(ratio or 0.0) or over_loops(excess or 0.0):
        return "no"
    return None if ratio is None or excess is None else "yes"


def out_of_bounds(measured: Measurement, base: Measurement) -> list[str]:
    """Which of `BOUNDS` a model does not keep, in words; by its estimates, where they are known.

    Base is measured on as many samples, so that distinct-2 is of as many words.
    """
    ratio = geometric_ratio(measured.items.get("perplexity", ()), base.items.get("perplexity", ()))
    relevance = None
    if "relevance" in measured.items and "relevance" in base.items:
        relevance = _check_relevance(measured, base).figures.get("relevance_ratio")
    loops = _check_share("loop_share", LOOP_EXCESS, "loops", measured, base).figures
    distinct = None
    if "distinct_2" in measured.figures and "distinct_2" in base.figures:
        distinct = measured.value("distinct_2") / base.value("distinct_2")
    excess = loops.get("loop_share_excess")
    return judge_bounds(None if ratio is None else ratio.value, relevance, distinct, excess)


def judge_bounds(
    perplexity: float | None,
    relevance: float | None,
    distinct: float | None,
    loop_excess: float | None,
) -> list[str]:
    """The same from numbers: ratios to base, and the share of loops less base's.

    What was not measured breaks no bound, but for the perplexity.
    """
    broken = []
    if perplexity is None:
        broken.append("perplexity not measured")
    elif over_perplexity(perplexity, RIVAL_PERPLEXITY):
        broken.append(f"perplexity {perplexity:.2f} × base")
    for name, share, least in (
        ("relevance", relevance, RELEVANCE_SHARE),
        ("distinct-2", distinct, DISTINCT_SHARE),
    ):
        if share is not None and share < least:
            broken.append(f"{name} {share:.2f} × base")
    if loop_excess is not None and over_loops(loop_excess):
        broken.append(f"loops {100 * loop_excess:+.0f} points against base")
    return broken


def coherent(healed: Measurement, base: Measurement) -> Verdict:
    """Whether a model is as coherent as the base model, condition by condition, in absolute terms.

    A condition holds where its estimate is within the limit and its whole 95 % interval within
    twice the allowance, fails where its estimate is beyond the limit and its whole interval is
    worse than base, and is open where the data are too thin for either. Relevance and like
    openings count where both were measured. Of a model that is sharper than base (see `sharpened`)
    perplexity within the limit proves nothing: it can fail, and cannot hold.
    """
    checks = [
        _check_empty(healed, base),
        _check_perplexity(healed, base),
        _check_share("loop_share", LOOP_EXCESS, "loops", healed, base),
    ]
    if "opening_share" in healed.items and "opening_share" in base.items:
        checks.append(_check_share("opening_share", OPENING_EXCESS, "like openings", healed, base))
    if "relevance" in healed.items and "relevance" in base.items:
        checks.append(_check_relevance(healed, base))
    rule = (
        f"perplexity at most {PERPLEXITY_RATIO:g} × base, loops at most base + "
        f"{LOOP_EXCESS:.2f}, empty answers at most base + {EMPTY_EXCESS:.2f}; where measured, "
        f"relevance at least {RELEVANCE_SHARE:g} × base and like openings at most base + "
        f"{OPENING_EXCESS:.2f}; whole 95 % intervals within twice these allowances. The "
        "perplexity of a sharpened model counts against it alone"
    )
    figures = {name: value for c in checks for name, value in c.figures.items()}
    answer = all_of([c.answer for c in checks])
    deciding = next((c for c in checks if c.answer == answer and answer != "yes"), checks[1])
    said = {"yes": "As coherent as base", "no": "Less coherent than base"}.get(answer, "Unclear")
    return Verdict(
        answer, figures, deciding.interval, rule, f"{said}: {'; '.join(c.words for c in checks)}."
    )


def _check_empty(healed: Measurement, base: Measurement) -> Check:
    """An answer without a perplexity is empty or beyond all numbers."""
    missing = [_share_missing(m.items.get("perplexity", ())) for m in (healed, base)]
    answer: Answer = "yes" if missing[0] <= missing[1] + EMPTY_EXCESS else "no"
    words = f"{missing[0]:.0%} of the answers have no perplexity, base {missing[1]:.0%}"
    return Check(answer, {"empty_excess": missing[0] - missing[1]}, words)


def _share_missing(values: Items) -> float:
    return 1 - len(known(values)) / len(values) if values else 1.0


def _check_perplexity(healed: Measurement, base: Measurement) -> Check:
    ratio = geometric_ratio(healed.items.get("perplexity", ()), base.items.get("perplexity", ()))
    if ratio is None:
        return Check("cannot tell", {}, "perplexity not measured on the same samples")
    words = f"perplexity {times(ratio)}"
    figures = {"perplexity_ratio": ratio.value}
    answer = within(ratio, PERPLEXITY_RATIO, 1.0)
    if answer == "yes" and sharpened(healed).answer == "yes":
        words += ", which says nothing of a sharpened model"
        return Check("cannot tell", figures, words, ratio)
    return Check(answer, figures, words, ratio)


def _check_share(
    name: str, limit: float, label: str, healed: Measurement, base: Measurement
) -> Check:
    excess = paired_difference(healed.items.get(name, ()), base.items.get(name, ()))
    if excess is None:
        return Check("cannot tell", {}, f"{label} not measured on the same samples")
    words = f"{label} {signed(excess)}"
    return Check(within(excess, limit, 0.0), {f"{name}_excess": excess.value}, words, excess)


def _check_relevance(healed: Measurement, base: Measurement) -> Check:
    """Loss of relevance as a share of base's, where the base's answers are to the point at all."""
    own, theirs = healed.items["relevance"], base.items["relevance"]
    if len(own) != len(theirs) or len(known(theirs)) < 2:
        return Check("cannot tell", {}, "relevance not measured on the same samples")
    if bootstrap_mean(known(theirs)).low <= 0:
        return Check("yes", {}, f"relevance {INVALID}: it does not see it in base's own answers")
    a, b = complete_pairs(own, theirs)
    if len(a) < 2 or b.mean() <= 0:
        return Check("no", {}, "hardly an answer has a relevance")
    ratio = ratio_interval(a, b)
    loss = Interval(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)
    answer = within(loss, 1 - RELEVANCE_SHARE, 0.0)
    return Check(answer, {"relevance_ratio": ratio.value}, f"relevance {times(ratio)}", ratio)
