"""The summary claims what the figures carry and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import printed, summary

from steer_heal_love.report.states import parse_metrics
from steer_heal_love.report.text.summary import COLUMNS, round_row, round_table, summary_text

RUN = Path("runs/mine")
Make = Callable[..., Any]


def test_a_run_that_worked(make_metrics: Make) -> None:
    text = summary(make_metrics(3))
    assert "smollm2, axis love, seed 0: 3 rounds" in text
    assert "It worked: the trait rose, and the model is about as coherent as base." in text
    assert "from +0.17 (95 % interval +0.12 to +0.22) to +1.00" in text
    assert "a shift of +0.83 (no paired interval; the separate intervals do not overlap)" in text
    assert "6.9 times that." in text
    assert "Perplexity is 8.0 against 7.4, 1.08 times the base model's." in text
    assert "less coherent" not in text
    assert "steering alone, without training (round 0, κ = 1.50), gives +0.70" in text
    files = ("report.html", "diary.md", "figures/love_loop.svg", "metrics.json")
    for file in (*files, "rounds/NN/adapter"):
        assert str(RUN / file) in text


def test_paired_items_decide_where_they_are_known(make_metrics: Make) -> None:
    base = [0.1 * i for i in range(12)]
    items = {
        "base": {"trait_nats": base},
        "prompt_pos": {"trait_nats": [b + 0.1 + 0.01 * (i % 2) for i, b in enumerate(base)]},
        "healed": {"trait_nats": [b + 0.2 + 0.01 * (i % 3) for i, b in enumerate(base)]},
    }
    metrics = make_metrics(1, trait=0.38, width=0.5)
    assert "It did not work" in summary(metrics)
    text = summary_text(parse_metrics(metrics, lambda _round: items), RUN)
    assert "It worked" in text
    assert "a shift of +0.21 (paired 95 % interval +0.2" in text
    assert "2.0 times that." in text


@pytest.mark.parametrize(("trait", "width"), [(0.20, 0.05), (0.9, 0.8)])
def test_a_shift_that_is_not_clear(trait: float, width: float, make_metrics: Make) -> None:
    text = summary(make_metrics(1, trait=trait, width=width))
    assert "It did not work, as far as can be told" in text
    assert "the separate intervals overlap" in text
    assert "rough ratio" in text
    assert "It worked" not in text


def test_a_trait_that_fell(make_metrics: Make) -> None:
    text = summary(make_metrics(1, trait=-0.3))
    assert "It did not work: the trait fell." in text
    assert "the prompt does better" in text
    assert "times that" not in text


def test_no_intervals_no_claim(make_metrics: Make) -> None:
    metrics = make_metrics(1)
    del metrics["rounds"][0]["healed"]["intervals"]
    text = summary(metrics)
    assert "no intervals to judge it by" in text
    assert "It worked" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"perplexity": 9.4}, "1.27 times the base model's (over the limit of 1.25 times)"),
        ({"loops": 0.2}, "20 % of its sampled answers loop against 3 %, +17 points (over"),
    ],
)
def test_incoherence_is_said_plainly(change: Any, words: str, make_metrics: Make) -> None:
    text = summary(make_metrics(1, trait=1.0, **change))
    assert "It worked in part: the trait rose, but the model is less coherent than base." in text
    assert words in text
    assert "The healed model is less coherent than base." in text


def test_unmeasured_coherence_is_no_coherence(make_metrics: Make) -> None:
    metrics = make_metrics(1)
    del metrics["rounds"][0]["healed"]["loop_share"]
    text = summary(metrics)
    assert "whether the model is still coherent was not measured" in text
    assert "Loops were not measured." in text


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ("yes", "It worked: the trait rose, and the model is about as coherent as base."),
        (
            "cannot tell",
            "It worked, as far as can be told: the trait rose; whether the model is as coherent as "
            "base is open.",
        ),
        ("no", "It worked in part: the trait rose, but the model is less coherent than base."),
    ],
)
def test_the_verdict_on_coherence_has_its_say(answer: str, first: str, make_metrics: Make) -> None:
    """It asks for more than perplexity and loops: where it is no yes, its words are given."""
    words = "relevance 0.88 (0.76 to 1.00)"
    judged = {"coherent": {"answer": answer, "words": words}}
    text = summary(make_metrics(1, trait=1.0) | {"verdicts": judged})
    assert first in text
    assert (words in text) == (answer != "yes")


def test_an_open_verdict_is_not_contradicted_by_the_estimates(make_metrics: Make) -> None:
    judged = {"coherent": {"answer": "cannot tell", "words": "Unclear: perplexity 1.27 × base."}}
    text = summary(make_metrics(1, trait=0.4, perplexity=9.4) | {"verdicts": judged})
    assert "whether the model is as coherent as base is open" in text
    assert "(over the limit of 1.25 times)" in text
    assert "Unclear: perplexity 1.27 × base." in text
    assert "less coherent" not in text


def test_a_verdict_does_not_stand_in_for_what_was_not_measured(make_metrics: Make) -> None:
    judged = {"coherent": {"answer": "cannot tell", "words": "loops not measured"}}
    metrics = make_metrics(1) | {"verdicts": judged}
    del metrics["rounds"][0]["healed"]["loop_share"]
    assert "whether the model is still coherent was not measured" in summary(metrics)


def test_a_prompt_that_does_better(make_metrics: Make, make_measurement: Make) -> None:
    metrics = make_metrics(1) | {"prompt_pos": make_measurement(1.5)}
    assert "0.3 times that, so the prompt does better." in summary(metrics)


def test_a_measure_that_cannot_tell_the_personas_apart(
    make_metrics: Make, make_measurement: Make
) -> None:
    metrics = make_metrics(1) | {"prompt_neg": make_measurement(0.6)}
    text = summary(metrics)
    assert "No conclusion: on this model the measure does not put the persona" in text
    assert "It worked" not in text


def test_early_stop_and_peak(make_metrics: Make) -> None:
    metrics = make_metrics(8)
    metrics["rounds"][-1]["stopped"] = "perplexity 2.1 times\x1b[31m base"
    text = summary(metrics)
    assert "It stopped early, after round 7: perplexity 2.1 times␛[31m base." in text
    assert "The highest healed trait was +1.01, in round 3." in text


def test_unfinished_runs(make_metrics: Make) -> None:
    assert "Unfinished: the base model is not measured yet" in summary({})
    text = summary(make_metrics(0))
    assert "Unfinished: no round is healed yet, so nothing can be said." in text
    assert "rounds/NN" not in text
    metrics = make_metrics(2)
    del metrics["rounds"][1]["healed"], metrics["prompt_pos"]
    text = summary(metrics)
    assert "Round 1 is unfinished." in text
    assert "nothing to beat yet" in text


def test_rows(make_metrics: Make) -> None:
    run = parse_metrics(make_metrics(2))
    assert round_row(run, None) == ("base", "", "", "", "", "+0.17", "7.4", "3 %")
    assert round_row(run, run.rounds[1]) == (
        "1", "1.12", "64/96", "1.90", "0.61", "+0.17→+0.95→+0.80", "8.9→7.4", "5→3 %",
    )  # fmt: skip
    assert len(round_row(run, run.rounds[0])) == len(COLUMNS)
    bare = parse_metrics({"rounds": [{}]})
    assert round_row(bare, bare.rounds[0]) == ("0", "–", "–/–", "–", "–", "–→–→–", "–→–", "–→–")


def test_table_fits_a_terminal(make_metrics: Make) -> None:
    text = printed(round_table(make_metrics(8)))
    assert "…" not in text
    assert "+0.17→+0.70→+0.55" in text
    assert "trait: nats per token" in text
    assert sum(line.strip().startswith(tuple("b01234567")) for line in text.splitlines()) == 9
