"""A direction read by repeng and by steering-vectors, and what those libraries then compute."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from exports import ids, largest_difference, make
from safetensors.torch import load_file

from steer_heal_love.export.as_vector import layer_notes
from steer_heal_love.export.gguf.files import About, write_control_vector
from steer_heal_love.export.student import Student
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.records import Direction

DOSE = 1.5


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, Path]:
    return make("vector", run, tmp_path_factory.mktemp("vector") / "out")


def steered(student: Student) -> torch.Tensor:
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    with steering(lm, student.direction(), DOSE), torch.inference_mode():
        return torch.as_tensor(lm.model(ids()).logits)


def plain(student: Student) -> Any:
    spec = student.base.spec
    model = transformers.AutoModelForCausalLM.from_pretrained(spec, dtype=torch.float32)
    return model.eval().requires_grad_(False)


@pytest.fixture
def repeng(monkeypatch: pytest.MonkeyPatch) -> Any:
    """repeng, which asks numpy 2 for a type by its old name."""
    if importlib.util.find_spec("repeng") is None:
        pytest.skip("repeng is not installed: pip install --no-deps repeng")
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    import repeng as found

    return found


def test_repeng_reads_the_same_vector(exported: tuple[Student, Path], repeng: Any) -> None:
    student, folder = exported
    (path,) = folder.glob("*-control-vector.gguf")
    found = repeng.ControlVector.import_gguf(path)
    direction = student.direction()
    assert found.model_type == "llama"
    assert tuple(found.directions) == direction.layers
    for layer, vector in zip(direction.layers, direction.vectors, strict=True):
        assert np.array_equal(found.directions[layer], vector.numpy())


def test_repeng_writes_what_is_written_here(
    exported: tuple[Student, Path], repeng: Any, tmp_path: Path
) -> None:
    (path,) = exported[1].glob("*-control-vector.gguf")
    found = repeng.ControlVector.import_gguf(path)
    found.export_gguf(tmp_path / "again.gguf")
    assert repeng.ControlVector.import_gguf(tmp_path / "again.gguf") == found


def test_steering_vectors_steers_as_the_package_does(exported: tuple[Student, Path]) -> None:
    if importlib.util.find_spec("steering_vectors") is None:
        pytest.skip("steering-vectors is not installed: pip install --no-deps steering-vectors")
    from steering_vectors import SteeringVector

    student, folder = exported
    tensors = load_file(folder / "direction.safetensors")
    layers = {int(name.removeprefix("layer.")): v for name, v in tensors.items()}
    model = plain(student)
    with SteeringVector(layers).apply(model, multiplier=DOSE), torch.inference_mode():
        found = model(ids()).logits
    assert largest_difference(found, steered(student)) < 1e-4
    assert largest_difference(found, model(ids()).logits) > 0.1


def test_layer_0_is_told_of(tmp_path: Path) -> None:
    assert layer_notes((1, 2)) == ()
    assert "llama.cpp refuses the file" in layer_notes((0, 1))[0]
    direction = Direction((0,), torch.ones(1, 4))
    write_control_vector(direction, "llama", tmp_path / "v.gguf", About("n", "d"))
    assert (tmp_path / "v.gguf").stat().st_size > 0
