"""Exports read back: the right base, the right adapters, a clear word where there is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from exports import ids, largest_difference, make, student_logits

from steer_heal_love.errors import ModelError, RunError
from steer_heal_love.export.loading import Opened, open_exported
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.patches.adapters import student as put_on


def logits(opened: Opened) -> torch.Tensor:
    lm = load_model(opened.model, dtype="float32", device="cpu")
    assert opened.doubt(lm.identity.revision) is None
    with put_on(lm, opened.adapters), torch.inference_mode():
        return torch.as_tensor(lm.model(ids()).logits)


@pytest.mark.parametrize("kind", ["peft", "merged", "gguf"])
def test_each_model_comes_back_as_the_student(run: Path, tmp_path: Path, kind: str) -> None:
    student, folder = make(
        kind,  # type: ignore[arg-type]
        run,
        tmp_path / "out",
        **({} if kind == "peft" else {"dtype": torch.float32}),
    )
    opened = open_exported(str(folder))
    assert len(opened.adapters) == (1 if kind == "peft" else 0)
    assert largest_difference(student_logits(student), logits(opened)) < 1e-4


def test_an_adapter_of_peft_names_its_base(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out")
    (folder / "steer_heal_love.json").unlink()
    opened = open_exported(str(folder))
    assert opened.model == student.base.spec
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": None})
    )
    with pytest.raises(ModelError, match="does not name its base model: give that model"):
        open_exported(str(folder))


def test_other_weights_than_the_adapters_are_told_of(run: Path, tmp_path: Path) -> None:
    _, folder = make("peft", run, tmp_path / "out")
    opened = open_exported(str(folder))
    assert opened.doubt(str(opened.revision)) is None
    assert opened.doubt("unknown") is None
    assert "was never measured" in str(opened.doubt("sha256:" + "0" * 64))


def test_what_holds_no_model_says_so(run: Path, tmp_path: Path) -> None:
    make("vector", run, tmp_path / "all/vector")
    make("peft", run, tmp_path / "all/peft")
    with pytest.raises(ModelError, match="holds a direction, not a model"):
        open_exported(str(tmp_path / "all/vector"))
    with pytest.raises(ModelError, match="holds several exports: give one of them, peft, vector"):
        open_exported(str(tmp_path / "all"))
    with pytest.raises(ModelError, match="holds a LoRA adapter, not a model"):
        load_model(str(tmp_path / "all/peft"))
    (tmp_path / "all/peft/adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="is broken"):
        open_exported(str(tmp_path / "all/peft"))


@pytest.mark.parametrize("name", ["../../secret.gguf", "/etc/passwd", "..", "", 3, None])
def test_a_note_leads_nowhere_else(tmp_path: Path, name: object) -> None:
    note = {"kind": "gguf", "files": {"model": name}}
    (tmp_path / "steer_heal_love.json").write_text(json.dumps(note))
    assert open_exported(str(tmp_path)) == Opened(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"kind": []}', '{"files": 1, "kind": "gguf"}', "{"])
def test_a_broken_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "steer_heal_love.json").write_text(text)
    assert open_exported(str(tmp_path)) == Opened(str(tmp_path))


def test_any_other_model_is_left_to_the_loader() -> None:
    assert open_exported("smollm2") == Opened("smollm2")
    assert open_exported("owner/name") == Opened("owner/name")
