"""`shl watch`: what it says of a run, with and without a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from judgements import judged
from processes import start
from said import Said, refused
from steer_heal_love.commands import watch
from steer_heal_love.records import Cost, Costed
from steer_heal_love.runs.progress import Follower
from steer_heal_love.runs.write import RunDirectory
from tiny_run import config_data, small_axis, write_inputs

STAGES = ("baseline", "steer", "generate", "heal", "evaluate")
MEASURED = {"trait_nats": 0.5, "perplexity": 6.0, "loop_share": 0.0}
HEALED = {"trait_nats": 1.25, "perplexity": 7.5, "loop_share": 0.0}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """A run in its second round of three."""
    made = RunDirectory.create(tmp_path / "run", config_data(rounds=3), small_axis(), {})
    with made.locked():
        made.event("start")
        made.event("baseline")
        wall = {"steer": 10.0, "generate": 400.0, "heal": 300.0, "evaluate": 200.0}
        entry: dict[str, Any] = {
            **{"round": 0, "dose": 0.64, "kept": 4, "total": 9, "wall_s": wall},
            **{"steered": MEASURED, "healed": HEALED},
        }
        made.write_json(
            "metrics.json",
            {"schema": 2, "axis": "kind", "model": "tiny", "base": MEASURED, "rounds": [entry]},
        )
        made.event("round", round=0)
        made.do("rounds/01/direction", lambda: Costed(None, Cost(1.0)))
        found = [judged(i, *(() if i % 3 else ("trait",)), kappa=0.8) for i in range(6)]
        made.do("rounds/01/generate/00000", lambda: Costed(found[:3], Cost(0.5)))
        made.event("note", round=1, message="\x1b[31mred\nand two lines")
        yield made


def once(say: Callable[..., Said], run: RunDirectory) -> Said:
    return say("watch", str(run.path), "--once")


def test_how_a_run_stands(say: Callable[..., Said], run: RunDirectory) -> None:
    said = once(say, run)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "kind on tiny: running, 1 of 3 rounds finished"
    words = " ".join(lines[1:3])
    assert "round 1, generate (50 %); kept 2 of 3 (67 %), dose κ 0.80; " in words
    assert "12 tokens/s generated and judged" in words
    assert "about 27 min left" in words  # (910 · 2 − 10 − 200) s
    assert "+0.50→+0.50→+1.25" in said.out
    assert "␛[31mred and two lines" in said.out
    assert "\x1b" not in said.out


def test_a_run_that_is_over_is_shown_and_left(say: Callable[..., Said], run: RunDirectory) -> None:
    for ending, code in (("done", 0), ("interrupted", 0), ("failed", 1)):
        run.event(ending, kind="StarvedRound", message="too few")
        said = say("watch", str(run.path))
        assert (said.code, said.err) == (code, "")
        last = said.out.splitlines()[-1]
        assert last.endswith("too few")
        assert f" {ending} " in last
    assert "round 0: kept 4 of 9 at κ 0.64; trait 0.50 → 1.25; perplexity 6.0 → 7.5" in said.out


def test_a_run_that_was_killed_is_told(say: Callable[..., Said], tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", config_data(), small_axis(), {})
    run.event("start")
    said = say("watch", str(run.path))
    assert said.code == 1
    assert said.out.splitlines()[-1].endswith("stopped without a word (killed?)")
    assert once(say, run).code == 1


def test_bad_input_is_one_line(say: Callable[..., Said], tmp_path: Path, run: RunDirectory) -> None:
    refused(say("watch", str(tmp_path)), "is not a run directory")
    refused(say("watch", str(run.path), "--every", "0"), "--every must lie between")


def test_nothing_of_the_run_is_touched(say: Callable[..., Said], run: RunDirectory) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        files = [p for p in run.path.rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}

    before = state()
    once(say, run)
    assert state() == before


def test_the_live_view_ends_with_the_run(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, _environ={"TERM": "xterm"})
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            run.event("done")

    monkeypatch.setattr(watch.time, "sleep", sleep)
    progress = watch._live(console, Follower(run.path), 0.5)
    assert progress.state == "done"
    assert looks == [0.5] * 3
    assert "generate" in out.getvalue()
    assert "kind on tiny: done" in out.getvalue().rpartition("\x1b[?25h")[2]


def test_a_real_run_is_followed_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = start(
        ["run", *write_inputs(tmp_path, rounds=1), "--out", str(out)], tmp_path / "said"
    )
    while not (out / "events.jsonl").is_file() and running.process.is_alive():
        running.process.join(0.05)
    watching = start(["watch", str(out), "--every", "0.1"], tmp_path / "watched")
    follower, seen = Follower(out), []
    while not (progress := follower.look()).ended:
        seen.append((progress.finished, STAGES.index(progress.stage)))
        running.process.join(0.02)
    assert running.wait().code == 0
    assert (progress.state, progress.finished, progress.rounds) == ("done", 1, 1)
    assert seen == sorted(seen)  # it never went back
    assert len({stage for _, stage in seen}) > 1

    said = watching.wait()
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out
    lines = [line.split(" ", 1)[1] for line in said.out.splitlines()]
    assert [line for line in lines if line.startswith(("start", "done"))] == [
        "start 1 rounds",
        "done",
    ]
    assert sum(line.startswith("round ") and "; trait " in line for line in lines) == 1
