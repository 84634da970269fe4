"""Several runs beside one another, from their directories alone; `comparison` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steer_heal_love.errors import RunError
from steer_heal_love.report.compare.over_seeds import seed_rows
from steer_heal_love.report.compare.run_row import RunRow, row_of
from steer_heal_love.report.states import read_mapping
from steer_heal_love.report.text.sharpness import UNMATCHED
from steer_heal_love.report.text.words import one_line
from steer_heal_love.runs.read import RunView

UNMEASURED = {"max_perplexity_ratio", "max_loop_excess", "rivals"}  # no item of a healed model
SAMPLING = ("temperature", "top_k", "top_p")
_ABSENT = "not set"


def compare_runs(views: Sequence[RunView], *, force: bool = False) -> list[RunRow]:
    """A row per run, in the order given, and after them one per group that differs by seed alone.

    Raises:
        RunError: the runs were measured on different items (unless `force`), or one is broken.
    """
    differing = differences(views)
    if differing and not force:
        raise RunError(
            f"these runs were not measured on the same items ({'; '.join(differing)}): absolute "
            "values change with the items, so compare like with like, or add --force"
        )
    rows = [row_of(view, name) for view, name in zip(views, names_of(views), strict=True)]
    return [*rows, *seed_rows(views, rows)]


def names_of(views: Sequence[RunView]) -> list[str]:
    """What the runs are called: the folders' names; whole paths where two are called the same."""
    short = [view.path.resolve().name for view in views]
    return [
        one_line(name if short.count(name) == 1 else str(view.path))
        for name, view in zip(short, views, strict=True)
    ]


def differences(views: Sequence[RunView]) -> list[str]:
    """What keeps the runs from being compared, in words; empty where nothing does."""
    problems = []
    measured = [_measured_on(view) for view in views]
    for aspect in measured[0] if measured else ():
        for view, own in zip(views[1:], measured[1:], strict=True):
            if own[aspect] != measured[0][aspect]:
                first, other = one_line(views[0].path.name), one_line(view.path.name)
                keys = _differing_keys(measured[0][aspect], own[aspect])
                problems.append(f"{aspect}: {other} differs from {first}{keys}")
    return problems


def _measured_on(view: RunView) -> dict[str, Any]:
    settings = read_mapping(view.config.get("evaluate"))
    generate = read_mapping(view.config.get("generate"))
    return {
        "model": (view.config.get("model"), view.metrics.get("model")),
        "axis pairs": view.axis.pairs,
        "axis probes": view.axis.probes,
        "evaluate settings": {k: v for k, v in settings.items() if k not in UNMEASURED},
        "sampling": {k: generate.get(k) for k in SAMPLING},
    }


def _differing_keys(first: object, other: object) -> str:
    """Which settings differ, and how; a key that an older version did not know is "not set"."""
    one, two = read_mapping(first), read_mapping(other)
    changes = [
        f"{one_line(k)} {one_line(str(two.get(k, _ABSENT)))} in place of "
        f"{one_line(str(one.get(k, _ABSENT)))}"
        for k in dict.fromkeys([*one, *two])
        if one.get(k, _ABSENT) != two.get(k, _ABSENT)
    ]
    return f" ({', '.join(changes)})" if changes else ""


def notes(rows: Sequence[RunRow]) -> str:
    """How to read the table."""
    said = _NOTE
    if any(row.figures.get(f"{rival}_shift") for row in rows for rival in ("sft", "arithmetic")):
        said += _RIVALS_NOTE
    old = [row.name for row in rows if not row.is_matched and row.seeds == 1]
    if old:
        said += (
            f" {UNMATCHED}"
            if len(old) == sum(row.seeds == 1 for row in rows)
            else (f" Of {', '.join(old)} it holds: {UNMATCHED[0].lower()}{UNMATCHED[1:]}")
        )
    if any(row.is_matched for row in rows):
        said += _ENTROPY_NOTE
    return said + (_SEEDS_NOTE if any(row.seeds > 1 for row in rows) else "")


_NOTE = (
    "Trait in nats per token, perplexity as a multiple of the base model's over the same samples. "
    "Brackets of a single run hold 95 % intervals over its items. All figures of healed are of the "
    "last round. Nothing rests on an instrument that is not valid on the model."
)
_ENTROPY_NOTE = (
    " The trait is taken at base's entropy, with the logits divided by T*; the raw trait without. "
    "H and KL, nats per token on the healed model's own answers, add up to the logarithm of "
    "perplexity: below base's it is no sign of coherence in a sharpened model."
)
_RIVALS_NOTE = (
    " sft: plain distillation of the first round's kept texts, λ = 0 and no anchors; arithmetic: "
    "the adapter learnt from positively steered texts less the one learnt from negatively steered "
    "texts."
)
_SEEDS_NOTE = (
    " “N seeds”: runs that differ by the seed alone; means of the runs' point estimates, and in "
    "brackets the 95 % interval of Student's t over the seeds, not over items (none where all "
    "agree, which says nothing of the spread); verdicts are counted; left out are unfinished runs "
    "and further runs of one seed."
)
