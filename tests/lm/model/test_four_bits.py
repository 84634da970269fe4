"""Loading in 4 bits: refused in one line where it cannot be, and on CUDA healed as PEFT does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from said import Said, say
from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import in_four_bits, load_model
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.stages.heal import Example, HealConfig, heal
from tiny import random_ids, save_tiny_model
from tiny_run import write_inputs

__all__ = ["say"]

CUDA = torch.device("cuda")
on_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None,
    reason="4 bits need CUDA and bitsandbytes",
)


def test_without_cuda_it_is_refused_in_one_line(tmp_path: Path, say: Callable[..., Said]) -> None:
    flags = [*write_inputs(tmp_path), "--device", "cpu", "--quantize", "4bit"]
    said = say("run", *flags, "--out", str(tmp_path / "run"))
    assert said.code == 2
    assert "need a CUDA device, and this is cpu" in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        in_four_bits(CUDA, torch.bfloat16)


def test_what_transformers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    told = in_four_bits(CUDA, torch.bfloat16)
    assert told["device_map"] == {"": CUDA}
    config = told["quantization_config"]
    assert config.load_in_4bit
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


@on_cuda
def test_a_heal_in_four_bits_is_what_peft_reads(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    lm = load_model(folder, device="cuda", dtype="float32", quantize="4bit")
    assert "nf4" in lm.identity.dtype
    examples = [
        Example(tuple(a), tuple(b)) for a, b in zip(random_ids(5), random_ids(9), strict=True)
    ]
    config = HealConfig(epochs=4, learning_rate=3e-2, rank=2, validation_share=0.0)
    healed = heal(lm, examples, config, seed=0)
    assert healed.steps[-1].nll < healed.steps[0].nll
    ids = torch.tensor(random_ids(12), device="cuda")
    with student(lm, [healed.adapter]), torch.inference_mode():
        ours = lm.model(ids).logits
    safetensors.torch.save_file(
        dict(healed.adapter.tensors), tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(dict(healed.adapter.config)))
    model: Any = peft.PeftModel.from_pretrained(lm.model, tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(ours, model(ids).logits, rtol=1e-3, atol=1e-3)
