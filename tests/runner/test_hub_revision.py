"""A hub model is pinned by its commit: where the hub has moved on, that is another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from said import Said, say
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.runs.write import RunDirectory
from tiny import save_tiny_model
from tiny_run import write_inputs

__all__ = ["say"]

HUB_ID = "someone/tiny"
FIRST, SECOND = "1" * 40, "2" * 40


class Hub:
    """A cache of the hub's client with one model in it, offline."""

    def __init__(self, root: Path) -> None:
        self.folder = root / f"models--{HUB_ID.replace('/', '--')}"
        for seed, commit in enumerate((FIRST, SECOND)):
            save_tiny_model(self.folder / "snapshots" / commit, seed=seed)
        self.move(FIRST)

    def move(self, commit: str) -> None:
        refs = self.folder / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(commit)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return Hub(tmp_path / "hub")


def test_a_hub_model_has_its_commit_for_revision(hub: Hub) -> None:
    first = load_model(HUB_ID, device="cpu", dtype="float32")
    hub.move(SECOND)
    second = load_model(HUB_ID, device="cpu", dtype="float32")
    assert [first.identity.revision, second.identity.revision] == [FIRST, SECOND]
    assert bool((first.head.weight != second.head.weight).any())


def test_where_the_hub_moved_on_a_run_does_not(
    hub: Hub, say: Callable[..., Said], tmp_path: Path
) -> None:
    run = str(tmp_path / "run")
    flags = [*write_inputs(tmp_path, rounds=1), "--model", HUB_ID, "--dtype", "float32"]
    assert say("run", *flags, "--out", run, "--quiet").code == 0
    assert RunDirectory(Path(run)).environment()["model"]["revision"] == FIRST
    hub.move(SECOND)
    said = say("resume", run, "--rounds", "2", "--quiet")
    assert said.code == 2
    assert f"is not the one that run {run} was begun with ({FIRST[:19]}" in said.err
    said = say("export", run, "--to", str(tmp_path / "merged"), "--as", "merged")
    assert f"other base weights ({SECOND}) than the run ({FIRST})" in said.out
    said = say("export", run, "--to", str(tmp_path / "adapter"), "--as", "peft")
    assert f"default branch is at commit {SECOND} now" in said.out
    said = say("run", "--from", run, "--out", str(tmp_path / "again"), "--quiet")
    assert "warning: the model is not the one of run" in said.err
    hub.move(FIRST)
    assert say("resume", run, "--rounds", "2", "--quiet").code == 0
