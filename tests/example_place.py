"""A folder to run the documentation's examples in: finished runs, and a tiny model as `smollm2`."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest

from steer_heal_love.commands.run import main
from steer_heal_love.lm.model.gguf import cache_dir
from steer_heal_love.lm.model.load import ALIAS
from tiny import save_tiny_model
from tiny_run import write_inputs

RUNS = ("demo", "mine", "one", "two")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds on a tiny random model."""
    return _run_once(tmp_path_factory.getbasetemp())


@cache  # a fixture is one of its own in every module that imports it
def _run_once(root: Path) -> Path:
    folder = root / "example-run"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer_heal_love.runner.carry_out.write_report", lambda _run: [])  # unread
        patch.setenv("SHL_CACHE", str(folder / "cache"))
        assert main([*write_inputs(folder), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_run: Path) -> Path:
    """The working folder, with `runs/…` in it; the alias `smollm2` names the tiny model."""
    save_tiny_model(cache_dir() / "models" / ALIAS)
    for name in RUNS:
        shutil.copytree(finished_run, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
