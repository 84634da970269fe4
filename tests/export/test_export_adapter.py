"""One LoRA for a whole history: PEFT loads it and computes what the student computes."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from exports import base_logits, ids, largest_difference, make, student_logits
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.export.lora import (
    SERVED_RANKS,
    compress,
    history_terms,
    one_adapter,
    served_rank,
)
from steer_heal_love.lm.patches.adapters import LowRank
from steer_heal_love.records import Adapter
from steer_heal_love.runs.read_adapter import read_adapter


def peft_logits(base: str, folder: Path) -> torch.Tensor:
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(plain, folder).eval()
    with torch.inference_mode():
        return torch.as_tensor(model(ids()).logits)


def test_peft_computes_what_the_student_computes(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out")
    exact = student_logits(student)
    assert largest_difference(exact, base_logits(student)) > 0.1
    assert largest_difference(exact, peft_logits(student.base.spec, folder)) < 1e-4
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["r"] == config["lora_alpha"] == 2 + 3  # the rounds' ranks
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template


def test_an_earlier_round_is_that_rounds_student(run: Path, tmp_path: Path) -> None:
    from exports import LICENCE

    from steer_heal_love.export.exporting import export
    from steer_heal_love.export.job import ExportOptions
    from steer_heal_love.export.student import read_student

    first = read_student(run, 0)
    export("peft", first, tmp_path / "out", ExportOptions(device="cpu"), LICENCE, lambda _: None)
    exact = student_logits(first)
    assert len(first.adapters) == 1
    assert largest_difference(exact, peft_logits(first.base.spec, tmp_path / "out")) < 1e-4
    assert largest_difference(exact, student_logits(read_student(run, 1))) > 0.1


def test_padding_for_vllm_changes_nothing(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out", pad_rank=True)
    assert json.loads((folder / "adapter_config.json").read_text("utf-8"))["r"] == 8
    found = peft_logits(student.base.spec, folder)
    assert largest_difference(student_logits(student), found) < 1e-4


def test_compression_says_what_it_costs(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out", rank=2)
    note = json.loads((folder / "steer_heal_love.json").read_text("utf-8"))["measured"]
    dense = _updates(history_terms(student.adapters))
    small = _updates(history_terms([read_adapter(folder)]))
    lost = {k: float((dense[k] - small[k]).norm() / dense[k].norm()) for k in dense}
    assert note["weight_error"]["worst"] == pytest.approx(max(lost.values()), rel=1e-3)
    assert lost[note["weight_error"]["module"]] == max(lost.values())
    whole = sum((dense[k] - small[k]).square().sum() for k in dense)
    square = sum(d.square().sum() for d in dense.values())
    assert note["weight_error"]["whole"] == pytest.approx(float((whole / square).sqrt()), rel=1e-3)
    assert note["rank"] == 2
    assert 0 < note["fidelity"]["mean_kl_nats"] < note["fidelity"]["worst_kl_nats"]
    assert "compressed from rank 5 to 2" in (folder / "README.md").read_text("utf-8")


def test_compression_to_the_full_rank_costs_nothing(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out", rank=5)
    note = json.loads((folder / "steer_heal_love.json").read_text("utf-8"))["measured"]
    assert note["weight_error"]["whole"] < 1e-6
    assert note["fidelity"]["mean_kl_nats"] < 1e-6
    found = peft_logits(student.base.spec, folder)
    assert largest_difference(student_logits(student), found) < 1e-3


def _updates(terms: dict[str, LowRank]) -> dict[str, torch.Tensor]:
    return {name: term.B.double() @ term.A.double() for name, term in terms.items()}


@given(st.integers(1, SERVED_RANKS[-1]))
def test_the_served_rank_is_the_next_one(rank: int) -> None:
    found = served_rank(rank)
    assert found in SERVED_RANKS
    assert found >= rank
    assert not any(rank <= other < found for other in SERVED_RANKS)


def test_what_cannot_be_is_refused() -> None:
    terms = {"m": LowRank(torch.ones(1, 3), torch.ones(2, 1))}
    with pytest.raises(ConfigError, match="vLLM serves 512 at most"):
        served_rank(513)
    with pytest.raises(ConfigError, match="--rank must be at least 1"):
        compress(terms, 0)
    with pytest.raises(ModelError, match="nothing to export"):
        history_terms([Adapter({}, {"r": 1, "lora_alpha": 1})])


def test_modules_of_different_ranks_become_one() -> None:
    torch.manual_seed(0)
    terms = {
        "a": LowRank(torch.randn(2, 3), torch.randn(4, 2)),
        "b": LowRank(torch.randn(5, 3), torch.randn(4, 5)),
    }
    adapter = one_adapter(terms, Adapter({}, {"bias": "none", "lora_alpha": 9, "r": 1}), "x/y")
    assert adapter.config["r"] == 5
    assert adapter.config["base_model_name_or_path"] == "x/y"
    again = history_terms([adapter])
    for name, term in terms.items():
        torch.testing.assert_close(again[name].B @ again[name].A, term.B @ term.A)
