"""`shl eval`: the whole battery, or a benchmark's tasks, on a run's healed model or any model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from steer_heal_love.errors import ConfigError
from steer_heal_love.export.loading import Opened, open_exported
from steer_heal_love.harness.measure import HarnessConfig, TaskFigure, TaskResults, measure_tasks
from steer_heal_love.harness.tasks import load_tasks
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import DType
from steer_heal_love.loop.measure import evaluate_student
from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import Axis, Baseline, Interval, Measurement, NoPieces
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.runner.model import load_for, settle
from steer_heal_love.runner.remote_code import refuse_silent_trust
from steer_heal_love.runner.settings import config_from, load_config, read_settings
from steer_heal_love.runs.files import write_text
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.read_adapter import read_adapter
from steer_heal_love.terminal.battery_table import battery_table, cell
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen
from steer_heal_love.verdicts import all_verdicts, coherent, flattened, sharpened, to_json


@dataclass(frozen=True)
class EvalArguments:
    """Measure a run's healed model, or any model with or without a LoRA adapter, against its base.

    By default by the package's own battery; with --tasks by tasks of the lm-evaluation-harness.
    """

    what: Annotated[str, tyro.conf.Positional]
    """A run directory, a folder of `shl export`, a folder with a PEFT adapter, or a model: hub id,
    local folder, .gguf file, or smollm2."""
    harness: Annotated[HarnessConfig, tyro.conf.arg(name="")]
    round: int | None = None
    """Of a run: the healed model of this round; by default the last."""
    adapter: Path | None = None
    """Of a model: a folder with a PEFT LoRA adapter."""
    axis: str | None = None
    """Of a model: built-in axis, or the path of an axis .toml; by default love."""
    config: Path | None = None
    """Of a model: TOML file of settings, as of shl run; flags beat it."""
    tasks: tuple[str, ...] | None = None
    """The harness's tasks, by name or pattern (arc_*), and files: .json or .jsonl of questions
    {"question": …, "choices": [ … ], "answer": 0}, or the harness's .yaml, which is a program."""
    battery: bool = False
    """With --tasks: the package's own battery too."""
    samples: int | None = None
    """Sampled answers per condition of the battery; by default the settings'."""
    temperature: float = 1.0
    """Of the battery: divide the model's logits by this, in sampling and in scoring; base stays at
    1."""
    device: str | None = None
    """Where to compute: auto, cpu, cuda, …; by default the settings'."""
    dtype: DType | None = None
    """Precision of the model; by default the settings'."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    out: Path | None = None
    """Write the figures and the values per item to this JSON file."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, measure, show."""
    options = parse(EvalArguments, arguments, "shl eval")
    _check_tasks(options)
    settings, axis, opened = _subject(options)
    adapters = list(opened.adapters)
    measured: dict[str, Any] = {}
    with Screen(quiet=options.quiet) as screen:
        if options.tasks:
            screen.say(f"reading {', '.join(map(escape_terminal, options.tasks))} …")
        tasks = load_tasks(options.tasks) if options.tasks else None
        lm = load_for(settings, screen)
        if doubt := opened.doubt(lm.identity.revision):
            screen.notes.print(f"warning: {doubt}", markup=False)
        if tasks is None or options.battery:
            contexts = load_contexts()
            settings = settle(lm, axis, settings, screen, direction=False, battery=True)
            pieces = cache_baselines(NoPieces(), lm, axis, contexts, settings)
            baseline, student = evaluate_student(
                lm,
                axis,
                contexts,
                settings,
                adapters,
                temperature=options.temperature,
                pieces=pieces,
                report=screen.report,
            )
            measured |= _show_battery(baseline, student, axis, screen)
        if tasks is not None:
            results = measure_tasks(
                lm, adapters, tasks, options.harness, seed=settings.seed, report=screen.report
            )
            measured |= _show_tasks(results, screen)
    if options.out is not None:
        write_text(options.out, json.dumps(measured, indent=1, allow_nan=False) + "\n")
    return 0


def _check_tasks(options: EvalArguments) -> None:
    if options.tasks == ():
        raise ConfigError("--tasks: name at least one task or file")
    if not 0 < options.temperature < math.inf:
        raise ConfigError(f"--temperature {options.temperature:g}: give a number above 0")
    if options.temperature != 1 and options.tasks is not None and not options.battery:
        raise ConfigError("--temperature goes with the battery: add --battery")
    if options.tasks is None and options.harness != HarnessConfig():
        raise ConfigError("--limit, --batch-size and --apply-chat-template go with --tasks")


def _subject(options: EvalArguments) -> tuple[RunConfig, Axis, Opened]:
    """Settings, axis, and model with adapters of what is to be measured."""
    if (Path(options.what) / "config.toml").is_file():
        return _of_run(options, Path(options.what))
    if options.round is not None:
        raise ConfigError(f"--round goes with a run directory, and {options.what!r} is none")
    settings = load_config(options.config)
    refuse_silent_trust(settings, f"config file {options.config}", options.trust_remote_code)
    opened = open_exported(options.what)
    if options.adapter is not None:
        opened = replace(opened, adapters=(*opened.adapters, read_adapter(options.adapter)))
    settings = settings.model_copy(
        update={"model": opened.model, "axis": options.axis or settings.axis}
    )
    return _overridden(settings, options), load_axis(settings.axis), opened


def _of_run(options: EvalArguments, path: Path) -> tuple[RunConfig, Axis, Opened]:
    for flag, value in (
        ("adapter", options.adapter),
        ("axis", options.axis),
        ("config", options.config),
    ):
        if value is not None:
            raise ConfigError(f"--{flag} goes with a model, and a run has its own")
    settings, axis = read_settings(path, trust=options.trust_remote_code)
    view = read_run(path)
    done = [entry["round"] for entry in view.metrics.get("rounds", [])]
    last = options.round if options.round is not None else max(done, default=-1)
    if last not in done:
        raise ConfigError(f"run {path} has no healed round {last}: its rounds are {done}")
    adapters = tuple(view.adapter(r) for r in done if r <= last)
    return _overridden(settings, options), axis, Opened(settings.model, adapters)


def _overridden(settings: RunConfig, options: EvalArguments) -> RunConfig:
    """The settings with what the flags say; only the flag gives leave to run a model's code."""
    values = settings.model_dump()
    values["trust_remote_code"] = options.trust_remote_code
    values["device"] = options.device or settings.device
    values["dtype"] = options.dtype or settings.dtype
    if options.samples is not None:
        values["evaluate"]["samples"] = options.samples
    return config_from(values, "--samples")


def _show_battery(
    baseline: Baseline, student: Measurement, axis: Axis, screen: Screen
) -> dict[str, Any]:
    """Table and verdict on the screen; the figures as plain data."""
    personas = {"prompt_pos": baseline.prompt_pos, "prompt_neg": baseline.prompt_neg}
    conditions = {"base": baseline.base, **personas, "model": student}
    judged = {"verdicts": to_json(all_verdicts(baseline, [], foundations=axis.foundations))}
    screen.say(battery_table(conditions, axis, judged, screen.console.width))
    screen.say(_words(baseline, student))
    return {
        name: {
            "figures": {k: _bounds(i) for k, i in m.figures.items()},
            "items": {k: _finite(v) for k, v in m.items.items()},
        }
        for name, m in conditions.items()
    }


def _words(baseline: Baseline, student: Measurement) -> str:
    shift = paired_difference(student.items["trait_nats"], baseline.base.items["trait_nats"])
    verdict = coherent(student, baseline.base)
    trait = (
        "The trait could not be paired."
        if shift is None
        else f"Trait shift {cell(shift)} nats, at the entropy of base."
    )
    said = [trait, f"As coherent as base? {verdict.answer}. {verdict.words}"]
    for name, judged in (("sharpened", sharpened(student)), ("flattened", flattened(student))):
        if name == "sharpened" or judged.answer == "yes":
            said.append(f"{name}: {judged.answer}. {judged.words}")
    return " ".join(said)


def _show_tasks(results: TaskResults, screen: Screen) -> dict[str, Any]:
    """Table on the screen; the figures as plain data."""
    screen.say(_task_table(results.figures))
    if results.cut:
        screen.say("Some prompts exceed the model's context: they lost their beginning.")
    return {"tasks": [_plain(figure) for figure in results.figures]}


def _task_table(figures: Sequence[TaskFigure]) -> Table:
    table = Table("task", "metric", title="tasks, 95 % intervals", box=None)
    for name in ("items", "base", "model", "model - base"):
        table.add_column(name, justify="right")
    for f in figures:
        intervals = [cell(f.base), cell(f.student), cell(f.difference, signed=True)]
        names = [Text(escape_terminal(name)) for name in (f.task, f.metric)]
        table.add_row(*names, str(f.count), *intervals)
    return table


def _plain(figure: TaskFigure) -> dict[str, Any]:
    return {
        "task": figure.task,
        "metric": figure.metric,
        "count": figure.count,
        "base": _bounds(figure.base),
        "model": _bounds(figure.student),
        "difference": _bounds(figure.difference),
        "items": {"base": _finite(figure.base_items), "model": _finite(figure.student_items)},
    }


def _bounds(interval: Interval) -> list[float | None]:
    return _finite((interval.value, interval.low, interval.high))


def _finite(values: Sequence[float | None]) -> list[float | None]:
    """JSON has no NaN and no infinity: they are null."""
    return [v if v is not None and math.isfinite(v) else None for v in values]
