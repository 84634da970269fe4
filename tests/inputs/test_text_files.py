"""Text files as other systems write them: a byte order mark, suffixes in capitals."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
import tomli_w

from steer_heal_love.errors import ModelError
from steer_heal_love.harness.questions import read_questions
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.inputs.vignettes import load_file
from steer_heal_love.lm.model.sources import resolve
from steer_heal_love.runner.settings import load_config
from tiny_run import axis_data, config_data, small_axis

QUESTION = {"question": "The sky is", "choices": ["blue", "green"], "answer": 0}
VIGNETTE = {"id": "a", "text": "You see a man kick a dog.", "foundation": "care"}


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(codecs.BOM_UTF8 + text.encode())
        return tmp_path / name

    assert load_axis(str(write("axis.toml", tomli_w.dumps(axis_data())))) == small_axis()
    assert load_config(write("config.toml", tomli_w.dumps(config_data()))).rounds == 2
    assert len(read_questions(write("q.jsonl", json.dumps(QUESTION)))) == 1
    assert len(read_questions(write("q.json", json.dumps([QUESTION])))) == 1
    assert len(load_file(write("v.jsonl", json.dumps(VIGNETTE)))) == 1


def test_suffixes_may_be_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("KIND.TOML").write_text(tomli_w.dumps(axis_data()), "utf-8")
    assert load_axis("KIND.TOML") == small_axis()
    Path("Q.JSONL").write_text(json.dumps(QUESTION), "utf-8")
    assert len(read_questions(Path("Q.JSONL"))) == 1


def test_weights_in_capitals_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "MODEL.SAFETENSORS").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds MODEL\.SAFETENSORS, .* rename it"):
        resolve(str(tmp_path))
    with pytest.raises(ModelError, match=r"is a file: give the folder that it is in"):
        resolve(str(tmp_path / "MODEL.SAFETENSORS"))
