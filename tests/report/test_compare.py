"""A comparison of two made-up runs, from their directories alone."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt

from steer_heal_love.commands import compare as command
from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import (
    Adapter,
    AnswerPair,
    Axis,
    Baseline,
    Completion,
    Direction,
    Healed,
    HealStep,
    Interval,
    Judged,
    Measurement,
    RoundRecord,
    Scores,
)
from steer_heal_love.report.compare import compare_runs, comparison_csv, differences
from steer_heal_love.report.judgement import judge_run
from steer_heal_love.runs import RunDirectory, read_run

PAIRS = tuple(AnswerPair(f"q{i}", "yes", "no") for i in range(3))
AXIS = Axis("love", "d", "You are {persona}.", "kind", "cold", ("p0", "p1"), PAIRS)
CONFIG: dict[str, Any] = {
    "axis": "love",
    "model": "smollm2",
    "seed": 0,
    "evaluate": {"samples": 40, "max_new_tokens": 96, "max_perplexity_ratio": 2.0},
    "generate": {"temperature": 1.0, "top_k": 64, "top_p": 0.95},
    "heal": {
        "aggregate": "rmse",
        "divergence": "reverse",
        "reference": "base",
        "lam": 1.0,
        "tau": 0.5,
    },
}
N = 40
COMMON = np.random.default_rng(0).normal(0, 0.3, N)


@cache
def measured(trait: float, perplexity: float, seed: int) -> Measurement:
    noise = np.random.default_rng(seed).normal(0, 0.1, (3, N))
    items = {
        "trait_nats": trait + COMMON + noise[0],
        "persona_nats": trait / 2 + COMMON + noise[1],
        "perplexity": np.exp(math.log(perplexity) + COMMON + noise[2]),
        "loop_share": np.zeros(N),
    }
    plain = {k: tuple(float(x) for x in v) for k, v in items.items()}
    figures = {k: bootstrap_mean(v, resamples=200) for k, v in plain.items()}
    figures["perplexity"] = Interval(perplexity, 0.9 * perplexity, 1.1 * perplexity)
    return Measurement(figures, plain)


BASE, POS, NEG = measured(0.2, 7.4, 1), measured(0.3, 7.4, 2), measured(-0.2, 7.4, 3)


def judged(perplexity: float, *reasons: str) -> Judged:
    scores = Scores(perplexity, 9, 9, 0, 0, 1, False, False, False, False, 0.9)
    return Judged(Completion("p", "t", (1,), 2, 1.0, 0, 0), scores, reasons)


def record(r: int, trait: float, perplexity: float) -> RoundRecord:
    step = HealStep(0, 1.0, 2.0, 1.9, 0.5, 0.6, 0.1, 1.0, 1.0)
    good = tuple(judged(6 + 0.1 * (i % 9), *(("surplus",) if i > 30 else ())) for i in range(40))
    return RoundRecord(
        round=r,
        direction=Direction((1,), torch.ones(1, 4)),
        dose=1.5 * 0.75**r,
        judged=(*good, judged(90.0, "perplexity")),
        healed_result=Healed(Adapter({"a.lora_A.weight": torch.ones(2, 2)}, {"r": 2}), (step,), ()),
        cosine_first=1.0 - 0.05 * r,
        steered=measured(trait + 0.5, 10.0, 50 + r),
        healed=measured(trait, perplexity, 70 + r),
        wall_s={"steer": 3.0, "heal": 60.0},
    )


def make_run(
    path: Path,
    traits: tuple[float, ...],
    perplexity: float = 7.4,
    *,
    axis: Axis | None = None,
    model: str = "smollm2",
    **config: Any,
) -> Path:
    axis = axis or AXIS
    merged = {
        k: {**v, **config.get(k, {})} if isinstance(v, dict) else v for k, v in CONFIG.items()
    }
    run = RunDirectory.create(path, merged, axis, {})
    run.record_baseline(Baseline(BASE, POS, NEG), {"axis": axis.name, "model": model, "seed": 0})
    for r, trait in enumerate(traits):
        run.record_round(record(r, trait, perplexity))
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    tmp_path = tmp_path_factory.mktemp("two")
    return (
        make_run(tmp_path / "rmse", (0.6, 0.8, 1.0)),
        make_run(tmp_path / "mean", (0.6, 0.9, 1.4), 40.0, heal={"aggregate": "mean"}),
    )


def test_two_runs_beside_one_another(two: tuple[Path, Path]) -> None:
    rmse, mean = compare_runs([read_run(path) for path in two])
    assert (rmse.name, rmse.rounds, rmse.barrier["aggregate"]) == ("rmse", 3, "rmse")
    assert rmse.dose == pytest.approx(1.5 * 0.75**2)
    assert rmse.wall_s == pytest.approx(3 * 63.0)
    assert rmse.shift is not None
    assert rmse.shift.low < 0.8 < rmse.shift.high + 0.1
    assert rmse.perplexity_ratio is not None
    assert rmse.perplexity_ratio.value == pytest.approx(1.0, abs=0.1)
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
    assert row.trait_base is row.shift is row.wall_s is None
    assert set(row.verdicts.values()) == {"–"}
    started = make_run(tmp_path / "started", ())
    (row,) = compare_runs([read_run(started)])
    assert row.trait_base is not None
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
