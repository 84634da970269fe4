"""What a comparison says of one run, from its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steer_heal_love.records import Interval
from steer_heal_love.report.states import (
    LOOPS,
    RAW,
    TRAIT,
    Run,
    State,
    paired_shift,
    parse_run,
    read_mapping,
    read_number,
)
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.report.text.profile import Foundation, read_profile
from steer_heal_love.report.text.ratios import ratio_to_base
from steer_heal_love.report.text.sharpness import unmatched_words
from steer_heal_love.report.text.validity import mark_of, validity_answer
from steer_heal_love.report.text.words import number, one_line
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import FORCED_CHOICE, Verdict

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
    figures: Mapping[str, Interval | None]  # FIGURES, of base and the last healed round
    profile: tuple[Foundation, ...]  # of the axis's moral foundations
    trait_mark: str  # empty where the instrument is valid or was not judged
    profile_mark: str
    verdicts: Mapping[str, str]
    wall_s: float | None
    is_matched: bool  # the trait is taken at base's entropy
    is_finished: bool  # not so of a run that is still to heal a round
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
    run = parse_run(view)
    verdicts = run.verdicts or judge_run(view)
    answers: dict[str, str] = {name: verdict.answer for name, verdict in verdicts.items()}
    # In older runs each foundation was judged by itself.
    answers[f"valid.{FORCED_CHOICE}"] = validity_answer(verdicts, FORCED_CHOICE)
    heal = read_mapping(view.config.get("heal"))
    wall = [read_number(s) for r in run.rounds for s in r.costs["wall_s"].values()]
    return RunRow(
        name=name,
        model=one_line(run.model),
        axis=one_line(run.axis),
        seed=number(view.config.get("seed"), 0),
        barrier={key: _plain(heal.get(key)) for key in BARRIER},
        rounds=str(len(run.rounds)),
        dose=run.rounds[-1].dose if run.rounds else None,
        figures=_figures(run) | {"rival_lead": _lead(verdicts.get("beats_steering"))},
        profile=tuple(read_profile(run, view.axis.foundations)),
        trait_mark=mark_of(verdicts, TRAIT),
        profile_mark=mark_of(verdicts, FORCED_CHOICE),
        verdicts={k: answers.get(k) or MISSING for k in VERDICTS},
        wall_s=sum(s for s in wall if s is not None) if wall else None,
        is_matched=not unmatched_words(run),
        is_finished=run.is_finished,
    )


def _figures(run: Run) -> dict[str, Interval | None]:
    """Base, the last healed round, and the rivals of the first round's heal."""

    def figure(state: State | None, name: str) -> Interval | None:
        return None if state is None else state.figure(name)

    figures = {
        "trait_base": figure(run.base, TRAIT),
        "trait_healed": figure(run.healed, TRAIT),
        "shift": paired_shift(run.base, run.healed),
        "perplexity_ratio": ratio_to_base(run.healed, run.base),
        "loops_base": figure(run.base, LOOPS),
        "loops_healed": figure(run.healed, LOOPS),
        **{name: figure(run.healed, key) for name, key in ENTROPY_FIGURES.items()},
    }
    for rival in run.rivals:
        figures[f"{rival.condition}_shift"] = paired_shift(run.base, rival)
        figures[f"{rival.condition}_perplexity_ratio"] = ratio_to_base(rival, run.base)
    return figures


def _lead(verdict: Verdict | None) -> Interval | None:
    """The healed trait less that of the best rival without training that keeps the bounds.

    None where no rival was measured, or by an older version.
    """
    return verdict.interval if verdict is not None and "rivals_within" in verdict.figures else None


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else one_line(value, MISSING)
