"""Runs that differ by the seed alone become one row, with intervals over the seeds."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from made_up_runs import AXIS, make_run
from scipy import stats

from steer_heal_love.commands import compare as command
from steer_heal_love.report.compare.compare import compare_runs
from steer_heal_love.report.compare.comparison import comparison_csv, comparison_markdown
from steer_heal_love.report.compare.run_row import RunRow
from steer_heal_love.report.states import parse_run
from steer_heal_love.runs.read import read_run

TRAITS = (0.8, 1.0, 1.3)


def make_seeds(folder: Path, *seeds: int, traits: tuple[float, ...] = TRAITS) -> list[Path]:
    """A run per seed; the healed trait differs."""
    return [
        make_run(folder / f"s{i}", (0.6, trait), seed=seed)
        for i, (seed, trait) in enumerate(zip(seeds, traits, strict=False))
    ]


def rows_of(paths: list[Path], *, force: bool = False) -> list[RunRow]:
    return compare_runs([read_run(path) for path in paths], force=force)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_seeds(tmp_path_factory.mktemp("seeds"), 0, 1, 2)


def test_mean_and_t_interval_over_the_runs(three: list[Path]) -> None:
    *single, group = rows_of(three)
    assert len(single) == 3
    assert (group.name, group.seed, group.seeds) == ("3 seeds: s0, s1, s2", "0, 1, 2", 3)
    values = [figure.value for row in single if (figure := row.figures["shift"])]
    shift = group.figures["shift"]
    assert shift is not None
    assert shift.value == pytest.approx(sum(values) / 3)
    expected = stats.t.interval(0.95, 2, sum(values) / 3, stats.sem(values))
    assert shift.bounds == pytest.approx(expected)
    assert group.wall_s == single[0].wall_s


def test_where_all_agree_there_is_no_interval(three: list[Path]) -> None:
    group = rows_of(three)[-1]
    loops = group.figures["loops_healed"]
    assert loops is not None
    assert (loops.value, loops.bounds) == (0.0, None)


def test_bounds_stay_inside_what_a_share_can_be(tmp_path: Path) -> None:
    paths = make_seeds(tmp_path, 0, 1, 2)
    for path, loops in zip(paths, (0.0, 0.0, 0.3), strict=True):
        metrics = json.loads((path / "metrics.json").read_text())
        metrics["rounds"][-1]["healed"]["loop_share"] = loops
        (path / "metrics.json").write_text(json.dumps(metrics))
    found = rows_of(paths)[-1].figures["loops_healed"]
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.bounds is not None
    assert found.low == 0.0
    assert 0.1 < found.high <= 1.0


def test_answers_are_counted(tmp_path: Path) -> None:
    paths = make_seeds(tmp_path, 0, 1)
    paths.append(make_run(tmp_path / "broken", (0.6, 1.4), 40.0, seed=2))
    group = rows_of(paths)[-1]
    assert group.verdicts["q1_heal"] == "2 yes, 1 no"
    assert group.verdicts["valid.trait_nats"] == "3 yes"
    assert group.verdicts["valid.forced_choice"] == "–"


def test_only_the_seed_may_differ(tmp_path: Path) -> None:
    paths = make_seeds(tmp_path, 0, 1)
    other = make_run(tmp_path / "tau", (0.6, 0.9), seed=2, heal={"tau": 1.0})
    (group,) = [row for row in rows_of([*paths, other]) if row.seeds > 1]
    assert group.name == "2 seeds: s0, s1"
    elsewhere = make_run(tmp_path / "e", (0.6, 0.9), seed=3)
    text = (elsewhere / "config.toml").read_text()
    (elsewhere / "config.toml").write_text(text.replace('axis = "love"', 'axis = "a/b.toml"'))
    assert rows_of([*paths, elsewhere])[-1].seeds == 3  # the axis counts by what it holds


def test_a_copy_is_no_second_draw(tmp_path: Path) -> None:
    same = make_seeds(tmp_path, 0, 0)
    assert all(row.seeds == 1 for row in rows_of(same))
    third = make_run(tmp_path / "third", (0.6, 1.3), seed=1)
    assert rows_of([*same, third])[-1].name == "2 seeds: s0, third; 1 left out"


def test_unfinished_runs_are_left_out(tmp_path: Path) -> None:
    paths = [
        make_run(tmp_path / f"s{seed}", (0.6, 0.9)[:rounds], seed=seed)
        for seed, rounds in ((0, 2), (1, 2), (2, 1), (3, 0))
    ]
    for path in paths:
        text = (path / "config.toml").read_text()
        (path / "config.toml").write_text("rounds = 2\n" + text)
    assert rows_of(paths)[-1].name == "2 seeds: s0, s1; 2 left out"
    metrics = json.loads((paths[2] / "metrics.json").read_text())
    metrics["rounds"][-1]["stopped"] = "too many loops"
    (paths[2] / "metrics.json").write_text(json.dumps(metrics))
    assert parse_run(read_run(paths[2])).is_finished
    assert rows_of(paths)[-1].name == "3 seeds: s0, s1, s2; 1 left out"
    assert rows_of(paths)[-1].rounds == "1, 2"


def test_seeds_in_markdown_csv_and_terminal(
    three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(three)
    markdown = comparison_markdown(rows)
    assert "| 3 seeds: s0, s1, s2 |" in markdown
    assert "Student's t over the seeds, not over items" in markdown
    *single, group = csv.DictReader(io.StringIO(comparison_csv(rows)))
    assert {row["intervals_over"] for row in single} == {"items"}
    assert (group["intervals_over"], group["seeds"]) == ("seeds", "3")
    assert math.isfinite(float(group["shift_low"]))
    assert group["q1_heal"] == "3 yes"
    assert command.main([*map(str, three), "--out", str(tmp_path / "t")]) == 0
    shown = capsys.readouterr().out
    assert "3 seeds:" in shown
    assert "3 yes" in shown


def test_one_run_is_no_group(tmp_path: Path) -> None:
    (row,) = rows_of([make_run(tmp_path / "a", (0.6,), axis=AXIS)])
    assert row.seeds == 1
    assert "Student" not in comparison_markdown([row])
