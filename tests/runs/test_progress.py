"""How far a run is, from its directory: made-up states, and a real run that is followed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judgements import judged
from steer_heal_love.errors import RunError
from steer_heal_love.records import Cost, Costed
from steer_heal_love.runs.progress import Follower, Generated, is_held
from steer_heal_love.runs.write import RunDirectory
from tiny_run import config_data, small_axis


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """A run of three rounds that has just begun and is held."""
    made = RunDirectory.create(tmp_path / "run", config_data(rounds=3), small_axis(), {})
    with made.locked():
        made.event("start")
        yield made


def piece(run: RunDirectory, name: str, value: Any = None) -> None:
    run.do(name, lambda: Costed(value, Cost(2.0)))


def metrics(run: RunDirectory, rounds: int) -> None:
    wall = {"steer": 10.0, "generate": 40.0, "heal": 30.0, "evaluate": 20.0}
    entries = [{"round": r, "dose": 1.0, "wall_s": wall} for r in range(rounds)]
    run.write_json("metrics.json", {"schema": 2, "base": {}, "rounds": entries})


def test_the_stage_is_told_by_the_pieces_that_are_there(run: RunDirectory) -> None:
    follower = Follower(run.path)

    def where() -> tuple[str, float]:
        progress = follower.look()
        assert progress.state == "running"
        return progress.stage, progress.share

    assert where() == ("baseline", 0.0)
    piece(run, "baseline/limits")
    assert where() == ("baseline", 0.2)
    metrics(run, 1)
    assert where() == ("steer", 0.0)
    piece(run, "rounds/01/direction")
    assert where() == ("generate", 0.0)
    piece(run, "rounds/01/generate/00000", [judged(0), judged(1), judged(2, "trait")])
    assert where() == ("generate", 0.5)
    piece(run, "rounds/01/generate/00003", [judged(3), judged(4)])
    assert where() == ("heal", 0.0)
    piece(run, "rounds/01/heal/epoch-00")
    assert where() == ("heal", 0.5)
    piece(run, "rounds/01/heal/result")
    assert where() == ("evaluate", 0.0)
    piece(run, "rounds/01/steered")
    assert where() == ("evaluate", 0.5)


def test_what_was_generated_is_counted_and_read_once(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics(run, 0)
    follower = Follower(run.path)
    assert follower.look().generated == Generated()
    one = [judged(0), judged(1, "trait")]
    piece(run, "rounds/00/generate/00000", one)
    tokens = sum(len(j.completion.token_ids) for j in one)
    expected = Generated(2, 1, tokens, 2.0, 1.0)
    assert follower.look().generated == expected
    assert expected.tokens_per_s == tokens / 2
    monkeypatch.setattr(
        "steer_heal_love.runs.progress.unpack", lambda *_: pytest.fail("read again")
    )
    assert follower.look().generated == expected


def test_a_piece_that_is_not_there_yet_or_torn_is_left_for_the_next_look(
    run: RunDirectory,
) -> None:
    metrics(run, 0)
    piece(run, "rounds/00/generate/00000", [judged()])
    file = run.path / "work/rounds/00/generate/00000.safetensors"
    whole = file.read_bytes()
    follower = Follower(run.path)
    for broken in (b"", whole[:-3]):
        file.write_bytes(broken)
        assert follower.look().generated.total == 0
    file.unlink()
    assert follower.look().generated.total == 0
    file.write_bytes(whole)
    assert follower.look().generated.total == 1


def test_the_time_left_is_known_after_a_round(run: RunDirectory) -> None:
    follower = Follower(run.path)
    assert follower.look().eta_s is None
    metrics(run, 0)
    assert follower.look().eta_s is None
    metrics(run, 1)
    assert follower.look().eta_s == pytest.approx(200.0)
    piece(run, "rounds/01/direction")
    assert follower.look().eta_s == pytest.approx(190.0)
    piece(run, "rounds/01/heal/result")
    assert follower.look().eta_s == pytest.approx(120.0)
    metrics(run, 3)
    assert follower.look().eta_s == pytest.approx(0.0)


@pytest.mark.parametrize("ending", ["done", "failed", "interrupted"])
def test_the_log_tells_the_end_and_a_new_beginning(run: RunDirectory, ending: str) -> None:
    follower = Follower(run.path)
    run.event(ending)
    progress = follower.look()
    assert (progress.state, progress.stage, progress.ended) == (ending, "", True)
    run.event("start")
    run.event("note", message="x")
    assert follower.look().state == "running"


def test_a_run_that_nobody_holds_has_died(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", config_data(), small_axis(), {})
    follower = Follower(run.path)
    assert follower.look().state == "died"
    with run.locked():
        run.event("start")
        assert follower.look().state == "running"
    (run.path / "lock").write_text("999999999")
    assert follower.look().state == "died"


def test_a_lock_is_seen_whoever_wrote_a_number_there(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    lock.write_text("")
    assert not is_held(lock)
    code = (
        "import fcntl, sys, time\n"
        f"file = open({str(lock)!r}, 'a+')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    for number in ("", "999999999", "not a number"):  # of another machine, or of none
        lock.write_text(number)
        assert is_held(lock)
    holder.communicate(b"")
    lock.write_text(str(holder.pid))
    assert not is_held(lock)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        Follower(tmp_path).look()
