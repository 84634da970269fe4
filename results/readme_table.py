"""Fill the marked block of README.md with the figures of one run: `make readme-table`.

    python -m results.readme_table [RUN] [README]

Reads RUN/metrics.json (by default runs/demo) and rewrites what stands between the two markers of
`run-table`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from results.page import table, write_block
from results.say import MISSING
from steer_heal_love.records import Interval
from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    TRAIT,
    read_figure,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed

BLOCK = "run-table"
DEMO_ROUNDS = 3  # as in the Makefile

HEADINGS = [
    *(
        "condition",
        "dose κ",
        "kept / total",
        "trait at base's entropy, nats per token",
        "raw trait",
    ),
    *("T*", "perplexity", "loops", "relevance", "distinct-2", "capability"),
]
RAW, MATCH = "trait_raw_nats", "temperature_match"
OF_BASE = ("relevance", "distinct_2", "capability_perplexity")  # shown × base


def main(arguments: list[str]) -> int:
    """Read the run, rewrite the block, say so. Returns the exit code."""
    root = Path(__file__).parents[1]
    run = Path(arguments[0]) if arguments else root / "runs" / "demo"
    readme = Path(arguments[1]) if len(arguments) > 1 else root / "README.md"
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return fail(f"{run} holds no metrics.json: run `make demo` first")
    except ValueError as error:
        return fail(f"{run / 'metrics.json'} is not JSON: {error}")
    environment = read_environment(run / "environment.json")
    made_by = command(metrics, by_make=run.resolve() == (root / "runs" / "demo").resolve())
    try:
        write_block(readme, BLOCK, demo_block(metrics, environment, made_by))
    except ValueError as error:
        return fail(str(error))
    print(f"{readme}: {len(read_rounds(metrics))} rounds written")
    return 0


def fail(message: str) -> int:
    """One line on standard error."""
    print(f"readme_table: {message}", file=sys.stderr)
    return 1


def read_environment(path: Path) -> Mapping[str, Any]:
    """What the run was made with; empty where that is not known."""
    try:
        return read_mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def command(metrics: Mapping[str, Any], *, by_make: bool) -> str:
    """The command that made the run, as far as the figures tell; config.toml has every setting."""
    rounds = len(read_rounds(metrics))
    if by_make and rounds == DEMO_ROUNDS:
        return "make demo"
    return (
        f"shl run --axis {one_line(metrics.get('axis'))} --model {one_line(metrics.get('model'))} "
        f"--rounds {rounds} --seed {number(metrics.get('seed'), 0)}"
    )


def demo_block(metrics: Mapping[str, Any], environment: Mapping[str, Any], made_by: str) -> str:
    """Table and caption as Markdown."""
    return f"{table(HEADINGS, list(rows(metrics)))}\n\n{caption(metrics, environment, made_by)}"


def rows(metrics: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row for each condition, in the order in which they were measured."""
    base = metrics.get("base")
    yield row("base model", base, base)
    yield row("persona as system prompt", metrics.get("prompt_pos"), base)
    yield row("opposite persona as system prompt", metrics.get("prompt_neg"), base)
    for index, entry in enumerate(read_rounds(metrics)):
        name = f"round {number(entry.get('round', index), 0)}"
        yield row(f"{name}, steered", entry.get("steered"), base, number(entry.get("dose")))
        kept = f"{number(entry.get('kept'), 0)} / {number(entry.get('total'), 0)}"
        yield row(f"{name}, healed", entry.get("healed"), base, kept=kept)


def row(
    condition: str, measurement: object, base: object, dose: str = "", kept: str = ""
) -> list[str]:
    """The cells of one condition."""
    return [
        condition,
        dose,
        kept,
        with_interval(read_figure(measurement, TRAIT), signed),
        alone(read_figure(measurement, RAW), signed),
        alone(read_figure(measurement, MATCH), lambda t: number(t, 2)),
        with_interval(read_figure(measurement, PERPLEXITY), plain),
        with_interval(read_figure(measurement, LOOPS), percent),
        *(of_base(read_figure(measurement, name), read_figure(base, name)) for name in OF_BASE),
    ]


def of_base(figure: Interval | None, base: Interval | None) -> str:
    """A figure over the base's, or a dash."""
    if figure is None or base is None or base.value == 0:
        return MISSING
    return f"{figure.value / base.value:.2f}×"


def alone(figure: Interval | None, words: Callable[[float], str]) -> str:
    """A figure without its interval, or a dash."""
    return MISSING if figure is None else words(figure.value)


def with_interval(figure: Interval | None, words: Callable[[float], str]) -> str:
    """A figure with its interval in brackets, or a dash."""
    if figure is None or figure.bounds is None:
        return MISSING if figure is None else words(figure.value)
    return "{} ({} to {})".format(*map(words, (figure.value, *figure.bounds)))


def caption(metrics: Mapping[str, Any], environment: Mapping[str, Any], made_by: str) -> str:
    """How the table was made, and how to read it."""
    rounds = read_rounds(metrics)
    stages = [read_mapping(entry.get("wall_s")) for entry in rounds]
    minutes = sum(read_number(s) or 0.0 for stage in stages for s in stage.values()) / 60
    where = one_line(environment.get("device"), missing="a machine that is not recorded")
    threads = number(environment.get("threads"), 0)
    return (
        f"`{made_by}`: model `{one_line(metrics.get('model'))}`, axis "
        f"`{one_line(metrics.get('axis'))}`, {len(rounds)} rounds, seed "
        f"{number(metrics.get('seed'), 0)}; {number(minutes, 0)} minutes for the rounds on "
        f"{where}, {threads} threads. Brackets hold 95 % intervals over the items of this one run; "
        "another seed gives other figures. `make readme-table` writes this table from "
        "`metrics.json` of the run."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
