"""Map, dose, heal, several runs: each figure draws what there is, and says it in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from made_up_runs import make_run

from steer_heal_love.report.figures.axis_map import axis_map_plot, choose_measures
from steer_heal_love.report.figures.doses import doses_plot
from steer_heal_love.report.figures.drawing import Plot
from steer_heal_love.report.figures.heal_curves import heal_plot
from steer_heal_love.report.figures.trajectories import trajectories_plot
from steer_heal_love.report.states import parse_metrics, parse_run
from steer_heal_love.runs.read import RunView, read_run

Make = Callable[..., Any]


def heal_plot_of(view: RunView) -> Plot | None:
    return heal_plot(view, parse_run(view))


def with_measures(metrics: dict[str, Any], **moves: tuple[float, float]) -> dict[str, Any]:
    """Further figures of base and the last healed round, each with an interval of ± 0.1."""
    for state, side in ((metrics["base"], 0), (metrics["rounds"][-1]["healed"], 1)):
        for name, values in moves.items():
            state[name] = values[side]
            state["intervals"][name] = [values[side] - 0.1, values[side] + 0.1]
    return metrics


def judged(metrics: dict[str, Any], **answers: str) -> dict[str, Any]:
    return {**metrics, "verdicts": {f"valid.{k}": {"answer": a} for k, a in answers.items()}}


CARE = {"care_nats": (-1.0, -0.8), "authority_nats": (-2.0, -2.1), "liberty_nats": (-3.0, -1.0)}


def test_care_against_authority_where_they_are_valid(make_metrics: Make) -> None:
    metrics = with_measures(make_metrics(2), **CARE)
    assert choose_measures(parse_metrics(metrics)) == ("care_nats", "authority_nats")
    plot = axis_map_plot(parse_metrics(judged(metrics, forced_choice="yes")))
    assert plot is not None
    assert plot.title == "The axis map: care against authority"
    assert "base at −1.00, −2.00; round 1 healed at −0.80, −2.10" in plot.alt


def test_else_what_moved_most_and_is_valid(make_metrics: Make) -> None:
    metrics = with_measures(make_metrics(2), persona_nats=(0.0, 0.3), **CARE)
    metrics = judged(metrics, forced_choice="no", trait_nats="yes", persona_nats="yes")
    assert set(choose_measures(parse_metrics(metrics)) or ()) == {"trait_nats", "persona_nats"}
    plot = axis_map_plot(
        parse_metrics(judged(metrics, forced_choice="no", trait_nats="no", persona_nats="no"))
    )
    assert plot is not None
    assert "not valid on this model" in plot.caption
    assert plot.title == "The axis map: liberty against trait"


def test_no_map_of_one_measure_or_of_nothing(make_metrics: Make) -> None:
    assert axis_map_plot(parse_metrics(make_metrics(2))) is None
    assert axis_map_plot(parse_metrics(make_metrics(0))) is None
    assert axis_map_plot(parse_metrics({})) is None


def test_dose_and_kept_share(make_metrics: Make) -> None:
    plot = doses_plot(parse_metrics(make_metrics(3)))
    assert plot is not None
    assert plot.table.rows[0] == ("0", "1.50", "64 of 96: 67 % (57 % to 75 %)")
    assert "round 2 κ 0.84" in plot.alt
    assert "<svg" in vl_convert.vegalite_to_svg(plot.spec())
    assert doses_plot(parse_metrics({})) is None


@pytest.mark.parametrize("broken", [{"kept": None}, {"kept": 9, "total": 3}, {"dose": None}])
def test_rounds_with_figures_missing_are_drawn(make_metrics: Make, broken: dict[str, Any]) -> None:
    metrics = make_metrics(2)
    metrics["rounds"][0] |= broken
    plot = doses_plot(parse_metrics(metrics))
    assert plot is not None
    assert "–" in " ".join(plot.table.rows[0])
    assert "<svg" in vl_convert.vegalite_to_svg(plot.spec())


def test_heal_curves_with_their_limit(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (0.5, 0.6))
    steps = [{"epoch": i / 10, "nll": 2 - i / 10, "divergence_mean": i / 20} for i in range(10)]
    (run / "rounds/01/heal.jsonl").write_text("\n".join(map(json.dumps, steps)), "utf-8")
    plot = heal_plot_of(read_run(run))
    assert plot is not None
    assert "τ is 0.50" in plot.alt
    assert plot.table.rows[0] == ("0", "1.90", "0.50", "10 %")
    assert "<svg" in vl_convert.vegalite_to_svg(plot.spec())
    for r in range(2):
        (run / f"rounds/{r:02d}/heal.jsonl").unlink()
    assert heal_plot_of(read_run(run)) is None


def test_seeds_have_a_band_and_barriers_do_not(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", (0.5, 0.6), seed=0),
        make_run(tmp_path / "b", (0.7, 0.8), seed=1),
        make_run(tmp_path / "c", (0.4, 0.3), heal={"aggregate": "mean"}),
    ]
    plot = trajectories_plot([read_run(path) for path in runs])
    bands = [row for row in plot.table.rows if "seeds" in row[0]]
    assert [row[:2] for row in bands] == [
        ("2 seeds: a, b", "base"), ("2 seeds: a, b", "1"), ("2 seeds: a, b", "2"),
    ]  # fmt: skip
    ends = {row[0]: float(row[2].split(" ")[0]) for row in plot.table.rows if row[1] == "2"}
    assert ends["2 seeds: a, b"] == pytest.approx((ends["a"] + ends["b"]) / 2, abs=0.011)
    assert {row[0] for row in plot.table.rows if "seeds" not in row[0]} == {"a", "b", "c"}
    assert "<svg" in vl_convert.vegalite_to_svg(plot.spec())
    alone = trajectories_plot([read_run(runs[0]), read_run(runs[2])])
    assert "no band over seeds" in alone.caption
