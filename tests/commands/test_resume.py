"""A run that is killed, broken or shared ends as one that never was: to the bit, on the CPU."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import processes
from processes import Ended, Running, shl, start
from steer_heal_love.runs.write import RunDirectory
from tiny_run import outcome, write_inputs

Flags = list[str]


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed."""

    flags: Flags  # of `shl run`, but for --out
    path: Path
    outcome: dict[str, Any]
    seconds: float


def undisturbed(folder: Path, rounds: int) -> Whole:
    flags = [*write_inputs(folder, rounds=rounds), "--quiet"]
    shl(["axes"], folder / "warm")  # the server's imports do not count
    began = time.monotonic()
    said = shl(["run", *flags, "--out", str(folder / "whole")], folder / "said")
    assert said == Ended(0, "", "")
    seconds = time.monotonic() - began
    return Whole(flags, folder / "whole", outcome(folder / "whole"), seconds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("one"), rounds=1)


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("two"), rounds=2)


@pytest.fixture(scope="module")
def whole_of_three(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(tmp_path_factory.mktemp("three"), rounds=3)


@pytest.fixture
def copy(whole: Whole, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.path, tmp_path / "run"))


def begin(whole: Whole, run: Path, **how: Any) -> Running:
    """Start the run, and wait until it is under way."""
    running = start(["run", *whole.flags, "--out", str(run)], run.with_name("began"), **how)
    deadline = time.monotonic() + 300
    while not (run / "events.jsonl").exists():
        assert time.monotonic() < deadline
        assert running.process.is_alive(), running.wait()
        time.sleep(0.01)
    return running


def resumed(whole: Whole, run: Path) -> Ended:
    said = shl(["run", *whole.flags, "--out", str(run), "--resume"], run.with_name("resumed"))
    assert said.code == 0, said
    assert RunDirectory(run).problems() == []
    assert not list(run.rglob("*.partial"))
    return said


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


# Killed


def kill_and_resume(whole: Whole, run: Path, moment: float) -> None:
    running = start(["run", *whole.flags, "--out", str(run)], run.with_name("killed"))
    time.sleep(moment)
    if running.process.is_alive():
        os.kill(running.pid, signal.SIGKILL)
    assert running.wait().code in (0, -signal.SIGKILL)
    if run.exists():
        assert RunDirectory(run).problems() == [], f"killed after {moment} s"
    resumed(whole, run)
    assert outcome(run) == whole.outcome, f"killed after {moment} s"


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_killed_run_ends_as_if_it_had_not_been(
    whole_of_two: Whole, tmp_path: Path, share: float
) -> None:
    kill_and_resume(whole_of_two, tmp_path / "run", share * whole_of_two.seconds)


@pytest.mark.faults
@pytest.mark.parametrize("nth", range(20))
def test_killed_at_twenty_moments(whole_of_three: Whole, tmp_path: Path, nth: int) -> None:
    share = (nth + random.Random(nth).random()) / 20
    kill_and_resume(whole_of_three, tmp_path / "run", share * whole_of_three.seconds)


@pytest.mark.faults
def test_killed_again_and_again(whole: Whole, tmp_path: Path) -> None:
    run, rng = tmp_path / "run", random.Random(7)
    for _ in range(12):
        flags = ["run", *whole.flags, "--out", str(run), "--resume"]
        running = start(flags, tmp_path / "said")
        time.sleep(rng.uniform(0.2, 0.4) * whole.seconds)
        if running.process.is_alive():
            os.kill(running.pid, signal.SIGKILL)
        running.wait()
    resumed(whole, run)
    assert outcome(run) == whole.outcome


def snapshots_of(whole: Whole, folder: Path) -> list[Path]:
    """What a crash at each fsync and each rename of a run would leave."""
    run, kept = folder / "run", folder / "snapshots"
    said = shl(
        ["run", *whole.flags, "--out", str(run)],
        folder / "said",
        before=processes.snapshot_each_write,
        given=(run, kept),
    )
    assert said.code == 0
    return sorted(kept.iterdir())


def resume_each(whole: Whole, snapshots: list[Path]) -> Iterator[Path]:
    """Resume each, two at a time; yields those that had begun to exist."""
    there = [s for s in snapshots if (s / "run").exists()]
    for i in range(0, len(there), 2):
        pair = there[i : i + 2]
        for snapshot in pair:
            assert RunDirectory(snapshot / "run").problems() == [], snapshot
        running = [start(["resume", str(s / "run"), "--quiet"], s / "said") for s in pair]
        for snapshot, process in zip(pair, running, strict=True):
            said = process.wait()
            assert (said.code, said.err) == (0, ""), (snapshot, said)
            assert outcome(snapshot / "run") == whole.outcome, snapshot
            assert RunDirectory(snapshot / "run").problems() == []
            yield snapshot
            shutil.rmtree(snapshot)


def test_a_crash_inside_a_write_here_and_there(whole: Whole, tmp_path: Path) -> None:
    snapshots = snapshots_of(whole, tmp_path)
    assert len(snapshots) > 100
    first = next(i for i, s in enumerate(snapshots) if (s / "run").exists())
    chosen = [snapshots[i] for i in (first + 7, len(snapshots) // 2)]
    assert len(list(resume_each(whole, chosen))) == 2


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_a_crash_inside_every_single_write(whole_of_two: Whole, tmp_path: Path) -> None:
    snapshots = snapshots_of(whole_of_two, tmp_path)
    assert len(list(resume_each(whole_of_two, snapshots))) > 100


@pytest.mark.faults
@pytest.mark.parametrize("nth", [1, 5, 9, 14, 40, 77, 123, 170])
def test_a_power_cut_inside_a_write(whole_of_two: Whole, tmp_path: Path, nth: int) -> None:
    run, whole = tmp_path / "run", whole_of_two
    flags = ["run", *whole.flags, "--out", str(run)]
    said = shl(flags, tmp_path / "said", before=processes.crash_at_write, given=(nth,))
    assert said.code == 9
    resumed(whole, run)
    assert outcome(run) == whole.outcome


def test_a_disk_that_fills_up_mid_run(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["run", *whole.flags, "--out", str(run)]
    full = (60, errno.ENOSPC)
    said = shl(flags, tmp_path / "said", before=processes.fail_at_write, given=full)
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert "the disk is full: free some space" in line
    assert RunDirectory(run).problems() == []
    resumed(whole, run)
    assert outcome(run) == whole.outcome


def test_a_small_disk_that_is_full(whole: Whole, tmp_path: Path) -> None:
    """A real disk, which another file fills while the run goes on."""
    with processes.small_disk(tmp_path / "disk", "24m") as disk:
        run, ballast = disk / "run", disk / "ballast"
        flags = ["run", *whole.flags, "--out", str(run)]
        faults = (
            (processes.keep_no_space, ()),
            (processes.fill_disk_at_write, (73, ballast)),
        )
        said = shl(flags, tmp_path / "said", before=processes.in_turn, given=faults)
        assert said.code == 2, said
        (line,) = said.err.splitlines()
        assert "the disk is full: free some space" in line or "are free on that disk" in line
        assert line.endswith(f"; then go on with: shl resume {run}")
        assert ballast.stat().st_size > 1 << 20
        assert RunDirectory(run).problems() == []
        ballast.unlink()
        resume = ["resume", str(run), "--quiet"]
        said = shl(resume, tmp_path / "said", before=processes.keep_no_space)
        assert (said.code, said.err) == (0, "")
        assert outcome(run) == whole.outcome


@pytest.mark.faults
def test_a_disk_is_left_with_room_for_others(whole: Whole, tmp_path: Path) -> None:
    with processes.small_disk(tmp_path / "disk", "40m") as disk:
        run, ballast = disk / "run", disk / "ballast"
        flags = ["run", *whole.flags, "--out", str(run)]
        fill = processes.fill_disk_at_write
        said = shl(flags, tmp_path / "said", before=fill, given=(70, ballast))
        assert said.code == 2, said
        (line,) = said.err.splitlines()
        assert "0 MiB are free on that disk, of which 32 are kept" in line or "full" in line
        assert RunDirectory(run).problems() == []
        ballast.unlink()
        resumed(whole, run)
        assert outcome(run) == whole.outcome


@pytest.mark.faults
def test_a_limit_on_the_size_of_files(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["run", *whole.flags, "--out", str(run)]
    said = shl(flags, tmp_path / "said", before=processes.limit_file_size, given=(12_000,))
    assert said.code == 2, said
    assert "larger than a file may be here: raise that limit" in said.err
    assert RunDirectory(run).problems() == []
    resumed(whole, run)
    assert outcome(run) == whole.outcome


def test_a_disk_that_becomes_read_only(whole: Whole, tmp_path: Path) -> None:
    with processes.small_disk(tmp_path / "disk", "60m") as disk:
        run = disk / "run"
        flags = ["run", *whole.flags, "--out", str(run)]
        fault = processes.read_only_at_write
        said = shl(flags, tmp_path / "said", before=fault, given=(40, disk))
        assert said.code == 2, said
        (line,) = said.err.splitlines()
        assert "it is read-only or not yours" in line
        assert RunDirectory(run).problems() == []
        for command in (["resume", str(run)], ["run", *whole.flags, "--out", str(disk / "other")]):
            said = shl([*command, "--quiet"], tmp_path / "said")
            assert said.code == 2
            assert len(said.err.splitlines()) == 1
            assert "it is read-only or not yours" in said.err
        assert not (disk / "other").exists()


def test_a_folder_that_is_taken_away(whole: Whole, tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    flags = ["run", *whole.flags, "--out", str(run)]
    taken = (70, run, elsewhere)
    said = shl(flags, tmp_path / "said", before=processes.take_folder_at_write, given=taken)
    assert said.code == 2, said
    (line,) = said.err.splitlines()
    assert f"run folder {run} is gone: it was moved or deleted" in line or "folder is gone" in line
    assert not run.exists()
    assert RunDirectory(elsewhere).problems() == []
    resumed(whole, elsewhere)
    assert outcome(elsewhere) == whole.outcome


def test_a_clock_that_goes_back(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["run", *whole.flags, "--out", str(run)]
    said = shl(flags, tmp_path / "said", before=processes.turn_the_clock_back)
    assert (said.code, said.err) == (0, "")
    times = [e["time"] for e in events(run)]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) > 3
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert all(s >= 0 for entry in metrics["rounds"] for s in entry["wall_s"].values())
    assert outcome(run) == whole.outcome


# Stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_which_says_how_to_go_on(
    whole: Whole, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    running = begin(whole, run)
    time.sleep(0.3 * whole.seconds)
    os.kill(running.pid, number)
    said = running.wait()
    assert said.code == code, said
    assert said.err == f"stopped; go on with: shl resume {run}\n"
    assert events(run)[-1]["event"] == "interrupted"
    assert RunDirectory(run).problems() == []
    assert shl(["resume", str(run), "--quiet"], tmp_path / "said").code == 0
    assert outcome(run) == whole.outcome


def test_a_run_keeps_the_rows_that_it_was_begun_with(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["run", *whole.flags, "--out", str(run)]
    running = begin(whole, run, before=processes.leave_free, given=(2**40,))
    time.sleep(0.3 * whole.seconds)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait().code == 143
    assert "batch_size = 64" in (run / "config.toml").read_text("utf-8")
    for command in (["resume", str(run), "--quiet"], [*flags, "--resume"]):
        said = shl(command, tmp_path / "said", before=processes.leave_free, given=(0,))
        assert (said.code, said.err) == (0, "")
    assert "batch_size = 64" in (run / "config.toml").read_text("utf-8")
    assert outcome(run) == whole.outcome


def test_where_memory_is_short_a_run_says_so_and_its_repetition_does_the_same(
    whole: Whole, tmp_path: Path
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    flags = ["run", *(flag for flag in whole.flags if flag != "--quiet"), "--out", str(run)]
    said = shl(flags, tmp_path / "said", before=processes.leave_free, given=(600_000,))
    assert said.code == 0, said
    few = re.search(r"64 rows do not fit into the memory that is free: (\d+) at a time", said.out)
    assert few is not None
    assert f"batch_size = {few[1]}\n" in (run / "config.toml").read_text("utf-8")
    said = shl(["run", "--from", str(run), "--out", str(again)], tmp_path / "said")
    assert said.code == 0, said
    assert "do not fit" not in said.out
    assert f"batch_size = {few[1]}\n" in (again / "config.toml").read_text("utf-8")
    assert outcome(again) == outcome(run)


# Shared


def test_exactly_one_of_two_processes_works(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = begin(whole, run)
    other = shl(["resume", str(run)], tmp_path / "other")
    assert other.code == 2
    assert f"is in use by process {running.pid}" in other.err
    assert running.wait().code == 0
    assert outcome(run) == whole.outcome


# Broken


def break_in_some_way(file: Path, nth: int) -> None:
    data = file.read_bytes()
    match nth % 4:
        case 0:
            file.write_bytes(data[: len(data) // 2])
        case 1:
            at = len(data) * 2 // 3
            file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        case 2:
            file.write_bytes(b"")
        case _:
            file.unlink()


def test_broken_pieces_are_computed_again(whole: Whole, copy: Path, tmp_path: Path) -> None:
    pieces = sorted(copy.glob("work/**/*.safetensors"))
    assert len(pieces) > 10
    for nth, piece in enumerate(pieces):
        break_in_some_way(piece, nth)
    said = shl(["resume", str(copy), "--quiet"], tmp_path / "said")
    assert said.code == 0
    assert len(said.err.splitlines()) == len(pieces)
    assert all(line.startswith("not used, but made again: work/") for line in said.err.splitlines())
    assert outcome(copy) == whole.outcome
    assert RunDirectory(copy).problems() == []
    told = [e for e in events(copy) if e["event"] == "broken-piece"]
    assert len(told) == len(pieces)


def results(run: Path) -> list[Path]:
    """Every file of a run but its pieces, its foundations and the lock."""
    left = ("work/", "config.toml", "axis.toml", "lock")
    files = sorted(p for p in run.rglob("*") if p.is_file())
    return [p for p in files if not p.relative_to(run).as_posix().startswith(left)]


def test_broken_results_are_written_again(whole: Whole, copy: Path, tmp_path: Path) -> None:
    files = [p for p in results(copy) if p.name != "manifest.json"]
    assert len(files) >= 14
    for nth, file in enumerate(files):
        break_in_some_way(file, nth)
    said = shl(["resume", str(copy), "--quiet"], tmp_path / "said")
    assert said.code == 0
    assert outcome(copy) == whole.outcome
    assert RunDirectory(copy).problems() == []


@pytest.mark.parametrize("name", ["config.toml", "axis.toml"])
def test_broken_foundations_are_refused(copy: Path, tmp_path: Path, name: str) -> None:
    file = copy / name
    file.write_bytes(file.read_bytes().replace(b"4", b"5").replace(b"K", b"k"))
    said = shl(["resume", str(copy)], tmp_path / "said")
    assert said.code == 2
    assert f"{name}: its bytes have changed since they were written: restore" in said.err


def test_a_broken_manifest_means_everything_again(whole: Whole, copy: Path, tmp_path: Path) -> None:
    break_in_some_way(copy / "manifest.json", 0)
    said = shl(["resume", str(copy), "--quiet"], tmp_path / "said")
    assert said.code == 0
    assert "manifest.json" in said.err
    assert outcome(copy) == whole.outcome
    assert RunDirectory(copy).problems() == []


@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", range(4))
def test_each_file_broken_alone_is_repaired_or_refused(
    whole: Whole, tmp_path: Path, way: int
) -> None:
    names = [p.relative_to(whole.path) for p in whole.path.rglob("*") if p.is_file()]
    for nth, name in enumerate(sorted(n for n in names if n.name != "lock")):
        run = Path(shutil.copytree(whole.path, tmp_path / f"run{nth}"))
        break_in_some_way(run / name, way)
        assert RunDirectory(run).problems() != [], name
        said = shl(["resume", str(run), "--quiet"], tmp_path / "said")
        if said.code == 0:
            assert outcome(run) == whole.outcome, name
            assert RunDirectory(run).problems() == [], name
        else:
            assert said.code == 2
            (line,) = [e for e in said.err.splitlines() if e.startswith("shl: ")]
            assert name.name in line
        shutil.rmtree(run)


def test_every_broken_file_is_found(whole: Whole, copy: Path) -> None:
    files = sorted(p for p in copy.rglob("*") if p.is_file() and p.name != "lock")
    for way, file in enumerate(files):
        data = file.read_bytes()
        break_in_some_way(file, way)
        (problem,) = RunDirectory(copy).problems()
        assert problem.startswith(file.relative_to(copy).as_posix())
        file.write_bytes(data)
    assert RunDirectory(copy).problems() == []


def test_another_model_is_refused(whole: Whole, copy: Path, tmp_path: Path) -> None:
    (weights,) = whole.path.parent.glob("tiny/*.safetensors")
    data = weights.read_bytes()
    tensors = safetensors.torch.load(data)
    name = min(tensors)
    tensors[name] = tensors[name] * 2
    try:
        safetensors.torch.save_file(tensors, weights, {"format": "pt"})
        said = shl(["resume", str(copy), "--quiet"], tmp_path / "said")
    finally:
        weights.write_bytes(data)
    assert said.code == 2
    assert "is not the one that run" in said.err


# Extended


def test_an_extended_run_is_as_one_that_was_longer_from_the_start(
    whole_of_two: Whole, copy: Path, tmp_path: Path
) -> None:
    said = shl(["resume", str(copy), "--rounds", "2", "--quiet"], tmp_path / "said")
    assert said == Ended(0, "", "")
    longer, wanted = outcome(copy), dict(whole_of_two.outcome)
    assert len(longer["metrics"]["rounds"]) == 2
    model = {"model": longer["metrics"]["model"]}  # each has its own folder
    wanted["metrics"] = {**wanted["metrics"], **model}
    configs = [name for name in longer if name.endswith("adapter_config.json")]
    assert {k: v for k, v in longer.items() if k not in configs} == {
        k: v for k, v in wanted.items() if k not in configs
    }
    fewer = shl(["resume", str(copy), "--rounds", "1"], tmp_path / "said")
    assert fewer.code == 2
    assert "extended, not cut" in fewer.err


def test_other_settings_are_refused(whole: Whole, copy: Path, tmp_path: Path) -> None:
    flags = [*whole.flags, "--out", str(copy), "--resume", "--heal.tau", "0.25"]
    said = shl(["run", *flags], tmp_path / "said")
    assert said.code == 2
    assert "was begun with heal.tau = 1.0, not 0.25" in said.err
