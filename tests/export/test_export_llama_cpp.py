"""llama.cpp itself runs the GGUF files: the model, and the adapter on the base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exports import make

from export_run import write_tiny_run
from llama_cpp_server import first_logprobs
from steer_heal_love.export.gguf.files import About, write_model
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.patches.adapters import student as put_on

PROMPT = list(range(3, 27))


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")
    folder = tmp_path_factory.mktemp(request.param)
    run = write_tiny_run(folder, request.param)
    return make("gguf", run, folder / "out", dtype=torch.float32)


def exact(student: Any, *, adapted: bool) -> torch.Tensor:
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    with put_on(lm, student.adapters if adapted else ()), torch.inference_mode():
        return torch.log_softmax(lm.model(torch.tensor([PROMPT])).logits[0, -1], -1)


def close(found: dict[int, float], expected: torch.Tensor) -> bool:
    """llama.cpp keeps keys and values in float16, so its log-probabilities are not exact."""
    return all(abs(expected[i].item() - value) < 0.02 for i, value in found.items())


def test_the_model_is_the_student(exported: tuple[Any, Path]) -> None:
    student, folder = exported
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    found = first_logprobs(path, PROMPT)
    assert len(found) == 5
    assert close(found, exact(student, adapted=True))
    assert not close(found, exact(student, adapted=False))


def test_the_lora_makes_the_base_the_student(exported: tuple[Any, Path], tmp_path: Path) -> None:
    student, folder = exported
    (lora,) = folder.glob("*-lora-f32.gguf")
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    write_model(lm, tmp_path / "base.gguf", About("base", "as it was"), folder)
    assert close(first_logprobs(tmp_path / "base.gguf", PROMPT), exact(student, adapted=False))
    found = first_logprobs(tmp_path / "base.gguf", PROMPT, lora)
    assert close(found, exact(student, adapted=True))
