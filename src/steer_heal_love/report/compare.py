"""Several runs beside one another, from their directories alone: terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steer_heal_love.errors import RunError
from steer_heal_love.maths.paired import median_ratio
from steer_heal_love.records import Interval
from steer_heal_love.report.escape import escape_csv, escape_markdown
from steer_heal_love.report.judgement import judge_run
from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    TRAIT,
    Figure,
    last_healed,
    paired_shift,
    read_figure,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.report.words import number, one_line, percent, signed
from steer_heal_love.runs import RunView, write_text

BARRIER = ("aggregate", "divergence", "reference", "lam", "tau")
STOPPING = {"max_perplexity_ratio", "max_loop_excess"}  # when a run ends, not what it measures
SAMPLING = ("temperature", "top_k", "top_p")
VERDICTS = {
    "valid.trait_nats": "trait valid",
    "q0_filter": "Q0 filters",
    "q1_heal": "Q1 heals",
    "q2_stay_coherent": "Q2 stays coherent",
    "q3_keep_moving": "Q3 keeps moving",
    "beats_prompting": "beats prompting",
    "beats_steering": "beats steering",
}
NOTE = (
    "Trait in nats per token, perplexity as a multiple of the base model's over the same samples, "
    "brackets 95 % intervals; all figures are of the last healed round. Nothing rests on a trait "
    "instrument that is not valid on the model."
)


@dataclass(frozen=True)
class RunRow:
    """What a comparison says of one run; None and "–" where the run did not get that far."""

    name: str
    model: str
    axis: str
    seed: str
    barrier: Mapping[str, str]
    rounds: int
    dose: float | None
    trait_base: Figure | None
    trait_healed: Figure | None
    shift: Interval | None
    perplexity_ratio: Interval | None
    loops_base: Figure | None
    loops_healed: Figure | None
    verdicts: Mapping[str, str]
    wall_s: float | None


def compare_runs(views: Sequence[RunView], *, force: bool = False) -> list[RunRow]:
    """A row per run, in the order given.

    Raises:
        RunError: the runs were measured on different items (unless `force`), or one is broken.
    """
    differing = differences(views)
    if differing and not force:
        raise RunError(
            f"these runs were not measured on the same items ({'; '.join(differing)}): absolute "
            "values change with the items, so compare like with like, or add --force"
        )
    short = [view.path.resolve().name for view in views]
    names = [
        name if short.count(name) == 1 else str(view.path)
        for name, view in zip(short, views, strict=True)
    ]
    return [row_of(view, name) for view, name in zip(views, names, strict=True)]


def differences(views: Sequence[RunView]) -> list[str]:
    """What keeps the runs from being compared, in words; empty where nothing does."""
    found = []
    for what in _measured_on(views[0]) if views else ():
        odd = [v for v in views if _measured_on(v)[what] != _measured_on(views[0])[what]]
        if odd:
            names = ", ".join(one_line(v.path.name) for v in odd)
            found.append(f"{what}: {names} differs from {one_line(views[0].path.name)}")
    return found


def _measured_on(view: RunView) -> dict[str, Any]:
    settings = read_mapping(view.config.get("evaluate"))
    generate = read_mapping(view.config.get("generate"))
    return {
        "model": (view.config.get("model"), view.metrics.get("model")),
        "axis pairs": view.axis.pairs,
        "axis probes": view.axis.probes,
        "evaluate settings": {k: v for k, v in settings.items() if k not in STOPPING},
        "sampling": [generate.get(k) for k in SAMPLING],
    }


def row_of(view: RunView, name: str) -> RunRow:
    """What a comparison says of this run."""
    metrics, items, rounds = view.metrics, view.items(), read_rounds(view.metrics)
    base, last = metrics.get("base"), last_healed(metrics)
    healed = last.measurement if last else None
    perplexities = [items.get(c, {}).get(PERPLEXITY, []) for c in ("healed", "base")]
    heal = read_mapping(view.config.get("heal"))
    wall = [read_number(s) for r in rounds for s in read_mapping(r.get("wall_s")).values()]
    return RunRow(
        name=name,
        model=one_line(metrics.get("model") or view.config.get("model")),
        axis=one_line(metrics.get("axis") or view.axis.name),
        seed=number(view.config.get("seed"), 0),
        barrier={key: _plain(heal.get(key)) for key in BARRIER},
        rounds=len(rounds),
        dose=read_number(rounds[-1].get("dose")) if rounds else None,
        trait_base=read_figure(base, TRAIT),
        trait_healed=read_figure(healed, TRAIT),
        shift=paired_shift(items, "base", "healed"),
        perplexity_ratio=median_ratio(*perplexities),
        loops_base=read_figure(base, LOOPS),
        loops_healed=read_figure(healed, LOOPS),
        verdicts=_answers(view),
        wall_s=sum(s for s in wall if s is not None) if wall else None,
    )


def _answers(view: RunView) -> dict[str, str]:
    """The answers that the run holds, else those that its items reach to."""
    stored = read_mapping(view.metrics.get("verdicts"))
    if stored:
        return {k: one_line(read_mapping(stored.get(k)).get("answer"), "–") for k in VERDICTS}
    judged = judge_run(view)
    return {k: judged[k].answer if k in judged else "–" for k in VERDICTS}


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else one_line(value, "–")


def cells(row: RunRow) -> dict[str, str]:
    """The row in words, by column."""
    b = row.barrier
    return {
        "run": one_line(row.name),
        "model": row.model,
        "axis": row.axis,
        "seed": row.seed,
        "barrier": f"{b['aggregate']} {b['divergence']} KL to {b['reference']}, "
        f"λ {b['lam']}, τ {b['tau']}",
        "rounds": str(row.rounds),
        "last dose κ": number(row.dose),
        "trait, base": _figure(row.trait_base, signed),
        "trait, healed": _figure(row.trait_healed, signed),
        "paired shift": _interval(row.shift, signed),
        "perplexity × base": _interval(row.perplexity_ratio, "{:.2f}".format),
        "loops, base": _figure(row.loops_base, percent),
        "loops, healed": _figure(row.loops_healed, percent),
        **{label: row.verdicts[key] for key, label in VERDICTS.items()},
        "wall time": "–" if row.wall_s is None else _time(row.wall_s),
    }


def _figure(figure: Figure | None, words: Callable[[float], str]) -> str:
    if figure is None:
        return "–"
    bounds = figure.interval
    return _bracket(words(figure.value), words, *bounds) if bounds else words(figure.value)


def _interval(interval: Interval | None, words: Callable[[float], str]) -> str:
    if interval is None:
        return "–"
    return _bracket(words(interval.value), words, interval.low, interval.high)


def _bracket(value: str, words: Callable[[float], str], low: float, high: float) -> str:
    return f"{value} ({words(low)} to {words(high)})"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def comparison_table(rows: Sequence[RunRow]) -> Table:
    """A column per run, which leaves room for the intervals in a terminal."""
    columns = [cells(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, caption=NOTE, caption_justify="left")
    table.add_column("run")
    for column in columns:
        table.add_column(Text(column["run"]), overflow="fold")
    for label in list(columns[0])[1:] if columns else []:
        table.add_row(label, *(Text(column[label]) for column in columns))
    return table


def comparison_markdown(rows: Sequence[RunRow], warnings: Sequence[str] = ()) -> str:
    """A table with a row per run."""
    table = [cells(row) for row in rows]
    labels = list(table[0])
    lines = [labels, ["---"] * len(labels)]
    lines += [[escape_markdown(row[label]) for label in labels] for row in table]
    said = [f"**Not measured on the same items:** {escape_markdown(w)}." for w in warnings]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["# Comparison of runs", *said, body, NOTE]) + "\n"


def comparison_csv(rows: Sequence[RunRow]) -> str:
    """A row per run, numbers as numbers; text that no spreadsheet takes for a formula."""
    table = [_csv_row(row) for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _csv_row(row: RunRow) -> dict[str, str | int | float | None]:
    texts = {"run": row.name, "model": row.model, "axis": row.axis, "seed": row.seed, **row.barrier}
    found: dict[str, str | int | float | None] = {k: escape_csv(v) for k, v in texts.items()}
    found |= {"rounds": row.rounds, "last_dose": row.dose}
    for name in ("trait_base", "trait_healed", "loops_base", "loops_healed"):
        figure: Figure | None = getattr(row, name)
        low, high = (figure.interval if figure else None) or (None, None)
        value = figure.value if figure else None
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    for name in ("shift", "perplexity_ratio"):
        interval: Interval | None = getattr(row, name)
        found |= {
            name: interval.value if interval else None,
            f"{name}_low": interval.low if interval else None,
            f"{name}_high": interval.high if interval else None,
        }
    found |= {key: escape_csv(answer) for key, answer in row.verdicts.items()}
    return {**found, "wall_s": row.wall_s}


def write_comparison(
    rows: Sequence[RunRow], stem: Path, warnings: Sequence[str] = ()
) -> list[Path]:
    """Write STEM.md and STEM.csv; what is there is replaced.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    files = {".md": comparison_markdown(rows, warnings), ".csv": comparison_csv(rows)}
    written = []
    for suffix, text in files.items():
        path = stem.with_name(stem.name + suffix)
        write_text(path, text)
        written.append(path)
    return written
