"""What is kept and shown of a sweep: the ledger, the table, the objective, the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.sweep.ending import write_ending
from steer_heal_love.sweep.ledger import LEDGER, Entry, Ledger, attempts
from steer_heal_love.sweep.objective import HOPELESS, Judgement, best_of, front_of, judge_round
from steer_heal_love.sweep.serial import run_in_turn
from steer_heal_love.sweep.settings import Search
from steer_heal_love.sweep.table import Standing, TableRow, count_states, picture
from steer_heal_love.sweep.trial import DONE, FAILED, INTERRUPTED, RUNNING, Job, Outcome, Tick

SEARCH = Search(fields={"seed": (0, 1)})


def metrics(rounds: int, trait: float = 0.5, perplexity: float = 11.0) -> dict[str, Any]:
    healed = {"trait_nats": trait, "perplexity": perplexity, "loop_share": 0.0}
    base = {"trait_nats": 0.0, "perplexity": 10.0, "loop_share": 0.0}
    entry = {"healed": healed, "steered": healed, "wall_s": {"heal": 1.0}}
    entries = [{"round": r, **entry} for r in range(rounds)]
    return {"schema": 2, "axis": "love", "model": "smollm2", "base": base, "rounds": entries}


def make_run(path: Path, *events: str, model: str = "smollm2", **found: Any) -> Path:
    config = {"rounds": 2, "model": model, "seed": 0, "heal": {"lam": 1.0}}
    run = RunDirectory.create(path, config, load_axis("love"), {})
    run.write_json("metrics.json", {**metrics(2, **found), "model": model})
    for event in events:
        run.event(event)
    return path


# The ledger


def test_the_ledger_comes_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    ledger.enter({"a": {"seed": 0}, "b": {"seed": 1}})
    make_run(tmp_path / "a", "start", "interrupted", "start", "done")
    ledger.note("a", DONE)
    ledger.note("b", FAILED, "no dose: κ")
    again = Ledger.read(tmp_path)
    assert again.entries == {
        "a": Entry({"seed": 0}, DONE, 2),
        "b": Entry({"seed": 1}, FAILED, 0, "no dose: κ"),
    }
    assert (again.count(DONE), again.names(FAILED, DONE)) == (1, ["a", "b"])
    again.enter({"a": {"seed": 9}})  # what is there stays
    assert again.entries["a"].varied == {"seed": 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "trials": {}}',
        '{"schema": 1, "trials": []}',
        '{"schema": 1, "trials": {"a": {"state": "done"}}}',
        '{"schema": 1, "trials": {"a": {"varied": {}, "state": "x", "attempts": 0, "error": ""}}}',
    ],
)
def test_a_broken_ledger_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / LEDGER).write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"trials.json is broken .*: delete it, and --resume"):
        Ledger.read(tmp_path)


def test_attempts_are_the_starts_in_a_runs_log(tmp_path: Path) -> None:
    assert attempts(tmp_path / "none") == 0
    assert attempts(make_run(tmp_path / "run", "start", "round", "start")) == 2


# The table


def shown(rows: list[TableRow], height: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(rows, height))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_reads_the_run_directories(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    ledger.enter({name: {"seed": i} for i, name in enumerate(("did", "fell", "goes", "later"))})
    make_run(tmp_path / "did", "start", "done")
    ledger.note("did", DONE)
    ledger.note("fell", FAILED, "trial fell: [red]key[/red] 'heal.rank': bad")
    run = RunDirectory(make_run(tmp_path / "goes"))
    with run.locked():
        run.event("start")
        ledger.note("goes", RUNNING)
        rows = Standing(tmp_path, ledger).rows()
    assert rows[0] == TableRow("did", DONE, "2/2", "0.00 → 0.50", "1.10", "0 %", "")
    assert (rows[1].state, rows[1].note) == (FAILED, "trial fell: [red]key[/red] 'heal.rank': bad")
    assert (rows[2].state, rows[2].note) == (RUNNING, "steer, 0 %")
    assert rows[3] == TableRow("later", "waiting", "", "", "", "", "")
    assert (
        count_states([row.state for row in rows])
        == "4 trials: 1 done, 1 running, 1 failed, 1 waiting"
    )
    text = shown(rows)
    assert "[red]key[/red]" in text
    assert "0.00 → 0.50" in text


def test_a_low_terminal_shows_what_runs_first() -> None:
    rows = [TableRow(f"t{i}", DONE, "", "", "", "", "") for i in range(30)]
    rows.append(TableRow("busy", RUNNING, "", "", "", "", ""))
    text = shown(rows, height=5)
    assert "busy" in text
    assert "… and 26 more" in text


# The objective


@pytest.mark.parametrize(
    ("trait", "perplexity", "score", "within"),
    [(0.5, 11.0, 0.5, True), (0.9, 12.5, 0.9, True), (9.0, 13.5, 9.0 - 10.0, False)],
)
def test_trait_beyond_the_bound_costs_more_than_it_gains(
    trait: float, perplexity: float, score: float, within: bool
) -> None:
    found = judge_round(metrics(2, trait, perplexity), 1, SEARCH)
    assert found is not None
    assert (found.rounds, found.within) == (1, within)
    assert found.score == pytest.approx(score)


def test_a_missing_figure_is_no_score() -> None:
    assert judge_round({}, 1, SEARCH) is None
    assert judge_round({**metrics(1), "base": {}}, 1, SEARCH) is None
    worst = judge_round(metrics(1, perplexity=1e9), 1, SEARCH)
    assert worst is not None
    assert worst.score == HOPELESS


POINTS = st.dictionaries(
    st.text("abcdefgh", min_size=1), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1
)


@given(points=POINTS)
def test_the_front_is_what_nothing_dominates(points: dict[str, tuple[int, int]]) -> None:
    def beaten(name: str) -> bool:
        great, small = points[name]
        return any(
            g >= great and s <= small and (g, s) != (great, small) for g, s in points.values()
        )

    assert set(front_of(dict(points))) == {name for name in points if not beaten(name)}


def test_the_best_keeps_the_bounds() -> None:
    def found(trait: float, ratio: float) -> Judgement:
        return Judgement(1, trait, ratio, 0.0, trait, ratio <= 1.25, stopped=False)

    trials = {"a": found(1.0, 1.2), "b": found(2.0, 1.3), "c": found(0.5, 1.0)}
    assert best_of(trials, SEARCH) == ["a"]
    assert set(best_of(trials, Search(fields={"seed": (0, 1)}, objective="front"))) == {"a", "c"}
    assert best_of({"b": trials["b"]}, SEARCH) == []


# One after the other


def job(folder: Path, name: str, model: str) -> Job:
    rest = {"device": "cpu", "dtype": "auto", "quantize": "none"}
    return Job(name, folder / name, {"model": model, **rest})


def test_trials_on_one_model_follow_one_another_and_a_failure_stops_none(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    jobs = [job(tmp_path, name, name[0]) for name in ("b1", "a1", "b2", "a2")]
    ledger.enter({one.name: {} for one in jobs})
    done = []

    def carry(one: Job, tick: Tick) -> Outcome:
        done.append(one.name)
        tick()
        return Outcome(FAILED, "bad") if one.name == "b1" else Outcome(DONE)

    assert run_in_turn(jobs, carry, ledger, lambda: None) == 0
    assert done == ["b1", "b2", "a1", "a2"]
    assert Ledger.read(tmp_path).entries["b1"].error == "bad"
    assert ledger.names(DONE) == ["a1", "b2", "a2"]


def test_an_interruption_leaves_the_rest_waiting(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    jobs = [job(tmp_path, name, "m") for name in ("a", "b")]
    ledger.enter({one.name: {} for one in jobs})
    stop = Outcome(INTERRUPTED, signal=143)
    assert run_in_turn(jobs, lambda _job, _tick: stop, ledger, lambda: None) == 143
    assert [entry.state for entry in ledger.entries.values()] == [INTERRUPTED, "waiting"]


# The end


def test_only_what_was_measured_alike_is_set_side_by_side(tmp_path: Path) -> None:
    for name, model in (("a", "smollm2"), ("b", "smollm2"), ("c", "other/One")):
        make_run(tmp_path / name, "start", "done", model=model)
    both = write_ending(tmp_path, ["a", "b"])
    assert {"compare.md", "compare.csv", "comparison.html"} <= {path.name for path in both}
    assert all(path.parent == tmp_path and path.is_file() for path in both)

    groups = write_ending(tmp_path, ["a", "b", "c"])
    assert {path.parent.name for path in groups} == {"compare_model-smollm2", "compare_model-One"}
    assert not (tmp_path / "compare.md").exists()  # of other trials than now
    write_ending(tmp_path, ["a"])
    assert not (tmp_path / "compare_model-One").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["a", "b", "c"]
    assert write_ending(tmp_path, []) == []
