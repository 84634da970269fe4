"""The verdicts on a run, from its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steer_heal_love.maths.paired import known
from steer_heal_love.records import Baseline, Measurement
from steer_heal_love.report.states import read_mapping, read_number, read_rounds
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import LEFT_OVER, RoundEvidence, Verdict, all_verdicts


def judge_run(view: RunView) -> dict[str, Verdict]:
    """Every verdict that the values per item reach to; none where the baseline is not measured.

    Steering over a grid of doses is not in the directory, so only `metrics.json` can say whether a
    run beats it.

    Raises:
        RunError: a file of the run is broken.
    """
    measured = _measurements(view.items())
    conditions = [measured.get(name) for name in ("base", "prompt_pos", "prompt_neg")]
    base, pos, neg = conditions
    if base is None or pos is None or neg is None:
        return {}
    return all_verdicts(
        Baseline(base, pos, neg), evidence_of_run(view), foundations=view.axis.foundations
    )


def evidence_of_run(view: RunView) -> list[RoundEvidence]:
    """What the verdicts need to know of each finished round, in order."""
    evidence, rounds = [], read_rounds(view.metrics)
    for index, entry in enumerate(rounds):
        until_here = replace(view, metrics={**view.metrics, "rounds": rounds[: index + 1]})
        measured = _measurements(until_here.items())
        if "healed" not in measured:
            continue
        rows = view.completions(int(entry["round"]))
        kept = [read_mapping(row.get("scores")) for row in rows if row.get("kept")]
        evidence.append(
            RoundEvidence(
                steered=measured.get("steered"),
                healed=measured["healed"],
                cosine_first=read_number(entry.get("cosine_first")) or 0.0,
                passed=sum(not set(row.get("reasons", ())) - LEFT_OVER for row in rows),
                total=len(rows),
                kept_perplexity=tuple(known([s.get("perplexity") for s in kept])),
                kept_persona_nats=tuple(known([s.get("trait_nats") for s in kept])),
            )
        )
    return evidence


def _measurements(items: Mapping[str, Any]) -> dict[str, Measurement]:
    return {
        condition: Measurement({}, {name: tuple(values) for name, values in by_name.items()})
        for condition, by_name in items.items()
    }
