"""A direction read on the fly, and the cache that it is kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.gguf import cache_dir
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.play import directions
from steer_heal_love.play.directions import find_direction
from steer_heal_love.stages.steer import SteerConfig, extract_direction
from tiny import tiny_lm

CONFIG = SteerConfig(contexts=4)
CONTEXTS = load_contexts()


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_lm()


def files() -> list[Path]:
    return sorted((cache_dir() / "directions").glob("*"))


def test_it_is_read_once_and_the_same_to_the_bit(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    axis = load_axis("love")
    first, known = find_direction(lm, axis, CONTEXTS, CONFIG)
    assert not known
    expected = extract_direction(lm, axis, CONTEXTS, CONFIG)
    assert torch.equal(first.vectors, expected.vectors)

    def refuse(*_arguments: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(directions, "extract_direction", refuse)
    again, known = find_direction(lm, axis, CONTEXTS, CONFIG)
    assert known
    assert again.layers == first.layers
    assert torch.equal(again.vectors, first.vectors)


def test_what_it_depends_on_is_in_its_name(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    axis = load_axis("love")
    find_direction(lm, axis, CONTEXTS, CONFIG)
    other_model = replace(lm, identity=replace(lm.identity, revision="other"))
    for model, persona, contexts, config in (
        (other_model, axis, CONTEXTS, CONFIG),
        (lm, replace(axis, pos="someone who likes trains"), CONTEXTS, CONFIG),
        (lm, axis, CONTEXTS[7:], CONFIG),
        (lm, axis, CONTEXTS, SteerConfig(contexts=4, band_low=0.2)),
    ):
        assert not find_direction(model, persona, contexts, config)[1]
    monkeypatch.setattr(directions, "_code_hash", lambda: "of another version")
    assert not find_direction(lm, axis, CONTEXTS, CONFIG)[1]
    assert len(files()) == 6
    assert find_direction(lm, replace(axis, probes=("Hi",)), CONTEXTS, CONFIG)[1]


def test_a_broken_one_is_read_anew(lm: LanguageModel) -> None:
    axis = load_axis("love")
    first, _ = find_direction(lm, axis, CONTEXTS, CONFIG)
    (file,) = files()
    file.write_bytes(file.read_bytes()[:-7])
    again, known = find_direction(lm, axis, CONTEXTS, CONFIG)
    assert not known
    assert torch.equal(again.vectors, first.vectors)
    assert find_direction(lm, axis, CONTEXTS, CONFIG)[1]


def test_a_cache_that_cannot_be_written_is_done_without(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHL_CACHE", str(tmp_path / "file"))
    assert find_direction(lm, load_axis("love"), CONTEXTS, CONFIG)[0].layers


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "KEPT", 2)


@pytest.mark.usefixtures("few")
def test_the_oldest_go(lm: LanguageModel) -> None:
    axis = load_axis("love")
    for count in (2, 3, 4):
        find_direction(lm, axis, CONTEXTS, SteerConfig(contexts=count))
    assert len(files()) == 2
    assert find_direction(lm, axis, CONTEXTS, SteerConfig(contexts=4))[1]
    assert not find_direction(lm, axis, CONTEXTS, SteerConfig(contexts=2))[1]
