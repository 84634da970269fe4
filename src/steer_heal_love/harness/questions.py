"""Files of multiple-choice questions, as a user writes them: JSON, checked line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from steer_heal_love.errors import DataError
from steer_heal_love.inputs.text_files import explain_first, number_lines, parse_json, read_text

MAX_BYTES = 64_000_000

_Text = Annotated[str, StringConstraints(pattern=r"\S", max_length=100_000)]


class Question(BaseModel):
    """One item of a question file; keys that nothing here needs are let be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question: _Text
    choices: Annotated[list[_Text], Field(min_length=2, max_length=100)]
    answer: Annotated[int, Field(ge=0, strict=True)]  # index of the right choice, from 0


def read_questions(path: Path) -> list[Question]:
    """The questions of a file: `.jsonl`, one JSON object a line, or `.json`, a list of them.

    `{"question": "The sky is", "choices": ["blue", "green"], "answer": 0}`: the model reads the
    question, one space, and each choice; `answer` counts from 0.

    Raises:
        DataError: with file, item and remedy; also for a file without a question.
    """
    where = f"task file {path}"
    text = read_text(path, where, MAX_BYTES, DataError)
    rows = _lines(text, where) if path.suffix.lower() == ".jsonl" else _list(text, where)
    questions = [_question(row, place) for place, row in rows]
    if not questions:
        raise DataError(f"{where} holds no question: give one JSON object a line")
    return questions


def _lines(text: str, where: str) -> Iterator[tuple[str, Any]]:
    for number, line in number_lines(text):
        place = f"{where}, line {number}"
        yield place, parse_json(line, place, DataError)


def _list(text: str, where: str) -> Iterator[tuple[str, Any]]:
    rows = parse_json(text, where, DataError)
    if not isinstance(rows, list):
        raise DataError(f"{where} is not a list of questions: write [{{…}}, {{…}}], or use .jsonl")
    for number, row in enumerate(rows, 1):
        yield f"{where}, question {number}", row


def _question(row: Any, place: str) -> Question:
    if not isinstance(row, dict):
        raise DataError(
            f"{place} is no object: write {{'question': …, 'choices': […], 'answer': 0}}"
        )
    try:
        question = Question.model_validate(row)
    except ValidationError as error:
        raise DataError(f"{place}: {explain_first(error)}") from None
    if question.answer >= len(question.choices):
        raise DataError(
            f"{place}: answer {question.answer} is beyond the {len(question.choices)} choices: "
            "they count from 0"
        )
    if len(set(question.choices)) < len(question.choices):
        raise DataError(f"{place}: a choice is there twice: take one out")
    return question
