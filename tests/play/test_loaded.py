"""A run as it is loaded to talk to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from play_run import DOSES, load_play_run, some_direction, write_play_run
from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.play.loaded import Loaded, load_run
from steer_heal_love.runs.read import read_run


def test_a_round_has_the_direction_and_dose_that_it_was_healed_from(loaded: Loaded) -> None:
    assert loaded.rounds == 3
    for round_index, source in enumerate((0, 0, 1, 2)):
        found = loaded.direction(round_index)
        assert torch.equal(found.vectors, some_direction(source).vectors)
        assert loaded.dose(round_index) == DOSES[source]


@pytest.mark.parametrize("round_index", [-1, 4])
def test_a_round_that_is_not_there_is_refused(loaded: Loaded, round_index: int) -> None:
    with pytest.raises(ConfigError, match=r"from 0 \(the base model\) to 3"):
        loaded.check_round(round_index)


def test_a_run_without_a_finished_round_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no finished round yet.*shl watch"):
        load_play_run(tmp_path, rounds=0)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"round": 0, "dose": 1.0}, {"round": 2, "dose": 1.0}], r"rounds \[0, 2\]"),
        ([{"round": 0}], "no dose for round 0"),
        ([{"round": 0, "dose": "high"}], "no dose for round 0"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(
    tmp_path: Path, entries: list[dict[str, object]], words: str
) -> None:
    path = write_play_run(tmp_path)
    (path / "metrics.json").write_text(json.dumps({"schema": 2, "rounds": entries}))
    lm = load_model(str(tmp_path / "tiny"), device="cpu")
    with pytest.raises(RunError, match=words):
        load_run(lm, read_run(path))


@pytest.mark.parametrize("file", ["direction.safetensors", "adapter/adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    path = write_play_run(tmp_path, rounds=2)
    (path / "rounds/01" / file).unlink()
    lm = load_model(str(tmp_path / "tiny"), device="cpu")
    with pytest.raises(RunError, match="rounds/01"):
        load_run(lm, read_run(path))
