"""What is said of planted loops, on measurements that were made up, against naive reckoning."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from results.items import over_seeds
from results.planted.findings import (
    loop_flags,
    matched_students,
    matched_taus,
    more_loops,
    seen_by,
    shown_text,
    students,
)
from results.planted.sight import look
from results.planted.study import Arm
from results.planted.words import matched_verdict, tau_words, verdict, verdict_words

from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.maths.divergence import divergence_per_position
from steer_heal_love.records import Interval
from steer_heal_love.stages.heal import Example
from tiny import random_adapter, random_ids, tiny_lm

SORTS = ("clean", "inside", "to the end")


def measured(loops: list[float], scale: float = 1.0) -> dict[str, Any]:
    """A student of which so many samples loop, and whose D is a multiple of the text's number."""
    divergence = {
        name: {sort: [scale * (k + i) for i in range(5)] for k, sort in enumerate(SORTS)}
        for name in ("mean", "rmse", "p95", "max")
    }
    repeats = [[-2.0 * scale, -1.0 * scale], [-4.0 * scale, -3.0 * scale]]
    items = {
        "loop_share": loops[:-2],
        "long_loop_share": loops[-2:],
        "perplexity": [scale * (5 + i) for i in range(len(loops) - 2)],
        "relevance": [scale * (1 + i) for i in range(len(loops) - 2)],
    }
    return {"divergence": divergence, "repeats": {"learnt": repeats, "fresh": repeats}} | {
        "items": items
    }


NEVER = [0.0] * 12
OFTEN = [1.0, 0.0] * 6


def test_an_aggregate_sees_a_loop_where_d_exceeds_tau() -> None:
    found = {0: measured(NEVER, 0.3), 1: measured(NEVER, 0.5)}
    rows = {(r.aggregate, r.texts): r for r in seen_by(found, tau=1.0, default=2.0)}
    assert set(rows) == {(a, s) for a in ("mean", "rmse", "p95", "max") for s in SORTS}
    values = [v for f in found.values() for v in f["divergence"]["rmse"]["inside"]]
    row = rows["rmse", "inside"]
    assert row.divergence.value == pytest.approx(median(values))
    assert row.over_tau.value == pytest.approx(fmean(v > 1.0 for v in values))
    assert row.over_tau.low <= row.over_tau.value <= row.over_tau.high
    assert row.over_default.value == pytest.approx(fmean(v > 2.0 for v in values))
    clean = [v for f in found.values() for v in f["divergence"]["rmse"]["clean"]]
    wins = [1.0 if v > c else 0.5 if v == c else 0.0 for v in values for c in clean]
    assert row.told is not None
    assert row.told.value == pytest.approx(fmean(wins))
    assert rows["rmse", "clean"].told is None


def test_which_aggregates_exceed_tau_is_said_of_each_sort_of_text() -> None:
    rows = seen_by({0: measured(NEVER, 0.4)}, tau=1.0, default=2.0)
    words = tau_words(rows, 1.0)
    assert "no loop: none" in words
    assert "loop to the end: mean, rmse, p95, max" in words


def test_students_are_held_against_base() -> None:
    base, arm = {0: measured(NEVER), 1: measured(NEVER)}, {0: measured(OFTEN, 2.0)}
    arm[1] = measured(NEVER, 2.0)
    _, row = students(base, {"mean": arm})
    assert row.by_seed == (0.5, 0.0)
    assert row.loops is not None
    assert row.loops.value == pytest.approx(0.25)
    assert row.more_loops is not None
    assert row.more_loops.value == pytest.approx(0.25)
    assert row.perplexity_ratio is not None
    assert row.perplexity_ratio.value == pytest.approx(2.0)
    assert row.relevance_ratio is not None
    assert row.relevance_ratio.value == pytest.approx(2.0)
    assert row.goes_on is not None
    assert row.goes_on.value == pytest.approx(fmean([-1.0, -3.0]))
    assert row.begins_fresh is not None
    assert row.begins_fresh.value == pytest.approx(fmean([-2.0, -4.0]))


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=2, max_size=4))
def test_more_loops_is_the_difference_of_the_means(flags: list[list[bool]]) -> None:
    """Whatever is taken first, the mean over seeds or over prompts, the difference is the same."""
    found = {i: measured([float(v) for v in row]) for i, row in enumerate(flags)}
    base = {i: measured(OFTEN) for i in found}
    difference = more_loops(found, base)
    assert difference is not None
    naive = fmean(v for row in flags for v in row) - fmean(OFTEN)
    assert difference.value == pytest.approx(naive, abs=1e-12)
    assert loop_flags(found[0]) == [float(v) for v in flags[0]]


def test_items_over_seeds_leave_gaps_out() -> None:
    assert over_seeds([[1.0, None, None], [3.0, 5.0, None]]) == [2.0, 5.0, None]
    found = over_seeds([[2.0], [8.0]], logs=True)
    assert found == [pytest.approx(4.0)]
    with pytest.raises(ValueError, match="not the same items"):
        over_seeds([[1.0], [1.0, 2.0]])


def test_a_matched_tau_is_as_strong_where_no_loop_is() -> None:
    """Under τ the same share of each aggregate's median, whatever they are on texts with loops."""
    found = {seed: measured(NEVER, 0.1 * (seed + 1)) for seed in range(2)}
    for f in found.values():
        halved = {k: [v / 2 for v in d] for k, d in f["divergence"]["mean"].items()}
        f["divergence"]["mean"] = halved
        f["divergence"]["max"]["inside"] = [99.0] * 5
    assert matched_taus(found, 0.4) == {"mean": 0.2, "p95": 0.4, "max": 0.4}
    for f in found.values():
        f["divergence"]["rmse"]["clean"] = [0.0] * 5
    with pytest.raises(ValueError, match="nothing to match"):
        matched_taus(found, 0.4)


def test_matched_students_are_held_against_the_rmse() -> None:
    base, rmse = {0: measured(NEVER)}, {0: measured(NEVER, 0.5)}
    arms: dict[Arm, dict[int, Any]] = {
        "mean": {0: measured(OFTEN, 0.25)},
        "max": {0: measured(NEVER, 0.75)},
        "p95": rmse,
    }
    taus: dict[Arm, float] = {"rmse": 0.2, "mean": 0.1, "p95": 0.3, "max": 0.4}
    rows = {row.name: row for row in matched_students(base, rmse, arms, taus)}
    assert {name: row.tau for name, row in rows.items()} == taus
    # log p of the second repeats: −1 and −3 under base, and the scale's multiple under a student
    assert rows["rmse"].goes_on.value == pytest.approx(fmean([0.5, 1.5]))
    assert rows["rmse"].less_rmse is None
    less = rows["mean"].less_rmse
    assert less is not None
    assert less.value == pytest.approx(fmean([0.25, 0.75]))
    assert rows["mean"].divergence["inside"].value == pytest.approx(0.25 * 3)
    loops = rows["mean"].loops_less_rmse
    assert loops is not None
    assert loops.value == pytest.approx(0.5)
    words = matched_verdict(list(rows.values()))
    assert "behind the mean more than behind the rmse" in words
    assert "behind the greatest less than behind the rmse" in words
    assert "behind the 95th percentile no clear difference" in words


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("difference", "mean", "rmse", "words"),
    [
        (at(0.1, 0.3), at(0.1, 0.3), at(-0.1, 0.1), "Yes."),
        (at(-0.1, 0.3), at(0.1, 0.3), at(-0.1, 0.1), "Not decided: the interval"),
        (at(0.0, 0.0), at(0.0, 0.0), at(0.0, 0.0), "Not decided: the interval"),
        (at(0.1, 0.3), at(0.3, 0.5), at(0.1, 0.2), "In part"),
        (at(0.1, 0.3), at(-0.1, 0.3), at(-0.3, -0.1), "Not decided: it loops more"),
        (at(-0.3, -0.1), at(-0.1, 0.1), at(0.1, 0.3), "No:"),
        (None, at(0.1, 0.3), at(0.1, 0.3), "Not decided: too few"),
    ],
)
def test_the_verdict_goes_by_intervals(
    difference: Interval | None, mean: Interval, rmse: Interval, words: str
) -> None:
    assert verdict(difference, mean, rmse).startswith(words)


def test_the_verdict_names_who_loops_more_than_base() -> None:
    base, loops = {0: measured(NEVER)}, {0: measured(OFTEN)}
    words = verdict_words(base, {"none": loops, "mean": loops, "rmse": base})
    assert "holds? Yes." in words
    assert words.endswith("above zero: without a barrier, mean.")
    assert verdict_words(base, {"none": loops}).endswith("Not measured.")


def test_the_text_that_is_shown_is_neither_the_best_nor_the_worst() -> None:
    found = measured(NEVER)
    found["divergence"]["rmse"]["inside"] = [0.9, 0.1, 0.5, 0.7, 0.3]
    assert shown_text(found) == 2


def test_a_sight_is_what_the_whole_logits_say() -> None:
    """Against transformers' own forward pass and the plain reckoning of the divergence."""
    lm = tiny_lm()
    prompts, completions = random_ids(5, 9, seed=1), random_ids(12, 7, seed=2)
    examples = [Example(tuple(p), tuple(c)) for p, c in zip(prompts, completions, strict=True)]

    def logits(example: Example) -> torch.Tensor:
        ids = torch.tensor([[*example.prompt, *example.completion]])
        with torch.no_grad():
            found = lm.model(input_ids=ids).logits[0]
        return found[len(example.prompt) - 1 : -1]

    before = [logits(example) for example in examples]
    assert all(max(sight.kl_nats) < 1e-5 for sight in look(lm, examples))
    with student(lm, [random_adapter(lm)]):
        after, sights = [logits(example) for example in examples], look(lm, examples)
    for example, x, y, sight in zip(examples, after, before, sights, strict=True):
        kl = divergence_per_position(x, y, "reverse")
        assert torch.tensor(sight.kl_nats) == pytest.approx(kl, abs=1e-4)
        rows = x.log_softmax(-1).gather(1, torch.tensor(example.completion)[:, None])[:, 0]
        assert torch.tensor(sight.nll_nats) == pytest.approx(-rows, abs=1e-4)
        assert sight.divergence("rmse") == pytest.approx(float(kl.square().mean().sqrt()), rel=1e-3)
        assert sight.divergence("max") == pytest.approx(float(kl.max()), rel=1e-3)
    assert look(lm, []) == []
