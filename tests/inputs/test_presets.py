"""The presets are settings that hold, and say where their numbers come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from said import Said, say
from steer_heal_love.commands.run import RunArguments
from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.inputs.presets import builtin_presets, load_preset, merge_over
from steer_heal_love.runner.settings import load_config
from steer_heal_love.terminal.flags import parse

__all__ = ["say"]

NAMES = ("gemma-3-1b-it", "gemma-3-4b-it", "qwen3-4b", "smollm2")
values = st.dictionaries(
    st.sampled_from("abc"),
    st.integers() | st.dictionaries(st.sampled_from("xyz"), st.integers(), max_size=3),
    max_size=3,
)


def test_these_are_there() -> None:
    assert builtin_presets() == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_settings_with_sources(name: str) -> None:
    preset = load_preset(name)
    config = load_config(None, name)
    assert config.model == preset.settings["model"]
    assert load_axis(config.axis).name == config.axis
    assert preset.description
    assert preset.sources
    assert config.rounds == preset.settings["rounds"]


def test_the_published_settings() -> None:
    config = load_config(None, "gemma-3-4b-it")
    assert (config.axis, config.rounds) == ("care-over-authority", 8)
    assert (config.heal.aggregate, config.heal.reference) == ("rmse", "base")
    assert (config.heal.tau, config.heal.lam) == (0.5, 0.3)
    assert (config.heal.rank, config.heal.epochs, config.heal.learning_rate) == (32, 6, 1e-4)


def test_the_demo_is_the_preset_of_its_model() -> None:
    """The Makefile's flags and the preset say the same."""
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    flags = re.search(r"^DEMO_ARGS := run (.+)$", makefile, re.MULTILINE)
    assert flags is not None
    given_flags = parse(RunArguments, flags[1].split(), "shl run", RunArguments(load_config(None)))
    assert given_flags.settings == load_config(None, "smollm2")


def test_letters_of_either_case() -> None:
    assert load_preset("Qwen3-4B") == load_preset("qwen3-4b")


def test_an_unknown_one_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gemma-3-4b-it'"):
        load_preset("gemma-3-4b")


def test_a_config_file_beats_the_preset_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("rounds = 2\n[heal]\ntau = 0.7\n", encoding="utf-8")
    config = load_config(file, "gemma-3-4b-it")
    assert (config.rounds, config.heal.tau) == (2, 0.7)
    assert (config.heal.rank, config.model) == (32, "google/gemma-3-4b-it")


def test_a_flag_beats_both(say: Any, tmp_path: Path) -> None:
    said: Said = say("run", "--preset", "gemma-3-4b-it", "--rounds", "0")
    assert said.code == 2
    assert "--rounds" in said.err


def test_a_repeated_run_takes_no_preset(say: Any) -> None:
    said: Said = say("run", "--from", "somewhere", "--preset", "smollm2")
    assert said.code == 2
    assert "--preset cannot be combined with --from" in said.err


def test_the_command_lists_and_shows(say: Any) -> None:
    said: Said = say("presets")
    assert said.code == 0
    assert all(name in said.out for name in NAMES)
    said = say("presets", "show", "smollm2")
    assert said.out == load_preset("smollm2").text
    assert say("presets", "hide").code == 2
    assert "usage: shl presets" in say("presets", "--help").out


@given(values, values)
def test_merged_settings_hold_both(above: dict[str, Any], below: dict[str, Any]) -> None:
    merged = merge_over(above, below)
    assert set(merged) == set(above) | set(below)
    for key, value in above.items():
        if isinstance(value, dict):
            assert value.items() <= merged[key].items()
        else:
            assert merged[key] == value
    assert merge_over(above, {}) == above
    assert merge_over({}, below) == below
