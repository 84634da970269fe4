"""GGUF files of strangers: read with all that is in them, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import EXAMPLES, FUZZ, refusal
from steer_heal_love.errors import ModelError
from steer_heal_love.export.gguf.files import About, write_model
from steer_heal_love.lm.model.gguf import convert_gguf
from steer_heal_love.lm.model.gguf_reading import open_gguf, read_gguf
from steer_heal_love.lm.model.load import describe, load_model
from tiny import build_model, tiny_tokenizer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in a GGUF file."""
    folder = tmp_path_factory.mktemp("gguf")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    lm = describe(build_model("llama"), tokenizer)
    write_model(lm, folder / "tiny.gguf", About("tiny", "a test"), folder)
    return folder / "tiny.gguf"


def test_the_suffix_may_be_in_capitals(file: Path, tmp_path: Path) -> None:
    loud = tmp_path / "TINY.GGUF"
    loud.write_bytes(file.read_bytes())
    assert load_model(str(loud), dtype="float32", device="cpu").stop_ids == {2}


def test_a_cache_that_cannot_be_written_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("SHL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"cache cannot be written: .*: set SHL_CACHE to a folder"):
        convert_gguf(file, "tiny")


def test_a_weight_that_is_not_in_the_file_is_named(file: Path, tmp_path: Path) -> None:
    """transformers would make one up."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(tmp_path / "less.gguf", "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            kinds = field.types
            sub_type = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=sub_type)
    for tensor in reader.tensors:
        if tensor.name != "blk.1.ffn_up.weight":
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"1 weight\(s\) are not in it \(first: .*up_proj"):
        read_gguf(tmp_path / "less.gguf")


def mutated(data: bytes, draw: st.DataObject, end: int) -> bytes:
    """The bytes with a few of the first `end` changed, cut out or doubled."""
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, end))
        to = draw.draw(st.integers(at, min(end, at + 12)))
        put = draw.draw(st.binary(min_size=to - at, max_size=to - at) | st.binary(max_size=3))
        data = data[:at] + put + data[to:]
    return data


@FUZZ
@given(st.data())
def test_any_gguf_is_opened_or_refused(
    file: Path, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "opened.gguf"
    path.write_bytes(mutated(file.read_bytes(), draw, 1200))
    said = refusal(lambda: open_gguf(path))
    assert not said or "GGUF file" in said


@pytest.mark.faults
@settings(FUZZ, max_examples=max(20, EXAMPLES // 20))  # half a second each
@given(st.data())
def test_any_gguf_is_read_or_refused(
    file: Path, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "read.gguf"
    path.write_bytes(mutated(file.read_bytes(), draw, 1200))
    said = refusal(lambda: read_gguf(path, torch.float32))
    assert not said or "GGUF file" in said
