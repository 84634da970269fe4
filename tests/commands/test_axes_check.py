"""`shl axes check` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from said import Said
from steer_heal_love.checks.axis_validity import Validity
from steer_heal_love.commands.axes_check import _leaning_words
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.records import Interval
from steer_heal_love.verdicts.answers import Verdict
from tiny import save_tiny_model
from tiny_run import axis_data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


def write(folder: Path, **changes: object) -> str:
    file = folder / "mine.toml"
    file.write_text(tomli_w.dumps(axis_data(**changes)), encoding="utf-8")
    return str(file)


def test_the_text_alone_needs_no_model(say: Callable[..., Said]) -> None:
    said = say("axes", "check", "love", "--form-only")
    assert said.code == 0
    assert "axis love" in said.out
    assert "nats" not in said.out


def test_problems_are_told_and_end_in_one(say: Callable[..., Said], tmp_path: Path) -> None:
    said = say("axes", "check", write(tmp_path), "--form-only")
    assert said.code == 1
    assert "problem: neg: has the negation 'not'" in said.out


def test_a_random_model_cannot_express_it(
    say: Callable[..., Said], tmp_path: Path, model: str
) -> None:
    said = say("axes", "check", write(tmp_path), "--model", model)
    assert said.code == 1
    assert "under the positive persona prompt" in said.out
    assert "The persona prompts differ by" in said.out


def test_as_json(say: Callable[..., Said], tmp_path: Path, model: str) -> None:
    said = say("axes", "check", write(tmp_path), "--model", model, "--json")
    found = json.loads(said.out)
    assert found["axis"] == "kind"
    assert found["fit"] is (said.code == 0)
    assert len(found["validity"]["pair_shifts"]) == len(axis_data()["pairs"])
    assert len(found["validity"]["base_pairs"]) == len(axis_data()["pairs"])
    assert {"leans", "drop", "balance"} <= set(found["validity"])
    assert {f["level"] for f in found["findings"]} == {"problem", "note"}


def test_a_base_that_prefers_one_side_is_told() -> None:
    axis = load_axis("love")
    one = Interval(0.7, 0.6, 0.8)
    shifts, base = (0.2,) * len(axis.pairs), (0.1, 0.9, 0.5) + (0.7,) * (len(axis.pairs) - 3)
    lines = _leaning_words(
        axis, Validity(one, one, one, Verdict("yes", {}, one, "", ""), shifts, base)
    )
    assert lines[0].startswith("warning: the base prefers the answers with the trait by 0.70")
    assert "more than half of the 0.20 that lie between the personas" in lines[0]
    assert "drop" not in lines[1]
    assert lines[2].startswith("  pair 2 (+0.90): ")
    few = Validity(one, one, one, Verdict("yes", {}, one, "", ""), shifts, (0.01,) * len(shifts))
    assert _leaning_words(axis, few) == [
        "Unsteered, the base prefers the answers with the trait by 0.70 nats per token."
    ]


def test_pairs_to_drop_are_named_by_their_place_in_the_file() -> None:
    axis = load_axis("love")
    one = Interval(-0.2, -0.3, -0.1)
    shifts, base = (0.2,) * len(axis.pairs), (-9.0,) + (0.0,) * (len(axis.pairs) - 1)
    lines = _leaning_words(
        axis, Validity(one, one, one, Verdict("yes", {}, one, "", ""), shifts, base)
    )
    assert "the answers without it by 0.20" in lines[0]
    assert lines[1].startswith("  drop pairs 1, or write 1 of the ")


def test_a_terminals_commands_in_an_axis_do_not_reach_it(
    say: Callable[..., Said], tmp_path: Path, model: str
) -> None:
    pairs = [{**p, "question": f"\x1b[2J{p['question']}"} for p in axis_data()["pairs"]]
    assert "\x1b" not in say("axes", "check", write(tmp_path, pairs=pairs), "--model", model).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.toml"], "nowhere.toml"),
        (["love", "--model", "./nowhere"], "nowhere"),
        (["love", "--no-such-flag"], "--no-such-flag"),
        (["lvoe"], "did you mean 'love'"),
    ],
)
def test_bad_input_is_one_line(say: Callable[..., Said], arguments: list[str], words: str) -> None:
    said = say("axes", "check", *arguments)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert words in said.err
