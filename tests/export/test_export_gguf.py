"""GGUF files: read back by transformers, run by llama.cpp, refused where they would be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
import torch
from exports import ids, largest_difference, make, student_logits
from tokenizers import Regex, normalizers, pre_tokenizers

from export_run import write_tiny_run
from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.export.gguf.layout import arrange, layout_of
from steer_heal_love.export.gguf.tokenizer import split_name, token_list
from steer_heal_love.export.lora import history_terms
from steer_heal_love.lm.model.load import load_model
from tiny import build_model, tiny_tokenizer


def one(folder: Path, ending: str) -> Path:
    """The file of a folder with this ending, be it the model's or the adapter's."""
    lora = ending.startswith("-lora")
    (path,) = (p for p in folder.glob(f"*{ending}") if ("-lora-" in p.name) is lora)
    return path


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A student and its GGUF files in float32."""
    folder = tmp_path_factory.mktemp(request.param)
    run = write_tiny_run(folder, request.param)
    return make("gguf", run, folder / "out", dtype=torch.float32)


@pytest.fixture(scope="module")
def of_llama(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The same of a Llama alone: transformers takes a Qwen 3's heads from a GGUF file to be 128."""
    return make("gguf", run, tmp_path_factory.mktemp("gguf") / "out", dtype=torch.float32)


def test_transformers_reads_the_student(of_llama: tuple[Any, Path]) -> None:
    student, folder = of_llama
    lm = load_model(str(one(folder, "-f32.gguf")), dtype="float32", device="cpu")
    with torch.inference_mode():
        found = lm.model(ids()).logits
    assert largest_difference(student_logits(student), found) < 1e-4


def test_the_tokenizer_comes_back(of_llama: tuple[Any, Path]) -> None:
    student, folder = of_llama
    lm = load_model(str(one(folder, "-f32.gguf")), dtype="float32", device="cpu")
    ours = load_model(student.base.spec, dtype="float32", device="cpu").tokenizer
    text = "<|im_start|>user\nHow are you in 2024, naïve – 你好?<|im_end|>\n"
    assert lm.tokenizer(text)["input_ids"] == ours(text)["input_ids"]
    assert lm.tokenizer.chat_template == ours.chat_template
    assert lm.tokenizer.eos_token == ours.eos_token
    assert lm.tokenizer.pad_token == ours.pad_token


def test_a_file_says_what_it_is(exported: tuple[Any, Path]) -> None:
    _, folder = exported
    lora = gguf.GGUFReader(one(folder, "-lora-f32.gguf"))
    assert lora.get_field("general.type").contents() == "adapter"
    assert lora.get_field("adapter.lora.alpha").contents() == 5.0
    assert lora.get_field("general.license").contents() == "apache-2.0"
    vector = gguf.GGUFReader(one(folder, "-control-vector.gguf"))
    assert [t.name for t in vector.tensors] == ["direction.1", "direction.2"]


def test_the_lora_is_the_difference_of_the_two_models(exported: tuple[Any, Path]) -> None:
    """In llama.cpp's own layout: the merged file's weight = base + B A, for every module."""
    student, folder = exported
    base = load_model(student.base.spec, dtype="float32", device="cpu").model
    merged = {t.name: t.data for t in gguf.GGUFReader(one(folder, "-f32.gguf")).tensors}
    lora = {t.name: t.data for t in gguf.GGUFReader(one(folder, "-lora-f32.gguf")).tensors}
    layout = layout_of(base.config)
    for module in history_terms(student.adapters):
        name = _gguf_name(module)
        weight = arrange(base.get_submodule(module).weight, module, layout, base.config)
        update = torch.tensor(lora[f"{name}.lora_b"]) @ torch.tensor(lora[f"{name}.lora_a"])
        torch.testing.assert_close(torch.tensor(merged[name]), weight + update)
    assert len(lora) == 2 * len(history_terms(student.adapters))


def _gguf_name(module: str) -> str:
    _, _, layer, _, part = module.split(".")
    parts = {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
    }
    return f"blk.{layer}.{parts[part]}.weight"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(run: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    student, folder = make("gguf", run, tmp_path / "out", dtype=dtype)
    short = {torch.float16: "f16", torch.bfloat16: "bf16"}[dtype]
    lm = load_model(str(one(folder, f"-{short}.gguf")), dtype="float32", device="cpu")
    exact = history_terms(student.adapters)
    base = load_model(student.base.spec, dtype="float32", device="cpu").model
    for name, term in exact.items():
        whole = (base.get_submodule(name).weight + term.B @ term.A).to(dtype)
        assert torch.equal(lm.model.get_submodule(name).weight, whole.float())


def test_llama_3_scaling_goes_along() -> None:
    """The factors that llama.cpp divides by give transformers' frequencies."""
    from steer_heal_love.export.gguf.files import _rope_factors
    from steer_heal_love.lm.model.load import describe

    scaled = {
        "rope_type": "llama3",
        "rope_theta": 10_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    lm = describe(build_model("llama", rope_parameters=scaled), tiny_tokenizer())
    plain = 10_000.0 ** (-torch.arange(0, 8, 2) / 8)
    factors = _rope_factors(lm, lm.model.config)
    torch.testing.assert_close(plain / factors, lm.decoder.rotary_emb.inv_freq)
    assert factors.max() == pytest.approx(8.0)
    assert layout_of(lm.model.config)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("gemma3", {}, r"architecture 'gemma3_text' is not written .*--llama-cpp PATH"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "scaling 'linear'"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8}, "sliding window of 8 tokens"),
    ],
)
def test_what_is_not_written_here_is_refused(kind: Any, changes: Any, words: str) -> None:
    if "rope_parameters" in changes:
        changes["rope_parameters"]["rope_theta"] = 1e4
    with pytest.raises(ConfigError, match=words):
        layout_of(build_model(kind, **changes).config)


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def plan(split: Any, normalizer: Any = None, model: Any = None) -> dict[str, Any]:
    made = tokenizers.Tokenizer(model or tokenizers.models.BPE())
    made.pre_tokenizer = split
    if normalizer is not None:
        made.normalizer = normalizer
    return dict(json.loads(made.to_str()))


def by(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, BYTES])


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (plan(GPT2), "gpt-2"),
        (plan(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), GPT2])), "smollm"),
        (plan(by(LLAMA3)), "llama-bpe"),
        (plan(by(LLAMA3.replace("{1,3}", "")), normalizers.NFC()), "qwen2"),
    ],
)
def test_the_way_of_splitting_has_a_name(found: dict[str, Any], name: str) -> None:
    assert split_name(found) == name


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (plan(by(r"\w+")), "splits text has no name here"),
        (plan(pre_tokenizers.Metaspace()), "splits text has no name here"),
        (plan(pre_tokenizers.ByteLevel(add_prefix_space=True)), "splits text has no name here"),
        (plan(GPT2, normalizers.Lowercase()), "normalises by Lowercase"),
        (plan(GPT2, model=tokenizers.models.Unigram()), "no byte-level BPE"),
        (plan(GPT2, model=tokenizers.models.BPE(byte_fallback=True)), "no byte-level BPE"),
    ],
)
def test_another_tokenizer_is_refused(found: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split_name(found)


def test_rows_without_a_token_are_padded_and_rows_too_few_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    tokens, kinds = token_list(tokenizer, size + 2)
    assert tokens[size:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert kinds[size:] == [gguf.TokenType.UNUSED] * 2
    assert kinds[tokenizer.eos_token_id] == gguf.TokenType.CONTROL
    with pytest.raises(ConfigError, match="do not belong together"):
        token_list(tokenizer, size - 1)


def test_an_adapter_in_gguf_is_no_model(exported: tuple[Any, Path]) -> None:
    _, folder = exported
    for ending in ("-lora-f32.gguf", "-control-vector.gguf"):
        with pytest.raises(ModelError, match="an adapter or a control vector, not a model"):
            load_model(str(one(folder, ending)))


def test_a_refused_model_leaves_nothing(tmp_path: Path) -> None:
    run = write_tiny_run(tmp_path, "gemma3")
    with pytest.raises(ConfigError, match="git clone"):
        make("gguf", run, tmp_path / "deep/out")
    assert not (tmp_path / "deep").exists()


SCRIPT = """\
import pathlib, sys
out = sys.argv[sys.argv.index("--outfile") + 1]
pathlib.Path(out).write_text(" ".join(pathlib.Path(a).name for a in sys.argv))
"""


def test_llama_cpps_own_scripts_are_driven(tmp_path: Path) -> None:
    """With stand-ins for the scripts: the real ones come with llama.cpp's source alone."""
    run, source = write_tiny_run(tmp_path, "gemma3"), tmp_path / "llama.cpp"
    source.mkdir()
    with pytest.raises(ConfigError, match=r"holds no convert_hf_to_gguf.py: give the folder"):
        make("gguf", run, tmp_path / "out", llama_cpp=source)
    for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py"):
        (source / name).write_text(SCRIPT)
    _, folder = make("gguf", run, tmp_path / "out", llama_cpp=source)
    called = one(folder, "-f16.gguf").read_text()
    assert called.startswith("convert_hf_to_gguf.py tiny-kind --outfile")
    assert called.endswith("--outtype f16")
    assert "tiny-kind-lora --base tiny-kind --outfile" in one(folder, "-lora-f32.gguf").read_text()
    assert not list(folder.glob(".converting-*"))


def test_a_script_that_fails_is_quoted(tmp_path: Path) -> None:
    run, source = write_tiny_run(tmp_path, "gemma3"), tmp_path / "llama.cpp"
    source.mkdir()
    for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py"):
        (source / name).write_text("raise SystemExit('no module named sentencepiece')")
    with pytest.raises(ModelError, match=r"failed: no module named sentencepiece: it may need"):
        make("gguf", run, tmp_path / "out", llama_cpp=source)
    assert not (tmp_path / "out").exists()
