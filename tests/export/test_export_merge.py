"""The merged model is the student: summed once in float32, rounded once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from exports import LICENCE, ids, largest_difference, make, student_logits

from steer_heal_love.errors import ModelError
from steer_heal_love.export.exporting import export
from steer_heal_love.export.job import ExportOptions
from steer_heal_love.export.lora import history_terms
from steer_heal_love.export.merge import merge_in_place
from steer_heal_love.export.student import read_student
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.patches.adapters import LowRank
from tiny import save_tiny_model, tiny_lm


def logits(folder: Path, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.inference_mode():
        return torch.as_tensor(model(ids()).logits)


def test_transformers_computes_what_the_student_computes(run: Path, tmp_path: Path) -> None:
    student, folder = make("merged", run, tmp_path / "out")
    assert largest_difference(student_logits(student), logits(folder)) < 1e-4
    note = json.loads((folder / "steer_heal_love.json").read_text("utf-8"))
    assert note["measured"]["dtype"] == "float32"  # as the base's weights are stored
    assert note["measured"]["fidelity"]["mean_kl_nats"] < 1e-6
    assert transformers.AutoTokenizer.from_pretrained(folder).chat_template
    modes = {p.name: p.stat().st_mode & 0o777 for p in folder.iterdir() if p.is_file()}
    assert len(set(modes.values())) == 1, modes


def test_one_rounding_to_bfloat16(run: Path, tmp_path: Path) -> None:
    student, folder = make("merged", run, tmp_path / "out", dtype=torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    base = load_model(student.base.spec, dtype="float32", device="cpu").model
    for name, term in history_terms(student.adapters).items():
        whole = base.get_submodule(name).weight + term.B @ term.A
        assert torch.equal(model.get_submodule(name).weight, whole.bfloat16())


def test_no_path_of_this_machine_is_in_it(run: Path, tmp_path: Path) -> None:
    _, folder = make("merged", run, tmp_path / "out")
    assert str(run.parent) not in (folder / "config.json").read_text("utf-8")


def test_what_does_not_fit_is_refused() -> None:
    lm = tiny_lm()
    with pytest.raises(
        ModelError, match=r"which this model does not have: it was made for another"
    ):
        merge_in_place(
            lm, {"model.layers.9.q": LowRank(torch.ones(1, 2), torch.ones(2, 1))}, lm.dtype
        )
    name = "model.layers.1.mlp.up_proj"
    d_out, d_in = lm.model.get_submodule(name).weight.shape
    huge = LowRank(torch.full((1, d_in), 1e3), torch.full((d_out, 1), 1e3))
    with pytest.raises(ModelError, match=r"beyond what float16 can hold: choose --dtype"):
        merge_in_place(lm, {name: huge}, torch.float16)
    half = tiny_lm()
    half.model.to(torch.bfloat16)
    with pytest.raises(ModelError, match="merged in float32"):
        merge_in_place(half, {}, torch.bfloat16)


def test_other_base_weights_than_the_runs_are_told_of(run: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=5)
    student = read_student(run, None, model=str(other))
    wish = ExportOptions(device="cpu")
    content = export("merged", student, tmp_path / "out", wish, LICENCE, lambda _: None)
    assert "was made on other base weights" in content.notes[0]
    assert "made on other base weights" in (tmp_path / "out/README.md").read_text("utf-8")
    same = export("merged", read_student(run, None), tmp_path / "2", wish, LICENCE, lambda _: None)
    assert same.notes == ()


def test_the_run_is_only_read(run: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    make("merged", run, tmp_path / "out")
    assert {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()} == before
    assert read_student(run, None).round == 1
