"""What a comparison says of one run, from its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steer_heal_love.records import Interval
from steer_heal_love.report.states import (
    LOOPS,
    RAW,
    TRAIT,
    Figure,
    figure_of,
    last_healed,
    paired_shift,
    read_figure,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.report.text.competing_methods import first_items, read_rivals
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.report.text.profile import Foundation, read_profile
from steer_heal_love.report.text.ratios import ratio_to_base, values_of
from steer_heal_love.report.text.sharpness import unmatched_words
from steer_heal_love.report.text.validity import mark_of, validity_answer
from steer_heal_love.report.text.words import number, one_line
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import FORCED_CHOICE, to_json

BARRIER = ("aggregate", "divergence", "reference", "lam", "tau")
VERDICTS = {
    "valid.trait_nats": "trait valid",
    "valid.persona_nats": "persona ratio valid",
    "valid.forced_choice": "vignettes valid",
    "sharpened": "sharpened",
    "flattened": "flattened",
    "q0_filter": "Q0 filters",
    "q1_heal": "Q1 heals",
    "q2_stay_coherent": "Q2 stays coherent",
    "q3_keep_moving": "Q3 keeps moving",
    "beats_prompting": "beats prompting",
    "beats_steering": "beats steering",
}
MISSING = "–"


@dataclass(frozen=True)
class RunRow:
    """What a comparison says of one run, or of several that differ by the seed alone.

    None and "–" where a run did not get that far. Intervals are over the items of a run, or over
    the point estimates of `seeds` runs.
    """

    name: str
    model: str
    axis: str
    seed: str
    barrier: Mapping[str, str]
    rounds: str
    dose: float | None  # of the last round
    figures: Mapping[str, Figure | None]  # FIGURES, of base and the last healed round
    profile: tuple[Foundation, ...]  # of the axis's moral foundations
    trait_mark: str  # empty where the instrument is valid or was not judged
    profile_mark: str
    verdicts: Mapping[str, str]
    wall_s: float | None
    is_matched: bool  # the trait is taken at base's entropy
    seeds: int = 1  # runs behind the row; their intervals are over the seeds where it is above 1


# Of the healed model alone; runs of older versions have none of them.
ENTROPY_FIGURES = {
    "trait_raw_healed": RAW,
    "temperature_match": "temperature_match",
    "entropy_shift": "entropy_shift_nats",
    "entropy_own": "entropy_own_nats",
    "kl": "kl_nats",
    "trait_per_sqrt_kl": "trait_per_sqrt_kl",
}
# Figures of a row. Shifts are paired, healed or rival − base, nats per token; ratios are × base.
FIGURES = (
    "trait_base",
    "trait_healed",
    "shift",
    "perplexity_ratio",
    "loops_base",
    "loops_healed",
    *ENTROPY_FIGURES,
    "sft_shift",
    "sft_perplexity_ratio",
    "arithmetic_shift",
    "arithmetic_perplexity_ratio",
    "rival_lead",
)


def row_of(view: RunView, name: str) -> RunRow:
    """What a comparison says of this run.

    Raises:
        RunError: a file of the run is broken.
    """
    metrics, rounds = view.metrics, read_rounds(view.metrics)
    judged = {**metrics, "verdicts": read_mapping(metrics.get("verdicts")) or _judged(view)}
    heal = read_mapping(view.config.get("heal"))
    wall = [read_number(s) for r in rounds for s in read_mapping(r.get("wall_s")).values()]
    return RunRow(
        name=name,
        model=one_line(metrics.get("model") or view.config.get("model")),
        axis=one_line(metrics.get("axis") or view.axis.name),
        seed=number(view.config.get("seed"), 0),
        barrier={key: _plain(heal.get(key)) for key in BARRIER},
        rounds=str(len(rounds)),
        dose=read_number(rounds[-1].get("dose")) if rounds else None,
        figures=_figures(view) | _rival_figures(view) | _lead(judged),
        profile=tuple(read_profile(metrics, view.axis.foundations)),
        trait_mark=mark_of(judged, TRAIT),
        profile_mark=mark_of(judged, FORCED_CHOICE),
        verdicts={k: _answer(judged, k) for k in VERDICTS},
        wall_s=sum(s for s in wall if s is not None) if wall else None,
        is_matched=not unmatched_words(metrics),
    )


def _judged(view: RunView) -> Mapping[str, Any]:
    """The verdicts that the items reach to, of a run that holds none."""
    return to_json(judge_run(view))


def _answer(judged: Mapping[str, Any], verdict: str) -> str:
    if verdict.startswith("valid."):
        return validity_answer(judged, verdict.removeprefix("valid.")) or MISSING
    return one_line(read_mapping(judged["verdicts"].get(verdict)).get("answer"), MISSING)


def _figures(view: RunView) -> dict[str, Figure | None]:
    """Base and the last healed round."""
    items, base, last = view.items(), view.metrics.get("base"), last_healed(view.metrics)
    healed = last.measurement if last else None
    own, theirs = values_of(items, "healed"), values_of(items, "base")
    return {
        "trait_base": read_figure(base, TRAIT),
        "trait_healed": read_figure(healed, TRAIT),
        "shift": _figure(paired_shift(items, "base", "healed")),
        "perplexity_ratio": ratio_to_base(healed, base, own, theirs),
        "loops_base": read_figure(base, LOOPS),
        "loops_healed": read_figure(healed, LOOPS),
        **{name: read_figure(healed, figure) for name, figure in ENTROPY_FIGURES.items()},
    }


def _rival_figures(view: RunView) -> dict[str, Figure | None]:
    """The rivals of the first round's heal."""
    figures: dict[str, Figure | None] = {}
    for rival in read_rivals(view.metrics, first_items(view)):
        figures[f"{rival.state.condition}_shift"] = _figure(rival.shift)
        figures[f"{rival.state.condition}_perplexity_ratio"] = rival.perplexity_ratio
    return figures


def _lead(judged: Mapping[str, Any]) -> dict[str, Figure | None]:
    """The healed trait less that of the best rival without training that keeps the bounds."""
    verdict = read_mapping(judged["verdicts"].get("beats_steering"))
    if "rivals_within" not in read_mapping(verdict.get("figures")):
        return {"rival_lead": None}  # nothing was measured, or by an older version
    bounds = read_mapping(verdict.get("interval"))
    value, *ends = (read_number(bounds.get(name)) for name in ("value", "low", "high"))
    if value is None:
        return {"rival_lead": None}
    low, high = ends
    return {"rival_lead": Figure(value, None if low is None or high is None else (low, high))}


def _figure(interval: Interval | None) -> Figure | None:
    return None if interval is None else figure_of(interval)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else one_line(value, MISSING)
