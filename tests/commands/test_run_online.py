"""`shl run --method online` on a tiny model: its records, files, resume and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from said import Said, refused
from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.records import Baseline, OnlineStep, RoundRecord
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.write import RunDirectory
from tiny import tiny_lm
from tiny_run import config_data, outcome, small_axis, write_inputs

ONLINE = {"steps": 6, "batch_size": 4, "max_new_tokens": 6, "rank": 2, "learning_rate": 0.01}


def test_a_round_is_so_many_steps_and_then_measured() -> None:
    config = RunConfig.model_validate(config_data(method="online", online=ONLINE))
    lm = tiny_lm()
    before = {name: p.clone() for name, p in lm.model.state_dict().items()}
    baseline, *rounds = run_loop(lm, small_axis(), load_contexts()[:12], config)
    assert isinstance(baseline, Baseline)
    assert len(rounds) == 2
    last = 0.0
    for record in rounds:
        assert isinstance(record, RoundRecord)
        steps = record.healed_result.steps
        assert [s.step for s in steps] == list(range(6))
        assert all(isinstance(s, OnlineStep) for s in steps)
        assert record.total == 4  # the last piece has one step
        assert record.effort is None
        assert not record.rivals
        assert {"steer", "heal", "evaluate"} <= record.cost.keys()
        assert steps[0].gamma != last  # the tilt goes on where the round before left it
        last = 8.0
    after = lm.model.state_dict()
    assert all(torch.equal(p, after[name]) for name, p in before.items())
    assert not lm.patches


def test_a_run_writes_its_page_and_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[..., Said]
) -> None:
    flags = write_inputs(tmp_path, online=ONLINE, rounds=1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["run", *flags, "--method", "online", "--quiet"]
    said = say(*arguments, "--out", str(whole))
    assert said.code == 0, said
    lines = (whole / "rounds/00/heal.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))
    assert (whole / "report.html").is_file()

    do = RunDirectory.do

    def killed(self: RunDirectory, name: str, compute: object) -> object:
        if name.endswith("epoch-01"):
            raise RunError("killed")
        return do(self, name, compute)  # type: ignore[arg-type]

    monkeypatch.setattr("steer_heal_love.runner.carry_out.write_report", lambda _run: [])
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "do", killed)
        assert say(*arguments, "--out", str(cut)).code != 0
    assert say("resume", str(cut), "--quiet").code == 0
    assert outcome(cut) == outcome(whole)


@pytest.mark.parametrize(
    "bad",
    [
        ("--online.gamma", "-1"),
        ("--online.clip", "0"),
        ("--online.persona-share", "1.5"),
        ("--online.steered-share", "0.9"),
        ("--method", "onlin"),
    ],
)
def test_bad_settings_get_one_line(
    tmp_path: Path, bad: tuple[str, str], say: Callable[..., Said]
) -> None:
    refused(say("run", *write_inputs(tmp_path), "--out", str(tmp_path / "run"), *bad))
    assert not (tmp_path / "run").exists()
