"""Which tasks of the lm-evaluation-harness to run: its own by name, and files of questions."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from steer_heal_love.errors import ConfigError, DataError

DATA_SUFFIXES = (".json", ".jsonl")
TASK_SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 64_000_000

Report = Callable[[str, float, float], None]  # (stage, done, of how many)


@dataclass(frozen=True)
class Tasks:
    """Tasks with their data; `loaded` is the harness's own structure: name → task, and groups."""

    loaded: Mapping[str, Any]


_Text = Annotated[str, StringConstraints(pattern=r"\S", max_length=100_000)]


class Question(BaseModel):
    """One item of a question file; keys that nothing here needs are let be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question: _Text
    choices: Annotated[list[_Text], Field(min_length=2, max_length=100)]
    answer: Annotated[int, Field(ge=0, strict=True)]  # index of the right choice, from 0


_Rows = TypeAdapter(list[Any])


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
    local = {n: [_local_task(Path(n))] for n in names if Path(n).suffix in DATA_SUFFIXES}
    with quiet():
        manager = manager_of(include_defaults=any(n not in local for n in names))
        specs = [(n, local.get(n) or _known(manager, n)) for n in names]
        parts = [_load(manager, name, spec) for name, spec in specs]
    _refuse_twice([name for part in parts for name in part["tasks"]])
    loaded = {key: _merged(part.get(key, {}) for part in parts) for key in ("tasks", "groups")}
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


def read_questions(path: Path) -> list[Question]:
    """The questions of a file: `.jsonl`, one JSON object a line, or `.json`, a list of them.

    `{"question": "The sky is", "choices": ["blue", "green"], "answer": 0}`: the model reads the
    question, one space, and each choice; `answer` counts from 0.

    Raises:
        DataError: with file, item and remedy; also for a file without a question.
    """
    where = f"task file {path}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{where} is larger than {MAX_BYTES:,} bytes: split it")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 (byte {error.start}): re-save it") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{where} cannot be read: {reason}: check the path") from None
    rows = _lines(text, where) if path.suffix == ".jsonl" else _list(text, where)
    questions = [_question(row, place) for place, row in rows]
    if not questions:
        raise DataError(f"{where} holds no question: give one JSON object a line")
    return questions


def _lines(text: str, where: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # U+2028 and the like end no line in JSON
        if line.strip():
            place = f"{where}, line {number}"
            yield place, _parsed(line, place)


def _list(text: str, where: str) -> Iterator[tuple[str, Any]]:
    rows = _parsed(text, where)
    if not isinstance(rows, list):
        raise DataError(f"{where} is not a list of questions: write [{{…}}, {{…}}], or use .jsonl")
    for number, row in enumerate(rows, 1):
        yield f"{where}, question {number}", row


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise DataError(f"{place} is not valid JSON: {error}: mend it") from None


def _question(row: Any, place: str) -> Question:
    if not isinstance(row, dict):
        raise DataError(f"{place} is no object: write {{'question': …, 'choices': […], 'answer': 0}}")
    try:
        question = Question.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        message = f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
        raise DataError(f"{place}: key {key!r}: {message}: mend it") from None
    if question.answer >= len(question.choices):
        raise DataError(
            f"{place}: answer {question.answer} is beyond the {len(question.choices)} choices: "
            "they count from 0"
        )
    if len(set(question.choices)) < len(question.choices):
        raise DataError(f"{place}: a choice is there twice: take one out")
    return question


def _local_task(path: Path) -> dict[str, Any]:
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


def _load(manager: Any, name: str, spec: list[Any]) -> Mapping[str, Any]:
    try:
        loaded: Mapping[str, Any] = manager.load(spec)
    except Exception as error:  # a task is somebody's program, and may raise anything
        raise DataError(f"task {name!r} cannot be loaded: {first_line(error)}") from error
    return loaded


def first_line(error: Exception) -> str:
    """What an exception of a library says first, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"there are two tasks called {name!r}: leave one out, or rename it")


def _refuse_unfit(tasks: Mapping[str, Any]) -> None:
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise ConfigError(f"task {name!r} runs code that the model writes: leave it out")
        if getattr(task, "MULTIMODAL", False):
            raise ConfigError(f"task {name!r} needs images or sound: leave it out")
