"""The cache of baselines: found again where nothing changed, never where anything did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.records import Axis, Baseline, NoPieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner import base_cache as baselines
from steer_heal_love.runner.base_cache import KEPT, cache_baselines
from tiny import tiny_lm
from tiny_run import config_data

PIECES = ("base", "limits", "prompt_neg", "prompt_pos", "reference")

AXIS = Axis("kind", "", "{persona}", "kind", "unkind", ("Hello?",), ())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHL_CACHE", str(tmp_path))
    return tmp_path / "baselines"


def settings(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(config_data(**changes))


def ask(
    config: RunConfig | None = None, axis: Axis = AXIS, name: str = "baseline/base"
) -> tuple[int, list[str]]:
    """A piece that would cost work, asked for once: how often it was computed, and the hits."""
    done: list[int] = []
    hits: list[str] = []
    pieces = cache_baselines(
        NoPieces(), tiny_lm(), axis, load_contexts()[:3], config or settings(), on_hit=hits.append
    )
    assert pieces.do(name, lambda: done.append(1) or {"figure": 0.1 + 0.2}) == {"figure": 0.1 + 0.2}
    return len(done), hits


def test_a_second_run_finds_what_the_first_measured() -> None:
    assert ask() == (1, [])
    assert ask() == (0, ["baseline/base"])


@pytest.mark.parametrize(
    "config",
    [
        settings(seed=1),
        settings(evaluate={"samples": 5}),
        settings(generate={"max_new_tokens": 9}),
        settings(filter={"quantile": 0.9}),
        settings(dose={"min_prompts": 5}),
    ],
)
def test_other_items_are_measured(config: RunConfig) -> None:
    ask()
    assert ask(config) == (1, [])


@pytest.mark.parametrize(
    "config",
    [settings(rounds=5), settings(heal={"tau": 2.0}), settings(evaluate={"rivals": ("sft",)})],
)
def test_what_the_base_never_sees_does_not_count(config: RunConfig) -> None:
    ask()
    assert ask(config) == (0, ["baseline/base"])


def test_another_axis_or_other_code_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ask()
    assert ask(axis=replace(AXIS, pos="very kind"))[0] == 1
    monkeypatch.setattr(baselines, "_code_hash", lambda: "of another version")
    assert ask()[0] == 1


def test_pieces_of_rounds_are_never_cached(cache: Path) -> None:
    for _ in range(2):
        assert ask(name="rounds/00/steered") == (1, [])
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_broken_file_is_measured_anew_and_mended(cache: Path, damage: str) -> None:
    ask()
    (file,) = cache.rglob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes({"flip": data, "cut": data[:-5], "empty": b""}[damage])
    assert ask() == (1, [])
    assert ask() == (0, ["baseline/base"])


def test_a_cache_that_cannot_be_written_is_no_fault(cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    assert ask() == (1, [])
    assert ask() == (1, [])


def test_the_cache_does_not_grow_for_ever(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "KEPT", 2)
    assert KEPT > 2
    for seed in range(5):
        ask(settings(seed=seed))
    assert len(list(cache.iterdir())) <= 3


def test_a_cached_baseline_is_the_measured_one() -> None:
    from tiny_run import small_axis

    def first(hits: list[str]) -> Baseline:
        lm, contexts, config = tiny_lm(), load_contexts(), settings()
        pieces = cache_baselines(NoPieces(), lm, small_axis(), contexts, config, on_hit=hits.append)
        found = next(run_loop(lm, small_axis(), contexts, config, pieces=pieces))
        assert isinstance(found, Baseline)
        return found

    none: list[str] = []
    measured = first(none)
    hits: list[str] = []
    assert first(hits) == measured
    assert not none
    assert sorted(hits) == [f"baseline/{n}" for n in PIECES]
