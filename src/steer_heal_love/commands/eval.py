"""`shl eval`: the whole battery on a run's healed model, or on any model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from steer_heal_love.axes import load_axis, load_contexts
from steer_heal_love.commands.arguments import parse
from steer_heal_love.commands.run import load_for, read_settings
from steer_heal_love.commands.screen import Screen
from steer_heal_love.errors import ConfigError
from steer_heal_love.files import write_text
from steer_heal_love.loop import RunConfig, evaluate_student
from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import Adapter, Axis, Baseline, Interval, Measurement
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.runs import read_adapter, read_run
from steer_heal_love.verdicts import coherent


@dataclass(frozen=True)
class EvalArguments:
    """Measure a run's healed model, or any model with or without a LoRA adapter."""

    what: Annotated[str, tyro.conf.Positional]
    """A run directory, or a model: hub id, local folder, .gguf file, or smollm2."""
    round: int | None = None
    """Of a run: the healed model of this round; by default the last."""
    adapter: Path | None = None
    """Of a model: a folder with a PEFT LoRA adapter."""
    axis: str = "love"
    """Of a model: built-in axis, or the path of an axis .toml."""
    out: Path | None = None
    """Write the figures and the values per item to this JSON file."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, measure, show."""
    given = parse(EvalArguments, arguments, "shl eval")
    settings, axis, adapters = _subject(given)
    with Screen(1, quiet=given.quiet) as screen:
        lm = load_for(settings, screen)
        baseline, student = evaluate_student(
            lm, axis, load_contexts(), settings, adapters, report=screen.report
        )
    conditions = {
        "base": baseline.base,
        "prompt_pos": baseline.prompt_pos,
        "prompt_neg": baseline.prompt_neg,
        "model": student,
    }
    screen.say(_table(conditions, axis))
    screen.say(_words(baseline, student))
    if given.out is not None:
        write_text(given.out, json.dumps(_plain(conditions), indent=1) + "\n")
    return 0


def _subject(given: EvalArguments) -> tuple[RunConfig, Axis, list[Adapter]]:
    """Settings, axis and adapters of what is to be measured."""
    path = Path(given.what)
    if not (path / "config.toml").is_file():
        if given.round is not None:
            raise ConfigError(f"--round goes with a run directory, and {given.what!r} is none")
        adapters = [read_adapter(given.adapter)] if given.adapter is not None else []
        return RunConfig(model=given.what, axis=given.axis), load_axis(given.axis), adapters
    if given.adapter is not None:
        raise ConfigError("--adapter goes with a model, and a run has adapters of its own")
    settings, axis = read_settings(path)
    view = read_run(path)
    done = [entry["round"] for entry in view.metrics.get("rounds", [])]
    last = given.round if given.round is not None else max(done, default=-1)
    if last not in done:
        raise ConfigError(f"run {path} has no healed round {last}: its rounds are {done}")
    return settings, axis, [view.adapter(r) for r in done if r <= last]


def _table(conditions: dict[str, Measurement], axis: Axis) -> Table:
    table = Table(title=f"axis {escape_terminal(axis.name)}, 95 % intervals", box=None)
    table.add_column("figure")
    for name in conditions:
        table.add_column(name, justify="right")
    names = {figure: None for m in conditions.values() for figure in m.figures}
    for figure in names:
        cells = [_cell(m.figures.get(figure)) for m in conditions.values()]
        table.add_row(figure, *cells)
    return table


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def _words(baseline: Baseline, student: Measurement) -> str:
    shift = paired_difference(student.items["trait_nats"], baseline.base.items["trait_nats"])
    verdict = coherent(student, baseline.base)
    trait = (
        "The trait could not be paired." if shift is None else f"Trait shift {_cell(shift)} nats."
    )
    return f"{trait} As coherent as base? {verdict.answer}. {verdict.words}"


def _plain(conditions: dict[str, Measurement]) -> dict[str, Any]:
    return {
        name: {
            "figures": {k: [i.value, i.low, i.high] for k, i in m.figures.items()},
            "items": {k: list(v) for k, v in m.items.items()},
        }
        for name, m in conditions.items()
    }
