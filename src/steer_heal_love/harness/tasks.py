"""Which tasks of the lm-evaluation-harness to run: its own by name, and files of questions."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ConfigError, DataError, hint_at
from steer_heal_love.harness.questions import read_questions
from steer_heal_love.lm.model.quiet import first_line

SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")  # of task files; all else is a name

_UNSAFE = "task {!r} runs code that the model writes: leave it out"

Report = Callable[[str, float, float], None]  # (stage, done, of how many)


@dataclass(frozen=True)
class Tasks:
    """Tasks with their data; `loaded` is the harness's own structure: name → task, and groups."""

    loaded: Mapping[str, Any]


def load_tasks(names: Sequence[str]) -> Tasks:
    """Tasks by the harness's name or pattern (`arc_*`), by the path of one of its `.yaml` task
    files, or by the path of a `.json` or `.jsonl` file of questions (see `read_questions`).

    A `.yaml` task file is a program: its templates and functions run on this machine.

    Raises:
        ConfigError: lm-eval is not installed, a name is unknown or given twice, or a task would
            run code that the model writes, or needs images or sound.
        DataError: a file is missing or broken, or a task's data cannot be had.
    """
    manager_of = harness_module("tasks").TaskManager
    files = {name: _of_file(Path(name)) for name in names if Path(name).suffix.lower() in SUFFIXES}
    with quiet():
        # To index the harness's own 14,000 tasks takes some ten seconds.
        manager = manager_of(include_defaults=any(name not in files for name in names))
        specs = [(name, files.get(name) or _known(manager, name)) for name in names]
        parts = [_load(manager, name, spec) for name, spec in specs]
    _refuse_twice([name for part in parts for name in part["tasks"]])
    loaded = {
        key: {name: value for part in parts for name, value in part.get(key, {}).items()}
        for key in ("tasks", "groups")
    }
    _refuse_unfit(loaded["tasks"])
    return Tasks(loaded)


def harness_module(name: str) -> Any:
    """A module of lm_eval: imported here alone, and only where a task is asked for.

    Raises:
        ConfigError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(f"lm_eval.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tasks needs the lm-evaluation-harness, but {error.name} is not installed: "
            "pip install 'steer-heal-love[eval]'"
        ) from None


def _of_file(path: Path) -> list[Any]:
    """What the harness loads for a task file."""
    if path.suffix.lower() in (".json", ".jsonl"):
        return [_question_task(path)]
    if not path.is_file():
        raise DataError(f"task file {path} does not exist: check the path")
    return [str(path)]


def _question_task(path: Path) -> dict[str, Any]:
    """The harness's configuration of a multiple-choice task whose data stay in memory."""
    rows = [question.model_dump() for question in read_questions(path)]

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
    """The harness's names that a name or pattern stands for."""
    names: list[str] = manager.match_tasks([name])
    if not names:
        hint = hint_at(name, manager.all_tasks)
        raise ConfigError(f"unknown task {name!r}: {hint}`lm-eval ls tasks` lists them all")
    for task in names:  # before it is loaded: to load such a task may run code from the hub
        if (manager.task_index[task].cfg or {}).get("unsafe_code"):
            raise ConfigError(_UNSAFE.format(task))
    return names


def _load(manager: Any, name: str, spec: list[Any]) -> Mapping[str, Any]:
    try:
        loaded: Mapping[str, Any] = manager.load(spec)
    except Exception as error:  # a task is somebody's program, and may raise anything
        raise DataError(f"task {name!r} cannot be loaded: {first_line(error)}") from error
    return loaded


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"there are two tasks called {name!r}: leave one out, or rename it")


def _refuse_unfit(tasks: Mapping[str, Any]) -> None:
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise ConfigError(_UNSAFE.format(name))
        if getattr(task, "MULTIMODAL", False):
            raise ConfigError(f"task {name!r} needs images or sound: leave it out")


class Overheard(logging.Handler):
    """Takes what the harness logs, and remembers whether it had to cut a prompt."""

    cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Note a message about truncation; drop all others."""
        told = record.name.startswith("lm_eval") and "runcat" in record.getMessage()
        self.cut = self.cut or told


class _Bar:
    """Stands in for tqdm's bars in the harness: reports how far the model is, and draws nothing."""

    def __init__(self, report: Report, rows: Iterable[Any], total: int | None) -> None:
        self.report, self.rows, self.total, self.done = report, rows, total, 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def update(self, n: int = 1) -> None:
        """So many more of the requests are answered."""
        self.done += n
        if self.total:
            self.report("evaluate", min(self.done, self.total), self.total)

    def close(self) -> None:
        """Nothing was drawn, so there is nothing to take away."""


@contextmanager
def quiet(report: Report = lambda _stage, _done, _total: None) -> Iterator[Overheard]:
    """Inside it the harness and its libraries write nothing to the terminal."""

    def bar(rows: Iterable[Any] = (), total: int | None = None, **_how: Any) -> _Bar:
        return _Bar(report, rows, total)

    import datasets

    heard = Overheard()
    with ExitStack() as undo, warnings.catch_warnings():
        for name in ("api.task", "api.model", "models.huggingface"):
            module = harness_module(name)
            undo.callback(setattr, module, "tqdm", module.tqdm)
            module.tqdm = bar
        for name in ("lm_eval", "datasets", "transformers"):
            undo.enter_context(_only_to(heard, logging.getLogger(name)))
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            undo.callback(datasets.enable_progress_bars)
        # What a task's own code and metrics (a class that no item has, a deprecated call) have to
        # tell a Python programmer is not for the screen.
        for module in ("lm_eval", "datasets", "evaluate", "sklearn"):
            warnings.filterwarnings("ignore", module=rf"{module}\b")
        yield heard


@contextmanager
def _only_to(handler: logging.Handler, logger: logging.Logger) -> Iterator[None]:
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before
