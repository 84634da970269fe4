"""Sweeps on a Ray cluster of this machine: placement, lost workers, stopping, searching."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import shl
from steer_heal_love.runs.progress import is_held
from steer_heal_love.runs.read import read_run
from sweep_inputs import events, ledger_of, write_sweep
from tiny_run import outcome

pytestmark = [
    pytest.mark.scale,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "optuna")),
        reason="Ray or Optuna is not installed: make test-scale brings them",
    ),
]


@dataclass(frozen=True)
class Sweeping:
    """`shl sweep` in a process of its own."""

    process: subprocess.Popen[str]
    out: Path

    def wait(self) -> tuple[int, str, str]:
        said, err = self.process.communicate(timeout=1500)
        return self.process.returncode, said, err


Sweep = Callable[..., Sweeping]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    begun: list[Sweeping] = []

    def start(file: Path, *flags: str) -> Sweeping:
        out = tmp_path / "out"
        command = [sys.executable, "-m", "steer_heal_love", "sweep", str(file), "--out", str(out)]
        process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "SHL_CACHE": str(tmp_path / "cache")},
        )
        begun.append(Sweeping(process, out))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float = 900) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return found


def pieces(run: Path) -> dict[str, tuple[int, int]]:
    """The finished pieces of a run, each with what changes when it is written again."""
    found = {}
    for file in (run / "work").rglob("*.safetensors"):
        if "epoch" not in file.name and not file.name.startswith("."):  # those are let go of
            stat = file.stat()
            found[str(file.relative_to(run))] = (stat.st_ino, stat.st_mtime_ns)
    return found


def at_once(out: Path, names: list[str]) -> int:
    """Most trials that were under way at the same time, by their logs."""
    spans = []
    for name in names:
        log = [e for e in read_run(out / name).events() if "time" in e]
        spans.append((log[0]["time"], log[-1]["time"]))
    return max(sum(a <= moment <= b for a, b in spans) for moment, _ in spans)


def test_six_trials_on_two_workers_and_an_impossible_one(tmp_path: Path, sweep: Sweep) -> None:
    file = write_sweep(
        tmp_path,
        grid={"heal.aggregate": ["mean", "rmse"], "seed": [0, 1, 2]},
        list=[{"heal.rank": 0, "name": "impossible"}],
        resources={"cpus": 0.5, "at_once": 2},
    )
    running = sweep(file, "--ray", "local")
    code, said, err = running.wait()
    assert (code, err) == (1, ""), said
    ledger = ledger_of(running.out)
    names = [name for name in ledger if name != "impossible"]
    assert len(names) == 6
    assert all(ledger[name]["state"] == "done" for name in names), said
    assert all(ledger[name]["attempts"] == 1 for name in names)
    assert ledger["impossible"]["state"] == "failed"
    assert "'heal.rank'" in ledger["impossible"]["error"]
    assert at_once(running.out, names) == 2
    assert "7 trials: 6 done, 1 failed" in said
    table = (running.out / "compare.md").read_text("utf-8").replace("\\", "")
    assert all(name in table for name in names)

    alone = ["run", "--config", str(running.out / names[3] / "config.toml"), "--quiet"]
    assert shl([*alone, "--out", str(tmp_path / "alone")], tmp_path / "said", full=True).code == 0
    assert outcome(tmp_path / "alone") == outcome(running.out / names[3])


def test_a_trial_whose_worker_is_killed_goes_on_where_it_was(tmp_path: Path, sweep: Sweep) -> None:
    file = write_sweep(tmp_path, grid={"seed": [0, 1, 2, 3]}, base={"rounds": 2})
    running = sweep(file, "--ray", "local")
    victim = running.out / "seed-0"
    wait_for(lambda: events(victim, "round"))
    worker = int((victim / "lock").read_text("ascii"))
    assert worker != running.process.pid
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(worker))
    before = pieces(victim)
    assert len(before) >= 6  # the baseline and the first round
    assert not events(victim, "done")

    code, said, err = running.wait()
    assert (code, err) == (0, ""), said
    ledger = ledger_of(running.out)
    assert [entry["state"] for entry in ledger.values()] == ["done"] * 4
    assert ledger["seed-0"]["attempts"] == 2
    after = pieces(victim)
    assert {name: after.get(name) for name in before} == before  # nothing was computed twice
    assert len(after) > len(before)
    log = [e["event"] for e in read_run(victim).events()]
    assert log.count("start") == 2
    assert log[-1] == "done"


def test_a_worker_that_is_lost_again_and_again_fails_alone(tmp_path: Path, sweep: Sweep) -> None:
    file = write_sweep(
        tmp_path, grid={"seed": [0, 1]}, base={"rounds": 3}, resources={"retries": 1}
    )
    running = sweep(file, "--ray", "local")
    victim = running.out / "seed-0"
    for times in (1, 2):
        wait_for(lambda n=times: len(events(victim, "start")) == n and is_held(victim / "lock"))
        os.kill(int((victim / "lock").read_text("ascii")), signal.SIGKILL)
        wait_for(lambda: not is_held(victim / "lock"))
    code, said, err = running.wait()
    assert (code, err) == (1, ""), said
    ledger = ledger_of(running.out)
    assert ledger["seed-0"]["error"].startswith("its worker was lost 2 times")
    assert (ledger["seed-0"]["attempts"], ledger["seed-1"]["state"]) == (2, "done")


def test_a_signal_stops_the_workers_and_resume_goes_on(tmp_path: Path, sweep: Sweep) -> None:
    file = write_sweep(tmp_path, grid={"seed": [0, 1]}, base={"rounds": 2})
    running = sweep(file, "--ray", "local")
    for name in ("seed-0", "seed-1"):
        wait_for(lambda name=name: events(running.out / name, "start"))
    children = psutil.Process(running.process.pid).children(recursive=True)
    running.process.send_signal(signal.SIGINT)
    code, said, err = running.wait()
    assert (code, err) == (130, ""), said
    assert "go on with the same command and --resume" in said
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left, "a worker outlives its sweep"
    for name in ("seed-0", "seed-1"):
        assert not is_held(running.out / name / "lock")
        assert events(running.out / name, "interrupted") or events(running.out / name, "done")

    again = sweep(file, "--ray", "local", "--resume")
    code, said, err = again.wait()
    assert (code, err) == (0, ""), said
    assert all(entry["attempts"] == 2 for entry in ledger_of(again.out).values())


@pytest.mark.parametrize(
    ("flags", "resources", "words"),
    [
        (["--ray", "127.0.0.1:9"], {}, "no Ray cluster answers there ([Errno 111]"),
        (["--ray", "nonsense"], {}, "an address is HOST:PORT"),
        (["--ray", "local"], {"cpus": 4096}, "[resources] asks for 4096 cpus"),
    ],
)
def test_what_ray_cannot_give_is_one_line(
    tmp_path: Path, sweep: Sweep, flags: list[str], resources: dict[str, Any], words: str
) -> None:
    running = sweep(write_sweep(tmp_path, grid={"seed": [0]}, resources=resources), *flags)
    code, _, err = running.wait()
    assert code == 2, err
    (line,) = err.splitlines()
    assert words in line
    assert not (running.out / "seed-0").exists()


SPACE = {"heal.lam": {"low": 0.01, "high": 10.0, "log": True}, "heal.rank": [1, 2, 4]}


@pytest.mark.parametrize("objective", ["trait", "front"])
def test_a_search_finds_the_best_and_can_be_extended(
    tmp_path: Path, sweep: Sweep, objective: str
) -> None:
    search = {"samples": 3, "objective": objective, "fields": SPACE, "max_perplexity_ratio": 1e6}
    search |= {"max_loop_excess": 2.0}
    base = {"rounds": 2}
    running = sweep(write_sweep(tmp_path, base=base, search=search), "--search")
    code, said, err = running.wait()
    assert (code, err) == (0, ""), said
    ledger = ledger_of(running.out)
    assert len(ledger) == 3
    for name, entry in ledger.items():
        assert entry["state"] == "done"
        config = read_run(running.out / name).config
        assert config["heal"]["lam"] == entry["varied"]["heal.lam"]
        assert events(running.out / name, "done")
    traits = {
        name: read_run(running.out / name).metrics["rounds"][-1]["healed"]["trait_nats"]
        for name in ledger
    }
    best = max(traits, key=lambda name: traits[name])
    assert f"{best}: trait" in said

    more = write_sweep(tmp_path, base=base, search={**search, "samples": 4})
    again = sweep(more, "--search", "--resume", "--json")
    code, said, err = again.wait()
    assert (code, err) == (0, ""), said
    assert len(ledger_of(again.out)) == 4
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["trial"] for line in lines if line.get("state") == "running"] == [
        name for name in ledger_of(again.out) if name not in ledger
    ]
