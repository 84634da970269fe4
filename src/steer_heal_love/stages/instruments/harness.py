"""Tasks of the lm-evaluation-harness on base and student: the same items, so that they pair."""

from __future__ import annotations

import difflib
import importlib
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from steer_heal_love.errors import ConfigError, DataError
from steer_heal_love.lm.adapters import base, student
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.maths.paired import Items, known, paired_difference, percentile_interval
from steer_heal_love.maths.statistics import bootstrap_mean, proportion_interval
from steer_heal_love.records import Adapter, Interval
from steer_heal_love.stages.instruments.question_file import read_questions
from steer_heal_love.stages.settings import StageConfig

RESAMPLES = 500  # of a metric that is no mean over items; some take a second to aggregate once

DATA_SUFFIXES = (".json", ".jsonl")
TASK_SUFFIXES = (".yaml", ".yml")

Report = Callable[[str, float, float], None]  # (stage, done, of how many)


class HarnessConfig(StageConfig):
    """How the harness's tasks are run."""

    limit: int | None = Field(None, ge=1)
    """Of each task in --tasks only the first so many items; by default all."""
    batch_size: int = Field(4, ge=1)
    """Prompts of --tasks in flight at a time: more is faster and takes more memory."""
    apply_chat_template: bool = False
    """Ask the questions of --tasks in the model's chat template, not as plain text."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of few-shot examples, and of answers where a task samples them."""


@dataclass(frozen=True)
class Tasks:
    """Tasks that are loaded, with their data; `loaded` is the harness's own structure."""

    loaded: Mapping[str, Any]


@dataclass(frozen=True)
class TaskFigure:
    """One metric of one task (or group of tasks), in the metric's unit, with 95 % intervals.

    Bounds are infinite where an interval cannot be had. The values per item are in the same order
    for both models; they are empty where the metric is no mean over items.
    """

    task: str
    metric: str
    count: int  # items
    base: Interval
    student: Interval
    difference: Interval  # student − base, paired over the items
    base_items: tuple[float | None, ...] = ()
    student_items: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class TaskResults:
    """What the tasks found."""

    figures: tuple[TaskFigure, ...]
    cut: bool  # some prompt exceeded the model's context and lost its beginning


def load_tasks(names: Sequence[str]) -> Tasks:
    """Tasks of the harness, by name or pattern, and local ones: `.json` and `.jsonl` files of
    questions (see `question_file`), and the harness's own `.yaml` task files.

    A task file is a program: its templates and functions run on this machine.

    Raises:
        ConfigError: lm-eval is not installed, a name is unknown or given twice, or a task would
            run code that the model writes, or needs images or sound.
        DataError: a file is missing or broken, or a task's data cannot be had.
    """
    manager_of = _harness("tasks").TaskManager
    local = {name: _local(Path(name)) for name in names if Path(name).suffix in DATA_SUFFIXES}
    with _quiet(lambda *_: None):
        manager = manager_of(include_defaults=len(local) < len(names))
        specs = {name: local[name] if name in local else _known(manager, name) for name in names}
        parts = [_load(manager, name, spec) for name, spec in specs.items()]
    if len(specs) < len(names) or _twice(parts):
        twice = _twice(parts) or [n for n in names if list(names).count(n) > 1]
        raise ConfigError(f"task {twice[0]!r} is given twice: name it once")
    loaded = {key: _merged(part.get(key, {}) for part in parts) for key in ("tasks", "groups")}
    _refuse_unfit(loaded["tasks"])
    return Tasks(loaded)


def _harness(module: str) -> Any:
    """A module of lm_eval, imported only here, where a task is asked for."""
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tasks needs the package lm-eval ({error.name} is not installed): "
            "pip install 'steer-heal-love[eval]'"
        ) from None


def _local(path: Path) -> dict[str, Any]:
    """The harness's configuration of a multiple-choice task on a file of questions.

    The model reads question, one space, choice; the data stay in memory.
    """
    rows = [{"question": q.question, "choices": list(q.choices), "answer": q.answer}
            for q in read_questions(path)]  # fmt: skip

    def dataset(**_metadata: Any) -> dict[str, Any]:
        import datasets

        return {"test": datasets.Dataset.from_list(rows)}

    return {
        "task": path.stem,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("acc", "acc_norm")
        ],
    }


def _known(manager: Any, name: str) -> list[str]:
    """The harness's names that a name or pattern stands for, or the path of a task file."""
    if Path(name).suffix in TASK_SUFFIXES:
        if not Path(name).is_file():
            raise DataError(f"task file {name} does not exist: check the path")
        return [name]
    found: list[str] = manager.match_tasks([name])
    if not found:
        near = difflib.get_close_matches(name, manager.all_tasks, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown task {name!r}: {hint}`lm-eval ls tasks` lists them all")
    return found


def _load(manager: Any, name: str, spec: Any) -> Mapping[str, Any]:
    try:
        loaded: Mapping[str, Any] = manager.load(spec)
    except Exception as error:  # a task is somebody's program, and may raise anything
        raise DataError(f"task {name!r} cannot be loaded: {_first_line(error)}") from error
    return loaded


def _twice(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for part in parts for name in part["tasks"]]
    return [name for name in names if names.count(name) > 1]


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _refuse_unfit(tasks: Mapping[str, Any]) -> None:
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise ConfigError(f"task {name!r} runs code that the model writes: leave it out here")
        if getattr(task, "MULTIMODAL", False):
            raise ConfigError(f"task {name!r} needs images or sound: leave it out")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def measure_tasks(
    lm: LanguageModel,
    adapters: Sequence[Adapter],
    tasks: Tasks,
    config: HarnessConfig,
    *,
    report: Report = lambda _stage, _done, _total: None,
) -> TaskResults:
    """Every metric of the tasks, on the base model and with these adapters on, item by item.

    The harness computes on the model that is loaded, and gets a copy of its tokenizer. Without
    adapters both are the base model, and it is run once.

    Raises:
        DataError: the harness cannot run a task on this model, or its items are not the same twice.
    """
    hflm = _harness("models.huggingface").HFLM
    with _quiet(report) as heard:
        with base(lm):
            before = _evaluate(hflm, lm, tasks, config)
        after = before
        if adapters:
            with student(lm, adapters):
                after = _evaluate(hflm, lm, tasks, config)
        return TaskResults(tuple(_figures(tasks, before, after, config.seed)), heard.cut)
