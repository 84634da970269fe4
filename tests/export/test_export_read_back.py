"""What was written is read again before a figure is stated: what is wrong there leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import safetensors.torch
import torch
from exports import make

from export_run import write_run, write_tiny_run
from steer_heal_love.errors import ModelError
from steer_heal_love.export import as_adapter, as_model
from steer_heal_love.export.read_back import check_direction, check_gguf_tensors
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.records import Direction
from tiny import random_adapter, save_tiny_model


def note_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "steer_heal_love.json").read_text("utf-8"))["measured"])


@pytest.mark.parametrize(
    ("kind", "dtype", "bound"),
    [
        ("peft", None, 1e-6),
        ("merged", torch.float32, 1e-6),
        ("merged", torch.bfloat16, 0.05),
        ("merged", torch.float16, 0.01),
        ("gguf", torch.float32, 1e-6),
        ("gguf", torch.float16, 1e-3),
        ("gguf", torch.bfloat16, 0.05),
    ],
)
def test_the_card_states_what_the_files_compute(
    run: Path, tmp_path: Path, kind: Any, dtype: torch.dtype | None, bound: float
) -> None:
    _, folder = make(kind, run, tmp_path / "out", **({} if dtype is None else {"dtype": dtype}))
    cost = note_of(folder)["fidelity"]
    assert 0 <= cost["mean_kl_nats"] <= bound
    computed = dtype if kind == "merged" and dtype is not None else torch.float32
    assert cost["computed_in"] == str(computed).removeprefix("torch.")
    assert cost["read_by"].startswith("PEFT" if kind == "peft" else "transformers")
    words = f"Read back from its files by {cost['read_by']} and computed in {cost['computed_in']}"
    card = (folder / "README.md").read_text("utf-8")
    assert words in card
    assert ("Not checked: llama.cpp did not run here" in card) is (kind == "gguf")


def test_a_head_of_any_width_is_read_back(qwen_run: Path, tmp_path: Path) -> None:
    """Qwen 3's heads, which transformers takes to be of 128 in any GGUF file."""
    _, folder = make("gguf", qwen_run, tmp_path / "out", dtype=torch.float32)
    assert note_of(folder)["fidelity"]["mean_kl_nats"] < 1e-6


def spoiled(folder: Path) -> None:
    """Halve every matrix of the safetensors files of a folder."""
    for path in folder.glob("*.safetensors"):
        tensors = safetensors.torch.load_file(path)
        changed = {k: t * 0.5 if t.ndim > 1 else t for k, t in tensors.items()}
        safetensors.torch.save_file(changed, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "module", "writer"),
    [("merged", as_model, "save_model"), ("peft", as_adapter, "write_adapter")],
)
def test_files_that_say_something_else_are_refused(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    module: Any,
    writer: str,
) -> None:
    write = getattr(module, writer)

    def meddle(model: Any, folder: Path) -> None:
        write(model, folder)
        spoiled(folder)

    monkeypatch.setattr(module, writer, meddle)
    with pytest.raises(ModelError, match=r"is not what was made: read back by .* nothing is kept"):
        make(kind, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gguf_file_that_says_something_else_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steer_heal_love.export.gguf import files

    monkeypatch.setattr(files, "arrange", lambda tensor, *_: tensor)  # q and k rows left in halves
    with pytest.raises(ModelError, match="is not what was made"):
        make("gguf", run, tmp_path / "out", dtype=torch.float32)
    assert not (tmp_path / "out").exists()


def test_other_stop_tokens_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = as_model.save_model

    def meddle(lm: Any, folder: Path) -> None:
        write(lm, folder)
        path = folder / "generation_config.json"
        content = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**content, "eos_token_id": [2, 5]}), "utf-8")

    monkeypatch.setattr(as_model, "save_model", meddle)
    with pytest.raises(ModelError, match=r"stops at tokens \[2, 5\], and the model at \[2\]"):
        make("merged", run, tmp_path / "out")


def test_another_chat_template_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = as_model.save_model

    def meddle(lm: Any, folder: Path) -> None:
        write(lm, folder)
        template = folder / "chat_template.jinja"
        template.write_text("Now: " + template.read_text("utf-8"), "utf-8")

    monkeypatch.setattr(as_model, "save_model", meddle)
    with pytest.raises(ModelError, match="renders a prompt otherwise"):
        make("merged", run, tmp_path / "out")


def test_numbers_beyond_the_dtype_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every weight fits into float16, and what is computed with them does not."""
    folder = save_tiny_model(tmp_path / "tiny")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    for name in weights:
        if name.endswith(("up_proj.weight", "down_proj.weight", "gate_proj.weight")):
            weights[name] *= 1e4
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    lm = load_model(str(folder), dtype="float32", device="cpu")
    run = write_run(tmp_path / "run", lm, str(folder), [random_adapter(lm)])
    with pytest.raises(ModelError, match=r"in float16, computes NaN or infinity: choose --dtype"):
        make("merged", run, tmp_path / "out", dtype=torch.float16)
    assert not (tmp_path / "out").exists()
    _, folder = make("merged", run, tmp_path / "out", dtype=torch.float32)
    assert note_of(folder)["fidelity"]["mean_kl_nats"] < 1e-2


def test_without_answers_the_axiss_questions_are_asked(tmp_path: Path) -> None:
    run = write_tiny_run(tmp_path, texts=())
    _, folder = make("merged", run, tmp_path / "out")
    assert note_of(folder)["fidelity"]["texts"] == 4
    assert "4 of the axis's questions" in (folder / "README.md").read_text("utf-8")


def test_an_adapter_whose_base_does_not_fit_is_said_to_be_unchecked(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr(as_adapter.psutil, "virtual_memory", lambda: Full)
    _, folder = make("peft", run, tmp_path / "out")
    assert "fidelity" not in note_of(folder)
    card = (folder / "README.md").read_text("utf-8")
    assert "Not checked: the base takes 0.0 GiB in float32, and 0.0 are free here." in card


def written_gguf(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_numbers_are_compared_one_for_one(tmp_path: Path) -> None:
    one, two = torch.arange(8.0), torch.ones(8)
    path = written_gguf(tmp_path / "x.gguf", {"a": one, "b": two})
    check_gguf_tensors(path, [("a", one), ("b", two)])
    for others, words in (
        ([("a", one)], "'b' is in the file and was not written"),
        ([("a", one), ("b", one)], "'b' is not in the file as it was written"),
        ([("a", one), ("b", two), ("c", one)], "'c' is not in the file"),
    ):
        with pytest.raises(ModelError, match=words):
            check_gguf_tensors(path, others)


def test_a_direction_is_compared(tmp_path: Path) -> None:
    safetensors.torch.save_file({"layer.1": torch.ones(4)}, tmp_path / "d")
    check_direction(tmp_path / "d", Direction((1,), torch.ones(1, 4)))
    with pytest.raises(ModelError, match="is not the one that was written"):
        check_direction(tmp_path / "d", Direction((2,), torch.ones(1, 4)))
    (tmp_path / "d").write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be read back"):
        check_direction(tmp_path / "d", Direction((1,), torch.ones(1, 4)))


def test_the_screen_says_who_read_it_back(
    run: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    done = say("export", str(run), "--to", str(tmp_path / "o"), "--as", "gguf", "--device", "cpu")
    assert done.code == 0
    assert "tokens; read back by transformers' reader of GGUF, in float32)" in done.out
    assert "Not checked: llama.cpp did not run here" in done.out
