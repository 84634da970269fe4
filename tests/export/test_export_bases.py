"""Bases of other forms: FP8, with processors, with a head of their own, with more stop tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import safetensors.torch
import torch
import transformers
from exports import ids, largest_difference, make, student_logits

from export_run import write_run
from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.export.gguf.stops import stop_roles
from steer_heal_love.lm.model.gguf_reading import read_gguf
from steer_heal_love.lm.model.load import find_stop_ids, load_model
from steer_heal_love.lm.model.plain import make_plain
from tiny import Kind, build_model, random_adapter, save_tiny_model, tiny_lm, tiny_tokenizer

BLOCK = 8


def run_on(folder: Path, model: Path) -> Path:
    """A run of one round of the model in that folder."""
    lm = load_model(str(model), dtype="float32", device="cpu")
    return write_run(folder / "run", lm, str(model), [random_adapter(lm, rank=2, alpha=4.0)])


def saved(folder: Path, kind: Kind = "llama", **changes: Any) -> Path:
    """A tiny model with these changes of its configuration."""
    build_model(kind, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def in_fp8(folder: Path) -> Path:
    """The projections of a saved model in fine-grained FP8, as released checkpoints have them."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    stored = {}
    for name, weight in weights.items():
        if not name.endswith("_proj.weight"):
            stored[name] = weight
            continue
        rows, columns = (size // BLOCK for size in weight.shape)
        blocks = weight.view(rows, BLOCK, columns, BLOCK)
        scales = blocks.abs().amax((1, 3)) / 448
        small = (blocks / scales[:, None, :, None]).view(weight.shape)
        stored[name] = small.to(torch.float8_e4m3fn)
        stored[name.replace(".weight", ".weight_scale_inv")] = scales
    safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})
    scheme = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    scheme |= {"weight_block_size": [BLOCK, BLOCK], "modules_to_not_convert": ["lm_head"]}
    edit(folder / "config.json", quantization_config=scheme)
    return folder


@pytest.fixture(scope="module")
def fp8_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp8")
    return run_on(folder, in_fp8(saved(folder / "model")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_in_fp8_is_merged_into_plain_tensors(
    fp8_run: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    student, folder = make("merged", fp8_run, tmp_path / "out", dtype=dtype)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {dtype}
    assert not [name for name in tensors if "scale" in name]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        found = model.eval()(ids()).logits
    bound = 1e-4 if dtype == torch.float32 else 0.5
    assert largest_difference(student_logits(student), found) < bound


def test_weights_that_stay_quantised_are_refused() -> None:
    lm = tiny_lm()
    weight = lm.layers[0].mlp.up_proj.weight
    lm.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        weight.to(torch.float8_e4m3fn), requires_grad=False
    )
    with pytest.raises(ModelError, match=r"of it are quantised \(float8_e4m3fn\).*with --model"):
        make_plain(lm.model, lm.model.config, "it")


SENSES = {
    "preprocessor_config.json": {
        "image_processor_type": "Gemma3ImageProcessor",
        "size": {"height": 28, "width": 28},
        "image_seq_length": 4,
    },
    "processor_config.json": {"processor_class": "Gemma3Processor", "image_seq_length": 4},
}


@pytest.fixture(scope="module")
def gemma_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny Gemma 3 that takes images, with the files that released ones have beside them."""
    folder = tmp_path_factory.mktemp("gemma3")
    model = saved(folder / "model", "gemma3_conditional")
    plain = tiny_tokenizer()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        extra_special_tokens={"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"},
    )
    tokenizer.chat_template = plain.chat_template
    tokenizer.save_pretrained(model)
    edit(model / "tokenizer_config.json", name_or_path="/home/someone", kept="as it was")
    for name, content in SENSES.items():
        (model / name).write_text(json.dumps(content), "utf-8")
    (model / "tokenizer.model").write_bytes(b"stand-in")
    (model / "added_tokens.json").write_text('{"<|im_end|>": 2}', "utf-8")
    return run_on(folder, model)


def test_all_that_loading_needs_goes_along(gemma_run: Path, tmp_path: Path) -> None:
    _, folder = make("merged", gemma_run, tmp_path / "out")
    there = {p.name for p in folder.iterdir()}
    assert {*SENSES, "tokenizer.model", "added_tokens.json", "tokenizer.json"} <= there
    assert (folder / "tokenizer.model").read_bytes() == b"stand-in"
    model, told = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, output_loading_info=True
    )
    assert not told["missing_keys"]
    assert model.model.vision_tower is not None
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "Gemma3Processor"
    assert processor.tokenizer.boi_token == "<boi>"
    own = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    assert (own["kept"], own.get("name_or_path")) == ("as it was", None)
    assert "no file that says how" not in (folder / "README.md").read_text("utf-8")


def test_a_base_without_its_processor_is_told_of(gemma_run: Path, tmp_path: Path) -> None:
    lame = gemma_run.parent / "lame"
    saved(lame, "gemma3_conditional")
    _, folder = make("merged", run_on(tmp_path, lame), tmp_path / "out")
    card = (folder / "README.md").read_text("utf-8")
    assert "takes more than text, and no file that says how was found beside it" in card


SCRIPT = """\
import pathlib, sys
out = sys.argv[sys.argv.index("--outfile") + 1]
pathlib.Path(out).write_text(" ".join(sorted(p.name for p in pathlib.Path(sys.argv[1]).iterdir())))
"""


def test_llama_cpps_scripts_find_the_tokenizer_model(gemma_run: Path, tmp_path: Path) -> None:
    source = tmp_path / "llama.cpp"
    source.mkdir()
    for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py"):
        (source / name).write_text(SCRIPT)
    _, folder = make("gguf", gemma_run, tmp_path / "out", llama_cpp=source)
    (path,) = folder.glob("*-f16.gguf")
    assert {"tokenizer.model", "added_tokens.json", *SENSES} <= set(path.read_text().split())
    card = (folder / "README.md").read_text("utf-8")
    assert "Not checked: llama.cpp did not run here, and transformers does not bear its" in card


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def headed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose file has a head of its own, and whose configuration says it is tied."""
    folder = tmp_path_factory.mktemp(request.param)
    model = saved(folder / "model", request.param, tie_word_embeddings=False)
    edit(model / "config.json", tie_word_embeddings=True)
    return run_on(folder, model)


def test_a_head_of_its_own_is_written_to_gguf(headed: Path, tmp_path: Path) -> None:
    student, folder = make("gguf", headed, tmp_path / "out", dtype=torch.float32)
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    assert "output.weight" in {t.name for t in gguf.GGUFReader(path).tensors}
    model, _ = read_gguf(path)
    with torch.inference_mode():
        found = model.eval()(ids()).logits
    assert largest_difference(student_logits(student), found) < 1e-4


def test_a_merged_configuration_follows_the_head(headed: Path, tmp_path: Path) -> None:
    _, folder = make("merged", headed, tmp_path / "out")
    assert json.loads((folder / "config.json").read_text("utf-8"))["tie_word_embeddings"] is False
    assert "lm_head.weight" in safetensors.torch.load_file(folder / "model.safetensors")


def test_a_tied_head_is_not_written_twice(run: Path, tmp_path: Path) -> None:
    _, folder = make("gguf", run, tmp_path / "gguf")
    (path,) = folder.glob("*-f16.gguf")
    assert "output.weight" not in {t.name for t in gguf.GGUFReader(path).tensors}
    _, folder = make("merged", run, tmp_path / "merged")
    assert json.loads((folder / "config.json").read_text("utf-8"))["tie_word_embeddings"] is True


def tokenizer_that_stops(*more: str) -> Any:
    """The tiny tokenizer with further special tokens, whose template ends a turn with the first."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(more)})
    if more:
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", more[0])
    return tokenizer


@pytest.fixture(scope="module")
def stopping_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, ...]]:
    """Of a model that stops at two tokens besides its tokenizer's end of text."""
    folder = tmp_path_factory.mktemp("stops")
    tokenizer = tokenizer_that_stops("<|stop_here|>", "<|tool_end|>")
    stops = tuple(tokenizer.convert_tokens_to_ids(["<|stop_here|>", "<|tool_end|>"]))
    model = build_model("llama", vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = [*stops, tokenizer.eos_token_id]
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return run_on(folder, folder / "model"), stops


def test_all_stop_tokens_are_in_the_gguf_file(
    stopping_run: tuple[Path, tuple[int, ...]], tmp_path: Path
) -> None:
    run, (turn, tool) = stopping_run
    _, folder = make("gguf", run, tmp_path / "out")
    (path,) = folder.glob("*-f16.gguf")
    reader = gguf.GGUFReader(path)
    ends = [reader.get_field(f"tokenizer.ggml.{r}_token_id").contents() for r in ("eot", "eom")]
    assert ends == [turn, tool]
    lm = load_model(str(path), dtype="float32", device="cpu")
    assert lm.stop_ids == {turn, tool, reader.get_field("tokenizer.ggml.eos_token_id").contents()}


def test_all_stop_tokens_are_in_the_merged_folder(
    stopping_run: tuple[Path, tuple[int, ...]], tmp_path: Path
) -> None:
    run, stops = stopping_run
    _, folder = make("merged", run, tmp_path / "out")
    written = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert set(written) == {*stops, tiny_tokenizer().eos_token_id}


def test_stop_tokens_that_the_configuration_alone_names_are_written(tmp_path: Path) -> None:
    """Programs that serve a model look into generation_config.json for them."""
    model = saved(tmp_path / "model")
    edit(model / "config.json", eos_token_id=[2, 7])
    (model / "generation_config.json").unlink()
    _, folder = make("merged", run_on(tmp_path, model), tmp_path / "out")
    written = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert set(written) == {2, 7}


def test_settings_that_transformers_does_not_write_back_are_settled(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    edit(model / "generation_config.json", temperature=0.6, top_p=0.9, do_sample=False)
    _, folder = make("merged", run_on(tmp_path, model), tmp_path / "out")
    written = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert (written["do_sample"], written["temperature"]) == (True, 0.6)


def test_stop_tokens_beyond_three_are_told_of() -> None:
    names = ("<|a|>", "<|b|>", "<|c|>", "<|eot_id|>")
    tokenizer = tokenizer_that_stops(*names)
    ids = tokenizer.convert_tokens_to_ids([*names, "<|im_end|>"])
    stops = stop_roles(tokenizer, ids)
    assert stops.roles == {"eos": ids[4], "eot": ids[0], "eom": ids[1]}
    assert stops.left_out == ("<|c|>",)  # llama.cpp knows <|eot_id|> by its text
    assert "at <|c|> too" in stops.notes()[0]
    assert stop_roles(tiny_tokenizer(), {2}).notes() == ()


@pytest.mark.parametrize("bias", ["attention_bias", "mlp_bias"])
def test_biases_go_to_gguf_and_come_back(tmp_path: Path, bias: str) -> None:
    model = build_model("llama", **{bias: True})
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    run = run_on(tmp_path, tmp_path / "model")
    student, folder = make("gguf", run, tmp_path / "out", dtype=torch.float32)
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    read, _ = read_gguf(path)
    with torch.inference_mode():
        found = read.eval()(ids()).logits
    assert largest_difference(student_logits(student), found) < 1e-4


def test_llama_3s_rotary_scaling_comes_back(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    run = run_on(
        tmp_path, saved(tmp_path / "model", rope_parameters=scaling, max_position_embeddings=65536)
    )
    student, folder = make("gguf", run, tmp_path / "out", dtype=torch.float32)
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    model, tokenizer = read_gguf(path)
    ours = load_model(student.base.spec, dtype="float32", device="cpu").decoder.rotary_emb.inv_freq
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, ours)
    assert find_stop_ids(model, tokenizer) == {2}


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu' is not written to GGUF here"),
        ("qwen3", {"hidden_act": "relu"}, "activation 'relu'"),
        ("qwen3", {"attention_bias": True}, r"tensor .*q_proj\.bias' has no place in GGUF here"),
        (
            "llama",
            {"attention_bias": True, "head_dim": 16},
            "has 64 numbers, and llama.cpp",
        ),
    ],
)
def test_what_gguf_cannot_hold_is_refused_before_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, changes: Any, words: str
) -> None:
    run = run_on(tmp_path, saved(tmp_path / "model", kind, **changes))

    def too_late(*_: Any) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr("steer_heal_love.export.job.load_model", too_late)
    with pytest.raises(ConfigError, match=f"{words}.*--llama-cpp PATH"):
        make("gguf", run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_in_one_line(tmp_path: Path, say: Callable[..., Any]) -> None:
    run = run_on(tmp_path, saved(tmp_path / "model", hidden_act="gelu"))
    out = ("--to", str(tmp_path / "out"), "--as", "gguf", "--quiet", "--license", "mit")
    done = say("export", str(run), *out)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_a_tiny_model_is_saved_as_before(tmp_path: Path) -> None:
    """A plain base keeps its own names and dtype."""
    model = save_tiny_model(tmp_path / "model")
    _, folder = make("merged", run_on(tmp_path, model), tmp_path / "out")
    names = [set(safetensors.torch.load_file(p / "model.safetensors")) for p in (model, folder)]
    assert names[0] == names[1]
