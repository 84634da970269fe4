"""Weights that are not in the files, or stand there under another name, are never made up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import load_model
from tiny import save_tiny_model

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def changed(folder: Path, change: Change) -> Path:
    """A tiny model whose file of weights has been changed."""
    path = save_tiny_model(folder / "model") / "model.safetensors"
    weights = change(safetensors.torch.load_file(path))
    safetensors.torch.save_file(weights, path, {"format": "pt"})
    return path.parent


@pytest.mark.parametrize("prefix", ["_orig_mod.", "base_model.model.", "module."])
def test_the_names_of_a_wrapped_model_are_unwrapped(tmp_path: Path, prefix: str) -> None:
    plain = load_model(str(save_tiny_model(tmp_path / "plain")), dtype="float32").model
    folder = changed(tmp_path, lambda w: {prefix + name: v for name, v in w.items()})
    wrapped = load_model(str(folder), dtype="float32").model.state_dict()
    assert all(torch.equal(wrapped[name], value) for name, value in plain.state_dict().items())


def without_a_layer(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if "layers.3." not in name}


def with_lora_inside(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("q_proj.weight", "q_proj.base_layer.weight"): value
        for name, value in weights.items()
    }


def narrower(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v[:, :16].clone() if "up_proj" in n else v for n, v in weights.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_layer, r"9 weight\(s\) are not in its files \(first: model.layers.3"),
        (with_lora_inside, r"4 weight\(s\) are not .*q_proj.weight\), and 4 in them belong to"),
        (narrower, r"4 weight\(s\) have another shape .*\[48, 16\] in place of \[48, 32\]"),
    ],
)
def test_what_is_missing_is_told_and_nothing_is_loaded(
    tmp_path: Path, change: Change, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(str(changed(tmp_path, change)), dtype="float32")


def test_what_the_model_has_no_place_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(tmp_path, lambda w: {**w, "value_head.weight": torch.zeros(1, 32)})
    with caplog.at_level(logging.WARNING, "steer_heal_love"):
        load_model(str(folder), dtype="float32")
    assert "1 weight(s) of its files are not used (first: value_head.weight)" in caplog.text
