"""A comparison of two made-up runs, from their directories alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import AXIS, CONFIG, PAIRS, POS, make_run, printed
from markdown_it import MarkdownIt

from steer_heal_love.commands import compare as command
from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.report.compare.compare import compare_runs, differences
from steer_heal_love.report.compare.comparison import (
    comparison_csv,
    comparison_markdown,
    comparison_table,
)
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.verdicts import INVALID


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    tmp_path = tmp_path_factory.mktemp("two")
    return (
        make_run(tmp_path / "rmse", (0.6, 0.8, 1.0)),
        make_run(tmp_path / "mean", (0.6, 0.9, 1.4), 40.0, heal={"aggregate": "mean"}),
    )


def test_two_runs_beside_one_another(two: tuple[Path, Path]) -> None:
    rmse, mean = compare_runs([read_run(path) for path in two])
    assert (rmse.name, rmse.rounds, rmse.barrier["aggregate"]) == ("rmse", "3", "rmse")
    assert rmse.dose == pytest.approx(1.5 * 0.75**2)
    assert rmse.wall_s == pytest.approx(3 * 63.0)
    shift, ratio = rmse.figures["shift"], rmse.figures["perplexity_ratio"]
    assert shift is not None
    assert shift.bounds is not None
    assert shift.low < 0.8 < shift.high + 0.1
    assert ratio is not None
    assert ratio.value == pytest.approx(1.0, abs=0.1)
    answers = [row.verdicts["q1_heal"] for row in (rmse, mean)]
    assert answers == ["yes", "no"]  # more trait, but broken
    assert rmse.verdicts["q0_filter"] == rmse.verdicts["q3_keep_moving"] == "yes"
    assert mean.verdicts["q2_stay_coherent"] == mean.verdicts["beats_prompting"] == "no"
    assert rmse.verdicts["beats_steering"] == "cannot tell"  # no doses in the directory


def test_verdicts_that_the_run_holds_come_first(two: tuple[Path, Path]) -> None:
    view = read_run(two[0])
    view.metrics["verdicts"] = {"beats_steering": {"answer": "yes"}}
    (row,) = compare_runs([view])
    assert row.verdicts["beats_steering"] == "yes"
    assert row.verdicts["q1_heal"] == "–"


def test_the_verdicts_see_every_round(two: tuple[Path, Path]) -> None:
    found = judge_run(read_run(two[0]))
    assert found["q3_keep_moving"].figures["slope"] == pytest.approx(0.2, abs=0.05)
    assert found["q0_filter"].figures["kept_share"] == pytest.approx(40 / 41)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("axis pairs", {"axis": replace(AXIS, pairs=PAIRS[:2])}),
        ("axis probes", {"axis": replace(AXIS, probes=("x",))}),
        ("evaluate settings", {"evaluate": {"samples": 64}}),
        ("sampling", {"generate": {"temperature": 0.7}}),
        ("model", {"model": "other"}),
    ],
)
def test_runs_on_different_items_are_refused(
    tmp_path: Path, what: str, change: dict[str, Any]
) -> None:
    paths = [make_run(tmp_path / "a", (0.6,)), make_run(tmp_path / "b", (0.6,), **change)]
    views = [read_run(path) for path in paths]
    with pytest.raises(RunError, match=f"{what}: b differs from a.*--force"):
        compare_runs(views)
    assert len(compare_runs(views, force=True)) == 2


def test_settings_that_an_older_version_did_not_know(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", (0.6,))
    b = make_run(tmp_path / "b", (0.6,), evaluate={"long_samples": 8, "samples": 64})
    (said,) = differences([read_run(a), read_run(b)])
    assert said == (
        "evaluate settings: b differs from a (samples 64 in place of 40, long_samples 8 in place "
        "of not set)"
    )
    assert len(compare_runs([read_run(b), read_run(a)], force=True)) == 2


def test_an_invalid_instrument_is_marked_everywhere(tmp_path: Path) -> None:
    path = make_run(tmp_path / "blind", (0.6,), neg=POS)
    rows = compare_runs([read_run(path)])
    assert rows[0].trait_mark == INVALID
    text = printed(comparison_table(rows), 100)
    assert text.count(INVALID) == 3
    assert comparison_markdown(rows).count(f"; {INVALID} |") == 3
    (row,) = csv.DictReader(io.StringIO(comparison_csv(rows)))
    assert row["trait_note"] == INVALID
    assert row["valid.trait_nats"] == "no"


def test_many_runs_fit_a_terminal(two: tuple[Path, Path]) -> None:
    rows = compare_runs([read_run(two[0])]) * 5
    text = printed(comparison_table(rows, 100), 100)
    assert text.count("paired shift") == 2  # two tables, three runs and two
    assert "…" not in text
    shift = next(line for line in text.splitlines() if "paired shift" in line)
    assert shift.count(" to +") == 3


def test_rivals_are_columns(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", (0.6, 0.8))
    bare = compare_runs([read_run(path)])
    assert "sft" not in comparison_markdown(bare)
    add_rival(path, "sft", 0.2)
    (row,) = compare_runs([read_run(path)])
    shift = row.figures["sft_shift"]
    assert shift is not None
    assert shift.value == pytest.approx(0.6 - 0.2 + 0.2, abs=0.1)
    assert row.figures.get("arithmetic_shift") is None
    text = comparison_markdown([row])
    assert "| sft shift |" in text
    assert "arith. shift" not in text
    assert "λ = 0" in text
    (cells,) = csv.DictReader(io.StringIO(comparison_csv([row])))
    assert float(cells["sft_shift_low"]) > 0
    assert cells["arithmetic_shift"] == ""


def add_rival(path: Path, name: str, more: float) -> None:
    """Give a run a rival of its first heal: the healed model with more of the trait."""
    for file in (path / "metrics.json", path / "rounds/00/metrics.json"):
        found = json.loads(file.read_text())
        if "items" in found:
            items = found["items"]["healed"]
            found["items"][name] = {**items, "trait_nats": [v + more for v in items["trait_nats"]]}
        else:
            healed = found["rounds"][0]["healed"]
            rival = {**healed, "trait_nats": healed["trait_nats"] + more}
            found["rounds"][0]["rivals"] = {name: rival}
        file.write_text(json.dumps(found))


def test_when_a_run_stops_is_no_difference(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", (0.6,))
    b = make_run(tmp_path / "b", (0.6,), evaluate={"max_perplexity_ratio": 3.0})
    assert differences([read_run(a), read_run(b)]) == []


def test_the_command_prints_and_writes(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = tmp_path / "tables" / "rmse.vs.mean"
    assert command.main([*map(str, two), "--out", str(stem)]) == 0
    shown = capsys.readouterr().out
    for word in ("rmse", "mean", "paired shift", "Q2 stays coherent", "cannot tell", "3 min"):
        assert word in shown
    rows = list(csv.DictReader(io.StringIO(Path(f"{stem}.csv").read_text())))
    assert [row["run"] for row in rows] == ["rmse", "mean"]
    assert float(rows[0]["trait_healed"]) == pytest.approx(1.0, abs=0.1)
    assert float(rows[0]["shift_low"]) > 0
    html = MarkdownIt("commonmark").enable("table").render(Path(f"{stem}.md").read_text())
    assert html.count("<tr>") == 3
    assert html.count("<th>") == html.count("<td>") / 2


def test_the_command_refuses_and_is_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = make_run(tmp_path / "a", (0.6,))
    b = make_run(tmp_path / "b", (0.6,), model="other")
    with pytest.raises(RunError, match="model: b differs"):
        command.main([str(a), str(b)])
    assert command.main([str(a), str(b), "--force", "--out", str(tmp_path / "t")]) == 0
    assert "not measured on the same items: model" in capsys.readouterr().out
    assert "Not measured on the same items" in (tmp_path / "t.md").read_text()
    with pytest.raises(ConfigError, match="at least one run"):
        command.main([])


def test_unfinished_runs_have_dashes(tmp_path: Path) -> None:
    bare = RunDirectory.create(tmp_path / "bare", CONFIG, AXIS, {})
    (row,) = compare_runs([read_run(bare.path)])
    assert row.figures["trait_base"] is row.figures["shift"] is row.wall_s is None
    assert set(row.verdicts.values()) == {"–"}
    started = make_run(tmp_path / "started", ())
    (row,) = compare_runs([read_run(started)])
    assert row.figures["trait_base"] is not None
    assert row.verdicts["valid.trait_nats"] == "yes"
    assert row.verdicts["q1_heal"] == "–"


def test_a_name_is_no_formula_and_no_markup(tmp_path: Path) -> None:
    path = make_run(tmp_path / "=1+1 | *x*", (0.6,))
    rows = compare_runs([read_run(path)])
    assert next(csv.DictReader(io.StringIO(comparison_csv(rows))))["run"].startswith("'=1+1")
    stem = tmp_path / "t"
    command.main([str(path), "--out", str(stem)])
    html = MarkdownIt("commonmark").enable("table").render(Path(f"{stem}.md").read_text())
    assert "=1+1 | *x*" in html


def test_runs_of_one_name_keep_their_paths(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / side / "run", (0.6,)) for side in "ab"]
    rows = compare_runs([read_run(path) for path in paths])
    assert [row.name for row in rows] == [str(path) for path in paths]
    assert json.loads((paths[0] / "metrics.json").read_text())["rounds"]
