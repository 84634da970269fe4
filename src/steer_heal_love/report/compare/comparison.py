"""The rows of a comparison as terminal tables, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from steer_heal_love.records import Interval
from steer_heal_love.report.compare.compare import notes
from steer_heal_love.report.compare.run_row import FIGURES, MISSING, VERDICTS, RunRow
from steer_heal_love.report.escape import escape_csv, escape_markdown
from steer_heal_love.report.text.words import number, percent, signed
from steer_heal_love.runs.files import write_text

LABEL_WIDTH = 23  # of the column of labels, with its margins
RUN_WIDTH = 25  # of a run's column, with its margin: a figure with its interval
_MARGIN = 3


def cells(row: RunRow) -> dict[str, str]:
    """The row in words, by column."""
    return {
        "run": row.name,
        "model": row.model,
        "axis": row.axis,
        "seed": row.seed,
        "barrier": _barrier(row),
        "rounds": row.rounds,
        "last dose κ": number(row.dose),
        "trait, base": _trait(row, "trait_base"),
        "trait, healed": _trait(row, "trait_healed"),
        "paired shift": _trait(row, "shift"),
        "raw trait, healed": _trait(row, "trait_raw_healed"),
        "T*": _ratio(row, "temperature_match"),
        "entropy − base": _figure(row.figures.get("entropy_shift"), signed),
        "H, healed": _ratio(row, "entropy_own"),
        "KL to base": _ratio(row, "kl"),
        "trait per root KL": _trait(row, "trait_per_sqrt_kl"),
        "perplexity × base": _ratio(row, "perplexity_ratio"),
        "loops, base": _figure(row.figures.get("loops_base"), percent),
        "loops, healed": _figure(row.figures.get("loops_healed"), percent),
        "sft shift": _trait(row, "sft_shift"),
        "sft perplexity ×": _ratio(row, "sft_perplexity_ratio"),
        "arith. shift": _trait(row, "arithmetic_shift"),
        "arith. perplexity ×": _ratio(row, "arithmetic_perplexity_ratio"),
        "best rival lead": _trait(row, "rival_lead"),
        **{label: row.verdicts[key] for key, label in VERDICTS.items()},
        "vignettes": _profile(row),
        "wall time": MISSING if row.wall_s is None else _time(row.wall_s),
    }


_ENTROPY = (
    "raw trait", "T*", "entropy", "H, healed", "KL to base", "trait per root KL", "sharpened",
    "flattened",
)  # fmt: skip


def table_of(rows: Sequence[RunRow]) -> list[dict[str, str]]:
    """The cells of all rows by label, without the columns that not all runs have and none has."""
    table = [cells(row) for row in rows]
    optional = ("sft ", "arith. ", "best rival lead", "vignettes", *_ENTROPY)
    bare = {
        label
        for label in (table[0] if table else ())
        if label.startswith(optional) and all(row[label] == MISSING for row in table)
    }
    return [{k: v for k, v in row.items() if k not in bare} for row in table]


def _barrier(row: RunRow) -> str:
    b = row.barrier
    barrier = f"{b['aggregate']} {b['divergence']} KL to {b['reference']}"
    return f"{barrier}, λ {b['lam']}, τ {b['tau']}"


def _trait(row: RunRow, name: str) -> str:
    """A figure of the trait, with its mark where the instrument is not valid."""
    words = _figure(row.figures.get(name), signed)
    return f"{words}; {row.trait_mark}" if row.trait_mark and words != MISSING else words


def _ratio(row: RunRow, name: str) -> str:
    return _figure(row.figures.get(name), "{:.2f}".format)


def _profile(row: RunRow) -> str:
    """The axis's moral foundations in nats, base → healed, with their mark."""
    said = [
        f"{f.name} {signed(f.base.value)} → {signed(f.healed.value) if f.healed else MISSING}"
        for f in row.profile
    ]
    if not said:
        return MISSING
    return "; ".join([*said, *([row.profile_mark] if row.profile_mark else [])])


def _figure(figure: Interval | None, words: Callable[[float], str]) -> str:
    if figure is None:
        return MISSING
    if figure.bounds is None:
        return words(figure.value)
    return f"{words(figure.value)} ({words(figure.low)} to {words(figure.high)})"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def comparison_table(rows: Sequence[RunRow], width: int = 100) -> Group:
    """A column per run, as many side by side as fit the width, the rest in further tables below."""
    columns = table_of(rows)
    beside = max(1, (width - LABEL_WIDTH) // RUN_WIDTH)
    parts = [columns[i : i + beside] for i in range(0, len(columns), beside)]
    return Group(*(_part(part, width) for part in parts), Text(notes(rows), style="italic"))


def _part(columns: Sequence[dict[str, str]], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    room = max(RUN_WIDTH, (width - LABEL_WIDTH) // len(columns)) - _MARGIN
    for column in columns:
        table.add_column(Text(_stacked(column["run"])), overflow="fold", max_width=room)
    for label in list(columns[0])[1:]:
        table.add_row(label, *(Text(_stacked(column[label])) for column in columns))
    return table


def _stacked(cell: str) -> str:
    """A cell for a narrow column: marks and names on lines of their own."""
    return cell.replace("; ", "\n").replace(" seeds: ", " seeds:\n")


def comparison_markdown(rows: Sequence[RunRow], warnings: Sequence[str] = ()) -> str:
    """A table with a row per run."""
    table = table_of(rows)
    labels = list(table[0])
    lines = [labels, ["---"] * len(labels)]
    lines += [[escape_markdown(row[label]) for label in labels] for row in table]
    said = [f"**Not measured on the same items:** {escape_markdown(w)}." for w in warnings]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["# Comparison of runs", *said, body, notes(rows)]) + "\n"


def comparison_csv(rows: Sequence[RunRow]) -> str:
    """A row per run, numbers as numbers; text that no spreadsheet takes for a formula.

    `intervals_over` says what every `_low` and `_high` of the row is over: items or seeds. The
    notes say "not valid on this model" where that is so.
    """
    table = [_csv_row(row) for row in rows]
    names = dict.fromkeys(name for row in table for name in row)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _csv_row(row: RunRow) -> dict[str, str | int | float | None]:
    texts = {"run": row.name, "model": row.model, "axis": row.axis, "seed": row.seed, **row.barrier}
    columns: dict[str, str | int | float | None] = {k: escape_csv(v) for k, v in texts.items()}
    columns |= {"seeds": row.seeds, "intervals_over": "seeds" if row.seeds > 1 else "items"}
    columns |= {"rounds": row.rounds, "last_dose": row.dose, "trait_note": row.trait_mark}
    for name in FIGURES:
        columns |= _csv_figure(name, row.figures.get(name))
    for f in row.profile:
        stem = escape_csv(f"{f.name}_nats")
        columns |= _csv_figure(f"{stem}_base", f.base) | _csv_figure(f"{stem}_healed", f.healed)
    columns |= {key: escape_csv(answer) for key, answer in row.verdicts.items()}
    return {**columns, "vignettes_note": row.profile_mark, "wall_s": row.wall_s}


def _csv_figure(name: str, figure: Interval | None) -> dict[str, str | int | float | None]:
    low, high = (figure.bounds if figure else None) or (None, None)
    return {name: figure.value if figure else None, f"{name}_low": low, f"{name}_high": high}


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
