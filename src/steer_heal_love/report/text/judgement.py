"""The verdicts on a run, from its directory alone."""

from __future__ import annotations

from steer_heal_love.maths.paired import known
from steer_heal_love.records import Baseline, Measurement
from steer_heal_love.report.states import Round, parse_run, read_mapping
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import LEFT_OVER, RoundEvidence, Verdict, all_verdicts

_CONDITIONS = ("base", "prompt_pos", "prompt_neg")


def judge_run(view: RunView) -> dict[str, Verdict]:
    """Every verdict that the values per item reach to; none where the baseline is not measured.

    Steering over a grid of doses is not in the directory, so only `metrics.json` can say whether a
    run beats it.

    Raises:
        RunError: a file of the run is broken.
    """
    items = view.items()
    if not set(_CONDITIONS) <= set(items):
        return {}
    base, pos, neg = (
        Measurement({}, {name: tuple(values) for name, values in items[condition].items()})
        for condition in _CONDITIONS
    )
    evidence = [
        _evidence_of(view, round_, round_.healed.measured)
        for round_ in parse_run(view).rounds
        if round_.healed is not None and round_.healed.measured.items
    ]
    return all_verdicts(Baseline(base, pos, neg), evidence, foundations=view.axis.foundations)


def _evidence_of(view: RunView, round_: Round, healed: Measurement) -> RoundEvidence:
    """What the verdicts need to know of a finished round."""
    rows, steered = view.completions(round_.number), round_.steered
    kept = [read_mapping(row.get("scores")) for row in rows if row.get("kept")]
    return RoundEvidence(
        steered=steered.measured if steered and steered.measured.items else None,
        healed=healed,
        cosine_first=round_.cosine_first,
        passed=sum(not set(row.get("reasons", ())) - LEFT_OVER for row in rows),
        total=len(rows),
        kept_perplexity=tuple(known([s.get("perplexity") for s in kept])),
        kept_persona_nats=tuple(known([s.get("trait_nats") for s in kept])),
    )
