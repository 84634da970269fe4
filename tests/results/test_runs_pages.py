"""What the pages say, on made-up runs; and that their JSON files hold all that is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import made_run, made_sweep
from results.runs.__main__ import show_diary
from results.runs.axes import axes_words
from results.runs.barrier import (
    barrier_words,
    by_barrier,
    last_common_round,
    loses_coherence,
    of_same_seed,
    quotient,
)
from results.runs.conditions import healed_at, trait_shift
from results.runs.goals import Goal, first_goals, last_goals
from results.runs.heal import answers, heal_words
from results.runs.loop import loop_words
from results.runs.panels import APART, thinned, ticks_in
from results.runs.questions import QUESTIONS
from results.runs.records import SweepFigures, read_figures, write_figures
from results.runs.saying import nats, points, times
from results.runs.unsteered import unsteered_words

from steer_heal_love.errors import DataError
from steer_heal_love.records import Interval

EIGHT = tuple((0.3013 + 0.1 * n + 0.002 * n**2, 1.0217 + 0.0103 * n) for n in range(8))


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


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_a_page_of_the_json_files_is_that_of_the_runs(name: str, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    wanted = (*question.sweeps, *question.beside)
    found = {sweep: SWEEPS[sweep] for sweep in wanted}
    again = dict(found)
    for sweep, figures in found.items():
        if figures is not None:
            again[sweep] = write_figures(tmp_path / f"{sweep}.json", figures)
            assert write_figures(tmp_path / "again.json", again[sweep]) == again[sweep]
            assert (tmp_path / "again.json").read_text() == (tmp_path / f"{sweep}.json").read_text()
    assert question.words(again) == question.words(found)
    pictures = [plot.alt for plot in question.plots(again)]
    assert pictures == [plot.alt for plot in question.plots(found)]
    assert pictures


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_without_runs_a_block_holds_no_number(name: str) -> None:
    question = QUESTIONS[name]
    found = dict.fromkeys((*question.sweeps, *question.beside), None)
    blocks = question.words(found)
    assert set(blocks.values()) == {f"Not run yet: `make results-{name}`."}
    assert question.plots(found) == []


def test_a_broken_file_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "heal.json"
    assert read_figures(file) is None
    file.write_text('{"name": "heal"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"heal\.json is broken .* measure again"):
        read_figures(file)


def test_the_table_of_one_round_and_its_answers() -> None:
    text = heal_words(SWEEPS)["heal"]
    assert "| persona as system prompt | +0.10" in text
    assert "| steered, κ = 2 | +0.60" in text
    assert "| **healed** | +0.50" in text
    assert "adapter arithmetic" not in text  # was not measured
    assert "Is the healed model better than prompting? **Yes**" in text
    assert "Is the healed model better than plain distillation? **Yes**" in text
    assert "Not finished" not in text


def test_a_less_coherent_model_is_better_than_nothing() -> None:
    said = answers([made_run(s, ((0.9, 1.9),)) for s in range(3)])
    assert all("**No**" in line for line in said)
    assert "perplexity beyond the limit" in said[-1]


def test_what_is_not_finished_is_said() -> None:
    sweep = made_sweep("heal", made_run(), trials=3, rounds=2)
    text = heal_words({"heal": sweep})["heal"]
    assert "1 run (seed 0), 1 round each. **Not finished**: 0 of 3 runs done" in text


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(0.5, 2.0), st.floats(0.0, 1.0)), max_size=12
    )
)
def test_labels_of_a_plane_that_are_left_do_not_lie_on_each_other(
    points: list[tuple[str, float, float]],
) -> None:
    rows = [
        {"series": name, "perplexity": x, "trait": y, "label": str(k)}
        for k, (name, x, y) in enumerate(points)
    ]
    found = thinned(rows, [0.5, 2.0], [0.0, 1.0])
    assert [{**row, "label": ""} for row in found] == [{**row, "label": ""} for row in rows]
    assert all(row["label"] in ("", str(k)) for k, row in enumerate(found))
    left = [row for row in found if row["label"]]
    assert (found[0] in left) if rows else (left == [])
    for k, one in enumerate(left):
        for other in left[:k]:
            across = abs(math.log(one["perplexity"] / other["perplexity"])) / math.log(4)
            up = abs(one["trait"] - other["trait"])
            assert across > APART[0] - 1e-9 or up > APART[1] - 1e-9


def test_the_ends_of_a_series_keep_their_labels_before_what_is_between() -> None:
    middle = [{"series": "a", "perplexity": 1.0, "trait": 0.5, "label": str(k)} for k in range(3)]
    ends = [{**middle[0], "trait": 0.0}, *middle, {**middle[0], "label": "end", "trait": 0.51}]
    labels = [row["label"] for row in thinned(ends, [0.5, 2.0], [0.0, 1.0])]
    assert labels == ["0", "", "", "", "end"]


def test_the_loop_has_a_row_a_round_of_the_seeds_that_reached_it() -> None:
    runs = [made_run(0, EIGHT), made_run(1, EIGHT[:3])]
    text = loop_words({"loop": made_sweep("loop", *runs, rounds=8), "heal": None})["loop"]
    assert "| 2 | 2 | 1.00 | 96 of 204 |" in text
    assert "| 3 | 1 | 1.00 | 48 of 103 |" in text
    assert "| 7 | 1 |" in text


def test_goals_are_decided_by_their_whole_interval() -> None:
    every = {goal.words: goal for goal in last_goals([made_run(s, EIGHT) for s in range(3)])}
    verdicts = {words.partition(": ")[2] or words: g.verdict for words, g in every.items()}
    assert verdicts["perplexity at most 1.15 × base"] == "met"
    assert verdicts["trait not falling in any of the first 5 rounds, least step"] == "met"
    assert verdicts["capability perplexity at most 1.10 × base"] == "met"
    loops = verdicts["loops of long samples at most 3 points above base"]
    assert loops == "not decided; the mean meets it"  # 48 answers are too few


def test_the_least_step_is_found() -> None:
    path = ((0.3, 1.0), (0.5, 1.0), (0.4, 1.0), (0.6, 1.0), (0.7, 1.0))
    goal = last_goals([made_run(s, path) for s in range(3)])[-1]
    assert goal.figure is not None
    assert goal.figure.value == pytest.approx(-0.1)
    assert goal.verdict == "not met"
    assert goal.note == "it is the step of round 2"


def test_goals_after_round_0() -> None:
    steering, prompting = first_goals([made_run(s, ((0.5, 1.2),)) for s in range(3)])
    assert steering.verdict == "met"
    assert prompting.figure is not None
    assert prompting.figure.value == pytest.approx(0.2)
    assert [g.verdict for g in last_goals([made_run()])] == ["not reached yet"] * 7


@pytest.mark.parametrize(
    ("interval", "least", "verdict"),
    [
        (Interval(1.0, 0.5, 1.5), 0.5, "met"),
        (Interval(1.0, 0.5, 1.5), 0.6, "not decided; the mean meets it"),
        (Interval(1.0, 0.5, 1.5), 1.2, "not decided; the mean misses it"),
        (Interval(1.0, 0.5, 1.5), 1.6, "not met"),
    ],
)
def test_a_verdict_in_words(interval: Interval, least: float, verdict: str) -> None:
    assert Goal("", interval, nats, least=least).verdict == verdict
    turned = Interval(-interval.value, -interval.high, -interval.low)
    assert Goal("", turned, nats, most=-least).verdict == verdict


def test_barriers_are_set_beside_one_another_where_all_have_come() -> None:
    groups = by_barrier(aggregates())
    assert list(groups) == ["rmse", "mean", "none"]
    assert {name: len(runs) for name, runs in groups.items()} == {"rmse": 2, "mean": 2, "none": 2}
    assert last_common_round(list(groups.values())) == 1
    text = barrier_words(SWEEPS)["barrier"]
    assert "After round 1, the last" in text
    assert "rmse against the mean after round 1, seeds 0, 1: trait +0.00 nats per token" in text
    assert "**Yes**. As coherent as base with rmse: yes; with the mean: no (perplexity" in text
    assert "rmse against no barrier after round 1, seeds 0, 1" in text
    assert text.count("Does the model lose coherence with") == 2


def test_a_barrier_that_stopped_early_does_not_hide_what_came_of_the_others() -> None:
    long, short = ((0.3, 1.0), (0.4, 1.0), (0.5, 1.2)), ((0.3, 1.0), (0.4, 2.0))
    runs = [
        made_run(0, path, settings={"heal.aggregate": name})
        for name, path in (("rmse", long), ("mean", long), ("p95", short))
    ]
    text = barrier_words({**SWEEPS, "barrier": made_sweep("barrier", *runs, rounds=3)})["barrier"]
    early, later = text.split("After round 2, of those that have come so far:")
    assert early.count("| p95 | 0 |") == 1
    assert "| p95 |" not in later
    assert "| mean | 0 | +0.50" in later
    assert "rmse against the 95th percentile after round 1, seed 0:" in later


def test_a_barrier_at_another_tau_stands_by_itself() -> None:
    taus = (("mean", 1.0), ("rmse", 1.0), ("mean", 0.72))
    runs = [
        made_run(0, ((0.3 * tau, 1.0),), settings={"heal.aggregate": name, "heal.tau": tau})
        for name, tau in taus
    ]
    text = barrier_words({**SWEEPS, "barrier": made_sweep("barrier", *runs)})["barrier"]
    rows = [line.split(" |")[0] for line in text.splitlines() if line.startswith("| ")]
    assert rows[-3:] == ["| rmse", "| mean", "| mean, τ = 0.72"]
    assert "| mean, τ = 0.72 | 0 | +0.22" in text
    assert "rmse against the mean at τ = 0.72 after round 0, seed 0: trait +0.08 nats" in text
    assert "coherence with the mean at τ = 0.72 where it keeps it" in text


def test_barriers_are_compared_seed_by_seed() -> None:
    first = [made_run(s, ((0.5, 1.0 + s),)) for s in (1, 2)]
    second = [made_run(s, ((0.3, 2.0 + 2 * s),)) for s in (2, 1)]
    pick = healed_at(0)
    shift = trait_shift(first, pick, of_same_seed(second, pick))
    assert shift is not None
    assert shift.value == pytest.approx(0.2)
    found = quotient(first, second[::-1], pick, "perplexity")
    assert found is not None
    assert found.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rmse", "mean", "said"),
    [
        ("yes", "no", "yes"),
        ("yes", "yes", "no"),
        ("no", "no", "no: it loses it with both"),
        ("cannot tell", "no", "not decided"),
        ("yes", "cannot tell", "not decided"),
    ],
)
def test_whether_coherence_is_lost_with_the_mean_alone(rmse: str, mean: str, said: str) -> None:
    assert loses_coherence(rmse, mean) == said  # type: ignore[arg-type]


def test_the_loop_without_steering_stands_beside_the_one_with_it() -> None:
    without = made_sweep("unsteered", *(made_run(s, ((0.1, 0.7), (0.2, 0.6))) for s in (1, 2)))
    text = unsteered_words({**SWEEPS, "unsteered": without})["unsteered"]
    rows = [line for line in text.splitlines() if line.startswith(("| 0", "| 1"))]
    assert [row.split(" |")[1] for row in rows] == [" without steering", " with it"] * 2
    assert rows[2].startswith("| 1 | without steering | +0.20")
    assert rows[3].startswith("| 1 | with it | +0.50")
    assert "After round 1, seed 1, with steering less without it: trait +0.30 nats" in text
    assert (
        "No run with steering"
        in unsteered_words({"unsteered": without, "barrier": None})["unsteered"]
    )
    assert "Not run yet" in unsteered_words({"unsteered": None, "barrier": None})["unsteered"]


def test_the_grid_has_a_row_a_cell() -> None:
    text = barrier_words(SWEEPS)["barrier-grid"]
    assert "| base | 0.3 | 2 | 0 | +0.50" in text
    assert text.count("| base |") == 4


def test_an_axis_that_the_model_cannot_express_gets_no_table() -> None:
    text = axes_words(SWEEPS)["axes"]
    assert "**calm**" in text
    assert "**dull**" not in text
    assert "| dull | −0.10" in text
    assert "not valid on this model" in text


def test_figures_are_said_with_bounds_where_there_are_any() -> None:
    assert nats(Interval(0.5, 0.4, 0.6)) == "+0.50 (+0.40 to +0.60)"
    assert times(Interval(1.0, float("-inf"), float("inf"))) == "1.00"
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
    text = loop_words({"loop": sweep, "heal": None})["loop"]
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
