"""`shl sweep` in one process: what it makes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from processes import Ended, convert_slowly, shl, start
from said import Said
from steer_heal_love.lm.model.team import Team
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner import trial
from steer_heal_love.runner.processes import lead_on
from steer_heal_love.runs.read import read_run
from sweep_inputs import events, ledger_of, write_sweep
from tiny import save_tiny_model
from tiny_run import outcome, small_axis

TRIALS = ["aggregate-mean_seed-0", "aggregate-mean_seed-1", "aggregate-rmse_seed-0"]
EXTRA = [
    {"heal.rank": 0, "name": "impossible"},
    {"filter.trait_floor": 1e9, "name": "starved"},
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Four sound trials, an impossible one and one that starves."""
    folder = tmp_path_factory.mktemp("swept")
    file = write_sweep(
        folder, grid={"heal.aggregate": ["mean", "rmse"], "seed": [0, 1]}, list=EXTRA
    )
    return folder, shl(["sweep", str(file), "--out", str(folder / "out")], folder / "said")


def test_each_trial_is_a_run_and_failures_are_told(swept: tuple[Path, Ended]) -> None:
    folder, said = swept
    assert (said.code, said.err) == (1, "")
    ledger = ledger_of(folder / "out")
    states = {name: entry["state"] for name, entry in ledger.items()}
    assert list(states) == [*TRIALS, "aggregate-rmse_seed-1", "impossible", "starved"]
    assert [*states.values()] == ["done"] * 4 + ["failed"] * 2
    assert (
        "key 'heal.rank': input should be greater than or equal to 1"
        in (ledger["impossible"]["error"])
    )
    assert not (folder / "out" / "impossible").exists()
    assert ledger["impossible"]["attempts"] == 0
    assert ledger["starved"]["attempts"] == 1
    assert events(folder / "out" / "starved", "failed")[0]["kind"] == "StarvedRound"
    assert "6 trials: 4 done, 2 failed" in said.out
    for name in TRIALS:
        assert f"{name}: running" in said.out
        assert events(folder / "out" / name, "done")


def test_a_trial_is_the_run_that_shl_run_would_have_made(
    swept: tuple[Path, Ended], tmp_path: Path
) -> None:
    out = swept[0] / "out"
    for name in TRIALS[1:]:  # the model had served another trial before
        config = out / name / "config.toml"
        done = shl(
            ["run", "--config", str(config), "--out", str(tmp_path / name), "--quiet"],
            tmp_path / f"{name}.said",
        )
        assert done.code == 0
        assert outcome(tmp_path / name) == outcome(out / name)


def test_what_is_done_is_set_side_by_side(swept: tuple[Path, Ended]) -> None:
    out = swept[0] / "out"
    table = (out / "compare.md").read_text("utf-8").replace("\\", "")
    assert all(name in table for name in TRIALS)
    assert "starved" not in table
    assert "2 seeds" in table
    assert (out / "comparison.html").stat().st_size > 0
    assert str(out / "compare.md") in swept[1].out


def test_resume_leaves_what_is_done_and_tries_the_rest_again(
    swept: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder = swept[0]
    shutil.copytree(folder / "out", tmp_path / "out")
    again = shl(
        ["sweep", str(folder / "sweep.toml"), "--out", str(tmp_path / "out"), "--resume", "--json"],
        tmp_path / "said",
    )
    lines = [json.loads(line) for line in again.out.splitlines()]
    assert again.code == 1
    assert lines[-1]["event"] == "ended"
    assert (lines[-1]["done"], lines[-1]["failed"]) == (4, 2)
    assert [line["trial"] for line in lines if line.get("state") == "running"] == ["starved"]
    ledger = ledger_of(tmp_path / "out")
    assert [entry["attempts"] for entry in ledger.values()] == [1, 1, 1, 1, 0, 2]


def test_a_signal_stops_cleanly_and_resume_goes_on(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, grid={"seed": [0, 1]}, base={"rounds": 2})
    command = ["sweep", str(file), "--out", str(tmp_path / "out"), "--resume"]
    running = start(command, tmp_path / "first")
    wait_for(lambda: bool(events(tmp_path / "out" / "seed-0", "round")))
    os.kill(running.pid, signal.SIGINT)
    first = running.wait()
    assert (first.code, first.err) == (130, "")
    assert "not finished: 2; go on with the same command and --resume" in first.out
    states = [entry["state"] for entry in ledger_of(tmp_path / "out").values()]
    assert states == ["interrupted", "waiting"]

    second = shl(command, tmp_path / "second")
    assert (second.code, second.err) == (0, "")
    attempts = [entry["attempts"] for entry in ledger_of(tmp_path / "out").values()]
    assert attempts == [2, 1]
    whole = shl(
        [
            *("run", "--config", str(tmp_path / "out" / "seed-0" / "config.toml")),
            *("--out", str(tmp_path / "whole"), "--quiet"),
        ],
        tmp_path / "said",
    )
    assert whole.code == 0
    assert outcome(tmp_path / "out" / "seed-0") == outcome(tmp_path / "whole")


def test_of_two_processes_one_converts_a_model_and_the_other_waits(tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    both = [
        start(["--version"], tmp_path / name, before=convert_slowly, given=(cache, log))
        for name in ("one", "other")
    ]
    assert [process.wait().code for process in both] == [0, 0]
    assert log.read_text().splitlines() == ["converted"]
    assert (cache / "models" / "name" / "config.json").read_text() == "whole"


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


# What is refused


def refused(said: Said, *words: str) -> None:
    assert said.code == 2, said
    (line,) = said.err.splitlines()
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("tables", "flags", "words"),
    [
        ({"grid": {"seed": [0]}}, ["--search"], ["has no [search]"]),
        ({"search": {"fields": {"seed": [0, 1]}}}, [], ["only a [search]: add --search"]),
        ({"grid": {"heal.rank": [0, -1]}}, [], ["no trial can be begun", "'heal.rank'"]),
        (
            {"list": [{"heal.rank": 16, "name": "a"}, {"name": "b"}]},
            [],
            ["trials a and b are the same"],
        ),
        ({"base": {"trust_remote_code": True}, "list": [{}]}, [], ["--trust-remote-code"]),
        ({"grid": {"seed": [0]}}, ["--out"], ["--out"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    say: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: dict[str, Any],
    flags: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    refused(say("sweep", "mine.toml", *flags), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_folder_of_something_else_is_let_be(
    say: Callable[..., Said], swept: tuple[Path, Ended], tmp_path: Path
) -> None:
    out = swept[0] / "out"
    before = sorted(path for path in out.rglob("*"))
    file = str(swept[0] / "sweep.toml")
    refused(say("sweep", file, "--out", str(out)), "holds a sweep already: add --resume")
    other = write_sweep(tmp_path, grid={"seed": [0]})
    refused(say("sweep", str(other), "--out", str(out), "--resume"), "begun with another file")
    run = str(out / TRIALS[0])
    refused(say("sweep", file, "--out", run), "holds no sweep: choose another --out")
    assert sorted(path for path in out.rglob("*")) == before


@pytest.mark.parametrize("flags", [["--ray", "local"], ["--search"]])
def test_without_the_extra_one_line_says_what_to_install(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    tables = {"grid": {"seed": [0]}, "search": {"fields": {"seed": [0, 1]}}}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    words = ["needs ray: pip install 'steer-heal-love[scale]'", flags[0]]
    refused(say("sweep", "mine.toml", *flags), *words)
    assert not (tmp_path / "runs").exists()


def test_one_sweep_at_a_time(say: Callable[..., Said], swept: tuple[Path, Ended]) -> None:
    import fcntl

    out = swept[0] / "out"
    with (out / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = say("sweep", str(swept[0] / "sweep.toml"), "--out", str(out), "--resume")
    refused(said, "is in use by process")


def test_a_changed_trial_is_not_gone_on_with(
    say: Callable[..., Said], swept: tuple[Path, Ended], tmp_path: Path
) -> None:
    """A run that lies where a trial belongs and is not it is left as it is."""
    write_sweep(tmp_path, grid={"seed": [0, 1]})
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(tmp_path / "sweep.toml", out / "sweep.toml")
    shutil.copytree(swept[0] / "out" / TRIALS[2], out / "seed-0")
    shutil.copytree(swept[0] / "out" / TRIALS[2], out / "seed-1")
    said = say("sweep", str(tmp_path / "sweep.toml"), "--out", str(out), "--resume", "--quiet")
    assert (said.code, said.out) == (1, "")
    errors = [entry["error"] for entry in ledger_of(out).values()]
    assert all("was begun with" in error for error in errors)
    assert read_run(out / "seed-1").config["heal"]["aggregate"] == "rmse"


def test_each_trial_is_computed_in_the_shards_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_loaded", {})
    folder = str(save_tiny_model(tmp_path / "tiny"))
    asked = [RunConfig(model=folder, shards=n) for n in (3, 1)]
    screen = trial.TrialScreen(lambda: None)
    models = [lead_on(Team(), s, small_axis(), screen, trial._model_for) for s in asked]
    assert [lm.team.shards for lm in models] == [3, 1]
    assert models[0].model is models[1].model
