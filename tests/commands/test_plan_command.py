"""`shl plan`: a table, JSON, and one line where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from said import Said, refused
from steer_heal_love.budget.texts import USUAL
from steer_heal_love.commands.plan import PlanArguments, duration, shape_of
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.run_config import RunConfig
from tiny import save_tiny_model

Say = Callable[..., Said]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_tiny_model(tmp_path / "model"))


def test_a_plan_names_every_stage_and_the_peak(say: Say, model: str) -> None:
    said = say("plan", "--model", model, "--device", "cpu")
    assert said.code == 0
    for word in ("load", "baseline", "steer", "generate", "heal", "evaluate", "◀"):
        assert word in said.out
    assert "It fits" in said.out
    assert "On the disk" in said.out
    assert "online" not in said.out


def test_what_is_not_planned_of_an_online_run_is_said(say: Say, model: str) -> None:
    online = say("plan", "--model", model, "--device", "cpu", "--method", "online")
    assert "what an online step takes is not known" in online.out


def test_json_adds_up(say: Say, model: str) -> None:
    said = say("plan", "--model", model, "--gpus", "2xH100", "--json", "--rounds", "3")
    found = json.loads(said.out)
    assert found["fits"] is True
    assert found["flags"][-2:] == ["--processes", "2"]
    assert found["peak_bytes"] == max(m["bytes"] for m in found["moments"])
    assert all(m["bytes"] == sum(m["terms"].values()) for m in found["moments"])
    assert set(found["seconds"]) == {"baseline", "steer", "generate", "heal", "evaluate"}
    assert found["disk_bytes"] > 0


def test_a_plan_needs_no_weights_and_says_where_there_is_no_room(say: Say, model: str) -> None:
    for file in Path(model).glob("*.safetensors"):
        file.write_bytes(b"")
    said = say("plan", "--model", model, "--gpus", "1x0.4GiB")
    assert said.code == 0
    assert "It does not fit" in said.out  # the driver alone takes more
    assert "shl run" not in said.out
    assert "rounds of about" not in said.out  # of a GPU known by its memory no speed is known


def test_a_named_size_needs_no_file() -> None:
    given = PlanArguments(RunConfig(), size="135m")
    lm, texts = shape_of(given, load_axis("love"), torch.bfloat16)
    assert lm.identity.name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert lm.identity.parameters == 134_515_008
    assert texts == USUAL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "5B"), "there are 135M"),
        (("--size", "1B", "--gpus", "nothing"), "no GPU 'nothing' is known"),
        (("--model", "nobody/no-such-model-here"), "or name a --size"),
        (("--size", "1B", "--device", "cpu", "--quantize", "4bit"), "needs a CUDA device"),
        (("--size", "1B", "--heal.targets", "no_such_module"), "no module named no_such_module"),
        (("--no-such-flag",), "unknown option --no-such-flag"),
    ],
)
def test_a_mistake_is_one_line(say: Say, arguments: tuple[str, ...], words: str) -> None:
    refused(say("plan", *arguments), words)


def test_times_are_in_the_unit_that_suits() -> None:
    assert [duration(s) for s in (None, 0.2, 99, 600, 7200)] == [
        "",
        "1 s",
        "99 s",
        "10 min",
        "2.0 h",
    ]
