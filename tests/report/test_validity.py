"""A figure of an instrument that is not valid carries its mark wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from made_up_runs import printed, summary

from steer_heal_love.records import AnswerPair, Axis
from steer_heal_love.report.figures.love_loop import love_loop_chart
from steer_heal_love.report.states import parse_metrics
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.text.summary import round_table, summary_of
from steer_heal_love.report.text.validity import (
    UNCLEAR,
    instrument_of,
    mark_of,
    mark_words,
    validity_answer,
)
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import INVALID

Make = Callable[..., Any]
PAIRS = (AnswerPair("q", "a", "b"),) * 2
AXIS = Axis("love", "d", "You are {persona}.", "kind", "cold", ("p",), PAIRS, (), {"care": 1})


def judged(metrics: dict[str, Any], **answers: str) -> dict[str, Any]:
    """The metrics with verdicts on instruments."""
    return metrics | {"verdicts": {f"valid.{k}": {"answer": v} for k, v in answers.items()}}


def with_profile(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics with a foundation measured on base and the last healed model."""
    for measurement, nats in ((metrics["base"], -1.3), (metrics["rounds"][-1]["healed"], -0.6)):
        measurement["care_nats"] = nats
        measurement["intervals"]["care_nats"] = [nats - 0.1, nats + 0.1]
    return metrics


def view_of(metrics: dict[str, Any], axis: Axis = AXIS) -> RunView:
    return RunView(path=Path("no-such-run"), metrics=metrics, config={}, axis=axis)


@pytest.mark.parametrize(
    ("figure", "instrument"),
    [
        ("trait_nats", "trait_nats"),
        ("persona_nats", "persona_nats"),
        ("p_care", "forced_choice"),
        ("care_nats", "forced_choice"),
        ("top1_accuracy", "forced_choice"),
        ("informedness", "forced_choice"),
        ("soft_nll", "forced_choice"),
        ("p_ans_any", None),
        ("capability_nats", None),
        ("perplexity", None),
        ("loop_share", None),
    ],
)
def test_what_a_figure_rests_on(figure: str, instrument: str | None) -> None:
    assert instrument_of(figure) == instrument


def test_the_mark_follows_the_verdict() -> None:
    metrics = judged({}, trait_nats="yes", persona_nats="no", forced_choice="cannot tell")
    verdicts = parse_metrics(metrics).verdicts
    assert mark_of(verdicts, "trait_nats") == ""
    assert mark_of(verdicts, "persona_nats") == INVALID
    assert mark_of(verdicts, "care_nats") == UNCLEAR
    assert mark_of(verdicts, "p_ans_any") == mark_of(verdicts, "perplexity") == ""
    assert mark_words("x", verdicts, "persona_nats") == f"x ({INVALID})"
    assert mark_words("x", verdicts, "trait_nats") == "x"
    assert mark_of({}, "trait_nats") == ""


def test_broken_verdicts_are_no_verdicts() -> None:
    for broken in ({"valid.trait_nats": {"answer": ["x"]}}, {"valid.trait_nats": "yes"}, [1]):
        assert parse_metrics({"verdicts": broken}).verdicts == {}


@pytest.mark.parametrize(
    ("answers", "combined"),
    [(("yes", "no"), "no"), (("yes", "cannot tell"), "cannot tell"), (("yes", "yes"), "yes")],
)
def test_older_runs_judged_each_foundation(answers: tuple[str, str], combined: str) -> None:
    metrics = judged({}, p_care=answers[0], p_authority=answers[1])
    assert validity_answer(parse_metrics(metrics).verdicts, "forced_choice") == combined


def test_every_page_shows_the_mark(make_metrics: Make) -> None:
    metrics = judged(with_profile(make_metrics(2)), trait_nats="no", forced_choice="no")
    assert "not valid on" in printed(round_table(metrics))
    text = summary_of(view_of(metrics))
    assert "No conclusion: on this model" in text
    assert f"The trait ({INVALID}) went from" in text
    assert f"gives +0.70 ({INVALID}) at" in text
    assert f"Moral vignettes, forced choice ({INVALID}): care (should rise) −1.30" in text
    assert "times that" not in text  # nothing is concluded against the prompt
    assert "It worked" not in text
    diary = write_diary(view_of(metrics))
    assert diary.count(f"nats per token (**{INVALID}**;") == 7
    assert f"## Moral vignettes, forced choice ({INVALID})" in diary
    assert "| care | should rise | −1.30 (−1.40 to −1.20) | −0.60 (−0.70 to −0.50) |" in diary
    chart = love_loop_chart(parse_metrics(metrics))
    title = chart.to_dict()["title"]["text"]
    assert f"Trait ‘love’ on smollm2 ({INVALID})" in " ".join(title)
    assert vl_convert.vegalite_to_svg(chart.to_dict()).count(INVALID) >= 2


def test_no_mark_on_valid_instruments(make_metrics: Make) -> None:
    metrics = judged(with_profile(make_metrics(1)), trait_nats="yes", forced_choice="yes")
    pages = [
        printed(round_table(metrics)),
        summary_of(view_of(metrics)),
        write_diary(view_of(metrics)),
    ]
    pages.append(vl_convert.vegalite_to_svg(love_loop_chart(parse_metrics(metrics)).to_dict()))
    for page in pages:
        assert "not valid" not in page
    assert "It worked" in pages[1]


def test_too_few_items_are_no_proof(make_metrics: Make) -> None:
    text = summary(judged(make_metrics(1), trait_nats="cannot tell"))
    assert "No conclusion" in text
    assert f"The trait ({UNCLEAR})" in text


def test_runs_without_vignettes_have_no_profile(make_metrics: Make) -> None:
    metrics = make_metrics(1)
    assert "vignettes" not in summary_of(view_of(metrics))
    assert "vignettes" not in write_diary(view_of(metrics))


def test_the_profile_of_an_unfinished_run(make_metrics: Make) -> None:
    metrics = make_metrics(0)
    metrics["base"]["care_nats"] = -1.3
    assert "care (should rise) −1.30 nats." in summary_of(view_of(metrics))
    assert "| care | should rise | −1.30 | not measured |" in write_diary(view_of(metrics))


def test_names_of_foundations_are_only_text(make_metrics: Make) -> None:
    name = "<b>x</b>|"
    axis = Axis("l", "d", "{persona}", "a", "b", ("p",), PAIRS, (), {name: -1})
    metrics = make_metrics(0)
    metrics["base"][f"{name}_nats"] = -1.0
    assert r"| \<b\>x\</b\>\| | should fall |" in write_diary(view_of(metrics, axis))
