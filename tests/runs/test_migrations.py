"""Runs of older versions are read as if this one had written them; newer ones are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from steer_heal_love.errors import RunError
from steer_heal_love.runs.migrations import SCHEMA, STEPS, known_schema, migrate, refuse_newer

OLD = {"rounds": 2, "evaluate": {"mfv": "bundled", "samples": 4}}


def test_there_is_a_step_from_each_older_schema() -> None:
    assert sorted(STEPS) == list(range(1, SCHEMA))


def test_a_setting_that_was_renamed_is_read_under_its_new_name() -> None:
    before = copy.deepcopy(OLD)
    assert migrate("config.toml", OLD, 1) == {
        "rounds": 2,
        "evaluate": {"mfv": "own", "samples": 4},
    }
    assert before == OLD  # what was given is left as it is


@pytest.mark.parametrize("mfv", ["own", "off", "package"])
def test_what_is_new_already_stays(mfv: str) -> None:
    """A kill can come between the files of a run while it is brought up to date."""
    config = {"evaluate": {"mfv": mfv}}
    assert migrate("config.toml", config, 1) == config


def test_the_present_schema_is_left_alone() -> None:
    assert migrate("config.toml", OLD, SCHEMA) == OLD


@pytest.mark.parametrize("content", [{}, {"evaluate": 5}, {"evaluate": {}}, {"evaluate": None}])
def test_broken_settings_are_not_mended(content: dict[str, Any]) -> None:
    assert migrate("config.toml", content, 1) == content


def test_metrics_bear_the_new_number() -> None:
    found = migrate("metrics.json", {"schema": 1, "rounds": []}, 1)
    assert found == {"schema": SCHEMA, "rounds": []}


def test_newer_ones_are_refused() -> None:
    with pytest.raises(RunError, match=rf"newer version \(schema {SCHEMA + 1}.*upgrade"):
        refuse_newer(SCHEMA + 1, "x")
    for schema in (SCHEMA, 1, None, "9", True, 99.0):
        refuse_newer(schema, "x")
    assert [known_schema(s) for s in (1, SCHEMA, 0, SCHEMA + 1, True, "1")] == [
        *(1, SCHEMA),
        *(None,) * 4,
    ]
