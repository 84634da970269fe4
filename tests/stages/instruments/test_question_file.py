"""Files of questions: read as they stand, or refused on one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steer_heal_love.errors import DataError
from steer_heal_love.harness.questions import MAX_BYTES, read_questions

SKY = {"question": "The sky is", "choices": ["blue", "green"], "answer": 0}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_lines_and_a_list_hold_the_same(tmp_path: Path) -> None:
    rows = [{**SKY, "source": "me"}, {"question": "2\u2028+", "choices": ["1 ", "2"], "answer": 1}]
    lines = read_questions(write(tmp_path / "q.jsonl", *rows))
    assert read_questions(write(tmp_path / "q.json", rows)) == lines
    assert [q.model_dump() for q in lines] == [SKY, rows[1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": " \n"}, "line 3: key 'question': string should match"),
        ({"question": 3}, "key 'question': input should be a valid string"),
        ({"choices": ["blue"]}, "key 'choices': list should have at least 2"),
        ({"choices": ["blue", ""]}, "key 'choices.1'"),
        ({"choices": ["blue", "blue"]}, "a choice is there twice"),
        ({"choices": "blue"}, "key 'choices': input should be a valid list"),
        ({"answer": 2}, "answer 2 is beyond the 2 choices"),
        ({"answer": -1}, "key 'answer'"),
        ({"answer": True}, "key 'answer': input should be a valid integer"),
        ({"answer": "0"}, "key 'answer': input should be a valid integer"),
    ],
)
def test_a_broken_question_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "q.jsonl", SKY, {**SKY, **change})
    with pytest.raises(DataError) as refused:
        read_questions(path)
    assert words in str(refused.value)
    assert f"{path}, line 3" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("q.jsonl", b"", "holds no question"),
        ("q.json", b"[]", "holds no question"),
        ("q.json", b"{}", "is not a list of questions"),
        ("q.json", b"[1]", "question 1 is no object"),
        ("q.jsonl", b"\n{", "line 2 is not valid JSON"),
        ("q.jsonl", b"9" * 5000, "line 1 is not valid JSON"),
        ("q.jsonl", b"[" * 100_000, "line 1 is not valid JSON"),
        ("q.jsonl", b"\xff", "is not UTF-8 (byte 0)"),
        ("q.jsonl", b'{"question": "x"}', "key 'choices' is missing: add it"),
        ("q.jsonl", b" " * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as refused:
        read_questions(tmp_path / name)
    assert words in str(refused.value)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        read_questions(tmp_path / "none.jsonl")
