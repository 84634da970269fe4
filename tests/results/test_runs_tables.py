"""What the tables say, on made-up runs; and that their JSON files hold all that is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import made_run, made_sweep
from results.runs.carry_out import show_diary
from results.runs.panels import ticks_in
from results.runs.records import SweepFigures, read_figures, write_figures
from results.runs.rounds import by_barrier
from results.say import nats, points, say
from results.studies import STUDIES

from steer_heal_love.errors import DataError
from steer_heal_love.records import Interval

EIGHT = tuple((0.3013 + 0.1 * n + 0.002 * n**2, 1.0217 + 0.0103 * n) for n in range(8))
OF_RUNS = [name for name, study in STUDIES.items() if study.sweeps]


def aggregates() -> SweepFigures:
    runs = [
        made_run(
            seed,
            ((0.3, 1.1), (0.5, 1.1 if name == "rmse" else 1.9)),
            settings={"heal.aggregate": name, "heal.divergence": divergence},
        )
        for seed in (0, 1)
        for name, divergence in (("mean", "reverse"), ("rmse", "reverse"), ("p95", "none"))
    ]
    return made_sweep("barrier", *runs, trials=6, rounds=2)


SWEEPS = {
    "heal": made_sweep("heal", *(made_run(seed) for seed in range(3))),
    "loop": made_sweep("loop", *(made_run(s, EIGHT) for s in range(3)), rounds=8),
    "barrier": aggregates(),
    "barrier-hard": None,
    "barrier-grid": made_sweep(
        "barrier-grid",
        *(
            made_run(settings={"heal.reference": "base", "heal.lam": lam, "heal.tau": tau})
            for lam in (0.3, 1.0)
            for tau in (0.5, 2.0)
        ),
    ),
    "unsteered": made_sweep("unsteered", made_run(0, ((0.1, 0.7),))),
    "axes": made_sweep("axes", made_run(axis="calm"), made_run(axis="dull", neg=0.2)),
}


def text_of(study: str, block: str, **found: SweepFigures | None) -> str:
    return STUDIES[study].blocks[block]({**SWEEPS, **found})


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_page_of_the_json_files_is_that_of_the_runs(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    (tmp_path / "results").mkdir()
    for sweep, figures in SWEEPS.items():
        if figures is not None:
            file = tmp_path / "results" / f"{sweep}.json"
            again = write_figures(file, figures)
            assert write_figures(tmp_path / "again.json", again) == again
            assert (tmp_path / "again.json").read_text() == file.read_text()
    read = study.read(tmp_path)
    assert [b(read) for b in study.blocks.values()] == [b(SWEEPS) for b in study.blocks.values()]
    assert [p.spec() for p in study.figures(read)]


@pytest.mark.parametrize("name", list(STUDIES))
def test_without_runs_there_is_nothing_to_show(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    found = study.read(tmp_path)
    assert [block(found) for block in study.blocks.values() if found] == [""] * (
        len(study.blocks) if found else 0
    )
    assert study.figures(found) == []


def test_a_broken_file_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "heal.json"
    assert read_figures(file) is None
    file.write_text('{"name": "heal"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"heal\.json is broken .* measure again"):
        read_figures(file)


def test_the_tables_of_one_round() -> None:
    text = text_of("heal", "heal")
    assert "| persona as system prompt | +0.10" in text
    assert "| steered, κ = 2 | +0.60" in text
    assert "| **healed** | +0.50" in text
    assert "adapter arithmetic" not in text  # was not measured
    assert "| prompting | +0.40 | yes |" in text
    assert "| plain distillation | +0.02 | yes |" in text
    assert "| is it as coherent as base? |  | yes |" in text
    assert "Not finished" not in text


def test_a_less_coherent_model_is_better_than_nothing() -> None:
    sweep = made_sweep("heal", *(made_run(s, ((0.9, 1.9),)) for s in range(3)))
    text = text_of("heal", "heal", heal=sweep)
    assert "| prompting | +0.80 | no |" in text
    assert "| yes |" not in text.partition("healed, against")[2]
    assert "no (perplexity)" in text


def test_what_is_not_finished_is_said() -> None:
    text = text_of("heal", "heal", heal=made_sweep("heal", made_run(), trials=3, rounds=2))
    assert "1 run (seed 0), 1 round each. **Not finished**: 0 of 3 runs done" in text


def test_the_loop_has_a_row_a_round_of_the_seeds_that_reached_it() -> None:
    runs = [made_run(0, EIGHT), made_run(1, EIGHT[:3])]
    text = text_of("loop", "loop", loop=made_sweep("loop", *runs, rounds=8))
    assert "| 2 | 2 | 1.00 | 96 of 204 |" in text
    assert "| 3 | 1 | 1.00 | 48 of 103 |" in text
    assert "| 7 | 1 |" in text


def test_barriers_are_set_beside_one_another_where_all_have_come() -> None:
    groups = by_barrier(aggregates())
    assert {name: len(runs) for name, runs in groups.items()} == {"rmse": 2, "mean": 2, "none": 2}
    assert list(groups) == ["rmse", "mean", "none"]
    text = text_of("barrier", "barrier")
    assert "| mean | 1 | 0, 1 | +0.50" in text
    assert "| rmse less mean | 1 | 0, 1 | +0.00 |" in text
    assert "no (perplexity)" in text.splitlines()[5]
    assert "| rmse less none | 1 | 0, 1 |" in text


def test_a_barrier_that_stopped_early_does_not_hide_what_came_of_the_others() -> None:
    long, short = ((0.3, 1.0), (0.4, 1.0), (0.5, 1.2)), ((0.3, 1.0), (0.4, 2.0))
    runs = [
        made_run(0, path, settings={"heal.aggregate": name})
        for name, path in (("rmse", long), ("mean", long), ("p95", short))
    ]
    text = text_of("barrier", "barrier", barrier=made_sweep("barrier", *runs, rounds=3))
    assert text.count("| p95 | 1 | 0 |") == 1
    assert "| p95 | 2 |" not in text
    assert "| mean | 2 | 0 | +0.50" in text
    assert "| rmse less p95 | 1 | 0 |" in text


def test_a_barrier_at_other_settings_stands_by_itself() -> None:
    taus = (("mean", 1.0), ("rmse", 1.0), ("mean", 0.72))
    runs = [
        made_run(0, ((0.3 * tau, 1.0),), settings={"heal.aggregate": name, "heal.tau": tau})
        for name, tau in taus
    ]
    text = text_of("barrier", "barrier", barrier=made_sweep("barrier", *runs))
    assert "| mean, τ = 0.72 | 0 | 0 | +0.22" in text
    assert "| rmse less mean, τ = 0.72 | 0 | 0 | +0.08" in text
    grid = text_of("barrier", "barrier-grid")
    assert [line.split(" |")[0] for line in grid.splitlines()[4:8]] == [
        f"| rmse, {words}" for words in ("λ = 0.3, τ = 0.5", "λ = 0.3, τ = 2", "τ = 0.5", "τ = 2")
    ]


def test_the_loop_without_steering_stands_beside_the_one_with_it() -> None:
    without = made_sweep("unsteered", *(made_run(s, ((0.1, 0.7), (0.2, 0.6))) for s in (1, 2)))
    text = text_of("unsteered", "unsteered", unsteered=without)
    rows = [line for line in text.splitlines() if line.startswith(("| 0", "| 1"))]
    assert [row.split(" |")[1] for row in rows] == [" without steering", " with it"] * 2
    assert rows[2].startswith("| 1 | without steering | +0.20")
    assert rows[3].startswith("| 1 | with it | +0.50")
    assert "| with it less without | 1 | 1 | +0.30" in text
    alone = text_of("unsteered", "unsteered", unsteered=without, barrier=None)
    assert "No run with steering" in alone


def test_an_axis_that_the_model_cannot_express_gets_no_table() -> None:
    text = text_of("axes", "axes")
    assert "**calm**" in text
    assert "**dull**" not in text
    assert "| calm | +0.20 | yes |" in text
    assert "| dull | −0.10 | no |" in text
    assert text.count("| **healed** |") == 1


def test_figures_are_said_with_bounds_where_there_are_any() -> None:
    assert nats(Interval(0.5, 0.4, 0.6)) == "+0.50 (+0.40 to +0.60)"
    assert say(Interval(1.0, float("-inf"), float("inf"))) == "1.00"
    assert points(Interval(-0.02, -0.1, 0.05)) == "−2 (−10 to +5)"
    assert nats(None) == "–"
    assert nats(Interval(0.5, 0.4999, 0.5001)) == "+0.50"


def test_ticks_stay_inside_and_are_thinned_out() -> None:
    assert ticks_in([0.95, 1.3]) == [1, 1.1, 1.25]
    assert ticks_in([3.2, 3.4]) == []
    assert len(ticks_in([0.1, 100.0])) <= 9


def test_a_run_that_was_ended_early_is_done() -> None:
    run = made_run(0, EIGHT[:2])
    last = replace(run.rounds[1], stopped="healed perplexity is 2.1 times the base's")
    sweep = made_sweep("loop", replace(run, rounds=(run.rounds[0], last)), trials=1, rounds=8)
    text = text_of("loop", "loop", loop=sweep)
    assert "Not finished" not in text
    assert "Ended early by the coherence floor: seed-0 (healed perplexity is 2.1" in text


def test_the_first_diary_is_shown_word_for_word(tmp_path: Path) -> None:
    page = tmp_path / "docs/results/loop-diary.md"
    page.parent.mkdir(parents=True)
    show_diary(tmp_path / "sweep", page)
    assert not page.exists()
    for seed in (1, 0):
        run = tmp_path / f"sweep/seed-{seed}"
        run.mkdir(parents=True)
        (run / "diary.md").write_text(f"# Diary of seed {seed}\n\n> *as it is* “…”\n", "utf-8")
    show_diary(tmp_path / "sweep", page)
    assert page.read_bytes() == (tmp_path / "sweep/seed-0/diary.md").read_bytes()
