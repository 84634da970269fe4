"""A run that several processes share: the same, to the bit, as one that one process computes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import processes
from processes import Ended, Running, shl, start
from steer_heal_love.runs.write import RunDirectory
from tiny_run import outcome, write_inputs

# Long and short texts, so that shards differ; backtracking and rivals are off.
CHANGES: dict[str, Any] = {
    "rounds": 2,
    "shards": 2,
    "evaluate": {"long_samples": 2, "long_tokens": 40},
}


@dataclass(frozen=True)
class Alone:
    """A run of two shards that one process computed."""

    flags: list[str]
    path: Path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    flags = [*write_inputs(folder, **CHANGES), "--quiet"]
    said = shl(["run", *flags, "--out", str(folder / "whole")], folder / "said")
    assert (said.code, said.err) == (0, "")
    return Alone(flags, folder / "whole")


def begin(
    arguments: list[str], folder: Path, count: int = 2, free: Sequence[int] = ()
) -> list[Running]:
    """Start the command in so many processes, as a launcher would.

    Args:
        free: bytes of memory that each of them finds; as it is unless given.
    """
    folder.mkdir()
    place = {"WORLD_SIZE": str(count), "SHL_RENDEZVOUS": str(folder / "meeting")}
    place |= {"GLOO_SOCKET_IFNAME": "lo"}
    started = []
    for rank in range(count):
        faults: list[Any] = [(processes.set_environment, ({**place, "RANK": str(rank)},))]
        faults += [(processes.leave_free, (memory,)) for memory in free[rank : rank + 1]]
        said = folder / f"process-{rank}"
        started.append(start(arguments, said, before=processes.in_turn, given=tuple(faults)))
    return started


def ended(running: list[Running]) -> list[Ended]:
    return [r.wait() for r in running]


def test_two_processes_find_what_one_finds(alone: Alone, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ends = ended(begin(["run", *alone.flags, "--out", str(run)], tmp_path / "said"))
    assert [(e.code, e.err, e.out) for e in ends] == [(0, "", "")] * 2
    assert outcome(run) == outcome(alone.path)
    assert RunDirectory(run).problems() == []


def test_processes_with_uneven_memory_take_the_rows_of_the_least(
    alone: Alone, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = ["run", *alone.flags, "--rounds", "1", "--out", str(run)]
    ends = ended(begin(flags, tmp_path / "said", free=(2**40, 0)))
    assert [(e.code, e.err) for e in ends] == [(0, "")] * 2
    assert "batch_size = 1\n" in (run / "config.toml").read_text("utf-8")
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert len(metrics["rounds"]) == 1


@pytest.mark.faults
def test_three_processes_differ_by_rounding_alone(tmp_path: Path) -> None:
    """Three gradients are added in the order in which they meet."""
    flags = [*write_inputs(tmp_path, **{**CHANGES, "shards": 3, "rounds": 1}), "--quiet"]
    runs = [tmp_path / "one", tmp_path / "three"]
    for run, count in zip(runs, (1, 3), strict=True):
        said = tmp_path / f"said-{count}"
        assert {e.code for e in ended(begin(["run", *flags, "--out", str(run)], said, count))} == {
            0
        }
    kept = [(r / "rounds/00/completions.jsonl").read_text("utf-8") for r in runs]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.faults), 1])
def test_a_run_whose_process_is_killed_goes_on_from_there(
    alone: Alone, tmp_path: Path, victim: int
) -> None:
    run = tmp_path / "run"
    running = begin(["run", *alone.flags, "--out", str(run)], tmp_path / "said")
    piece = run / "work/rounds/00/direction.safetensors"
    _await(lambda: piece.exists(), running)
    os.kill(running[victim].pid, signal.SIGKILL)
    ends = ended(running)
    assert ends[victim].code == -signal.SIGKILL
    assert ends[1 - victim].code == 1
    if victim == 1:
        assert "another process of this run has ended before its time" in ends[0].err
        assert f"shl resume {run}" in ends[0].err
        assert len(ends[0].err.splitlines()) == 1
    else:
        assert ends[1].err == ""
    assert RunDirectory(run).problems() == []
    again = ["resume", str(run), "--quiet"]
    assert {e.code for e in ended(begin(again, tmp_path / "again"))} == {0}
    assert outcome(run) == outcome(alone.path)


def test_one_process_goes_on_with_what_two_began(alone: Alone, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = begin(["run", *alone.flags, "--out", str(run)], tmp_path / "said")
    _await(lambda: (run / "work/rounds/00/direction.safetensors").exists(), running)
    for r in running:
        os.kill(r.pid, signal.SIGINT)
    assert {e.code for e in ended(running)} <= {130, 1}
    said = shl(["resume", str(run), "--quiet"], tmp_path / "alone")
    assert (said.code, said.err) == (0, "")
    assert outcome(run) == outcome(alone.path)


def test_errors_that_all_meet_are_told_once(alone: Alone, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = [*alone.flags, "--dose.min-kept", "4", "--filter.trait-floor", "1e6"]
    flags += ["--filter.min-tokens", "10000"]
    ends = ended(begin(["run", *flags, "--out", str(run)], tmp_path / "said"))
    assert [e.code for e in ends] == [1, 1]
    assert "starved" in ends[0].err
    assert ends[1].err == ""


def test_more_processes_than_shards_are_refused(alone: Alone, tmp_path: Path) -> None:
    ends = ended(begin(["resume", str(alone.path)], tmp_path / "said", 3))
    assert ends[0].code == 2
    assert "give at most --processes 2" in ends[0].err
    assert [(e.code, e.err) for e in ends[1:]] == [(1, "")] * 2


def _await(condition: Any, running: list[Running]) -> None:
    deadline = time.monotonic() + 300
    for _ in itertools.takewhile(lambda _: not condition(), itertools.count()):
        assert time.monotonic() < deadline
        assert all(r.process.is_alive() for r in running), [r.wait() for r in running]
        time.sleep(0.01)
