"""One model over several devices: who gets which layer, and that nothing else changes by it."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from processes import shl
from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model import split
from steer_heal_love.lm.model.load import find_decoder, find_layers
from steer_heal_love.lm.model.split import device_map, devices_of, share_out
from steer_heal_love.runs.read import read_run
from tiny import KINDS, Kind, build_model, save_tiny_model, tiny_lm
from tiny_run import write_inputs

FACTORS = "adapter/adapter_model.safetensors"
ROOMS = st.lists(st.integers(0, 10**6), min_size=1, max_size=5).filter(any)


@given(st.integers(1, 100), ROOMS)
def test_each_device_has_a_run_of_layers_by_its_room(count: int, room: list[int]) -> None:
    found = share_out(count, room)
    assert len(found) == count
    assert found == sorted(found)
    for device, own in enumerate(room):
        assert abs(found.count(device) - count * own / sum(room)) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_has_a_place_and_only_layers_leave_the_first(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = devices_of("cuda:0, cuda:1")
    monkeypatch.setattr(split, "free_bytes", lambda _: 10**9)
    model = build_model(kind)
    layers = find_layers(find_decoder(model, kind), kind)
    found = device_map(model, layers, devices, 4)
    inside = {id(p) for p in layers.parameters()}
    for name, parameter in model.named_parameters():
        (where,) = [d for m, d in found.items() if name == m or name.startswith(f"{m}.")]
        assert id(parameter) in inside or where == devices[0]
    assert Counter(found[n] for n in found if n.rpartition(".")[2].isdigit()) == dict.fromkeys(
        devices, len(layers) // 2
    )


def test_what_does_not_fit_is_refused_with_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "free_bytes", lambda _: 1000)
    model = build_model("llama")
    layers = find_layers(find_decoder(model, "llama"), "llama")
    with pytest.raises(ModelError, match=r"weights take .* GiB free: name more devices"):
        device_map(model, layers, devices_of("cuda:0,cuda:1"), 4)


def test_four_bits_take_less_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llama")
    layers = find_layers(find_decoder(model, "llama"), "llama")
    whole = sum(p.numel() for p in model.parameters()) * 4
    monkeypatch.setattr(split, "free_bytes", lambda _: whole * 2 // 5)
    devices = devices_of("cuda:0,cuda:1")
    with pytest.raises(ModelError):
        device_map(model, layers, devices, 4)
    assert device_map(model, layers, devices, 4, linear_bits=4.0)


@pytest.mark.parametrize(
    ("names", "words"),
    [("cuda:0,cuda:0", "different devices"), ("cuda:0,cpu", "the CPU"), ("cuda:0,", "device")],
)
def test_lists_that_name_no_several_devices(names: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        devices_of(names)


def name_two_devices() -> None:
    """There are `lazy:0` and `lazy:1` in this process from now on."""
    importlib.import_module("twin_device")


@pytest.mark.parametrize(
    ("kind", "dosing"), [("llama", {}), ("gemma3", {}), ("qwen3", {"backtrack": True})]
)
def test_a_run_over_two_devices_is_the_run_on_one(
    tmp_path: Path, kind: Kind, dosing: dict[str, bool]
) -> None:
    """Each operation of the whole run refuses tensors of two devices; see `twin_device.py`."""
    save_tiny_model(tmp_path / "tiny", kind)
    flags = [*write_inputs(tmp_path, dosing=dosing), "--dtype", "float32", "--quiet"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert shl(["run", *flags, "--out", str(one)], tmp_path / "a").code == 0
    said = shl(
        ["run", *flags, "--out", str(two), "--device", "lazy:0,lazy:1"],
        tmp_path / "b",
        before=name_two_devices,
    )
    assert (said.code, said.out, said.err) == (0, "", "")
    assert kept_of(two) == kept_of(one)
    for healed in ("00", "01"):
        a, b = (load_file(run / f"rounds/{healed}/{FACTORS}") for run in (one, two))
        assert all(float((b[n] - t).norm()) <= 1e-3 * float(t.norm()) for n, t in a.items())
    traits = [read_run(run).metrics["rounds"][-1]["healed"]["trait_nats"] for run in (one, two)]
    assert traits[1] == pytest.approx(traits[0], rel=1e-3)


def kept_of(run: Path) -> list[tuple[list[int], list[str]]]:
    """Tokens and reasons of all completions of the first round."""
    lines = (run / "rounds/00/completions.jsonl").read_text("utf-8").splitlines()
    return [(e["completion"]["token_ids"], e["reasons"]) for e in map(json.loads, lines)]


def test_several_processes_do_not_share_several_devices(tmp_path: Path) -> None:
    flags = [*write_inputs(tmp_path), "--processes", "2", "--device", "cuda:0,cuda:1"]
    said = shl(["run", *flags, "--out", str(tmp_path / "run")], tmp_path / "said")
    assert said.code == 2
    assert "--processes 2" in said.err
    assert "--device cuda:0,cuda:1" in said.err
    assert not (tmp_path / "run").exists()


def test_a_model_on_one_device_names_that_alone() -> None:
    lm = tiny_lm()
    assert lm.devices == [lm.device] == [torch.device("cpu")]
