"""What was found as tables: on the screen, and as Markdown beside the JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.records import Outcome, Rate, Ratio

RATES = (
    "benchmark",
    "what",
    "tokens",
    "seconds",
    "tokens/s",
    "TFLOP",
    "TFLOP/s",
    "of bf16 peak",
    "of fp32 peak",
    "GB/s read",
    "peak GiB",
)
RATIOS = ("benchmark", "what", "found", "target", "")
LEFT = 2  # columns of words
WIDTH = 160  # where the output is no terminal


def print_tables(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Both tables and the notes."""
    plain = Console()
    console = plain if plain.is_terminal else Console(width=WIDTH)
    console.print(machine_line(machine))
    for headings, rows in tables(machine, outcomes):
        table = Table(box=None)
        for i, heading in enumerate(headings):
            table.add_column(heading, justify="left" if i < LEFT else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in notes(outcomes):
        console.print(line, markup=False, highlight=False)


def markdown(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The same as a page."""
    parts = [f"# Benchmarks\n\n{machine_line(machine)}"]
    parts += [_as_markdown(headings, rows) for headings, rows in tables(machine, outcomes)]
    parts.append("\n".join(f"- {line}" for line in notes(outcomes)))
    return "\n\n".join(parts) + "\n"


def _as_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rules = ["---" if i < LEFT else "---:" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [headings, rules, *rows])


def comparison(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The comparisons alone, as Markdown."""
    headings, rows = list(tables(machine, outcomes))[-1]
    return f"{machine_line(machine)}\n\n{_as_markdown(headings, rows)}"


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine and its peaks."""
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v)
    return (
        f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gib']} GiB; matrix products: bf16 {machine['bf16_tflops']:.3g} TFLOP/s, "
        f"fp32 {machine['fp32_tflops']:.3g} TFLOP/s; copy {machine['copy_gb_per_s']:.3g} GB/s; "
        f"{packages}"
    )


def tables(
    machine: Mapping[str, Any], outcomes: Sequence[Outcome]
) -> Iterator[tuple[Sequence[str], list[tuple[str, ...]]]]:
    """Headings and rows of the two tables."""
    rates = [rate_row(machine, o.name, rate) for o in outcomes for rate in o.rates]
    yield RATES, [*rates, *(_whole(o) for o in outcomes)]
    yield RATIOS, [ratio_row(o.name, ratio) for o in outcomes for ratio in o.ratios]


def rate_row(machine: Mapping[str, Any], benchmark: str, rate: Rate) -> tuple[str, ...]:
    """Cells of one rate."""
    speed = rate.flops / rate.seconds / 1e12
    shares = [speed / machine[f"{kind}_tflops"] for kind in ("bf16", "fp32")]
    counted = rate.flops > 0
    return (
        benchmark,
        rate.name,
        f"{rate.tokens:,}",
        f"{rate.seconds:.2f}",
        f"{rate.per_second:,.0f}",
        f"{rate.flops / 1e12:.3g}" if counted else "",
        f"{speed:.3g}" if counted else "",
        *(f"{share:.0%}" if counted else "" for share in shares),
        f"{rate.bytes_read / rate.seconds / 1e9:.3g}" if rate.bytes_read else "",
        f"{rate.peak_gib:.2f}" if rate.peak_gib else "",
    )


def _whole(outcome: Outcome) -> tuple[str, ...]:
    """The row of a benchmark's whole process."""
    blanks = ("",) * (len(RATES) - 5)
    wall = f"{outcome.wall_s:.1f}"
    return (outcome.name, "whole process", "", wall, *blanks, f"{outcome.peak_gib:.2f}")


def ratio_row(benchmark: str, ratio: Ratio) -> tuple[str, ...]:
    """Cells of one ratio."""
    sign = "≥" if ratio.sense == "at least" else "≤"
    target = "" if ratio.target is None else f"{sign} {ratio.target:g}{ratio.unit}"
    met = {None: "", True: "met", False: "missed"}[ratio.met]
    return (benchmark, ratio.name, f"{ratio.value:.3g}{ratio.unit}", target, met)


def notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Every note, and why what failed did."""
    for outcome in outcomes:
        if outcome.failed is not None:
            yield f"{outcome.name}: FAILED: {outcome.failed}"
        for note in outcome.notes:
            yield f"{outcome.name}: {note}"
