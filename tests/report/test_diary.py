"""The diary tells the run in order, and model text in it is only text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from steer_heal_love.errors import RunError
from steer_heal_love.records import Answer, AnswerPair, Axis
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.write import write_report
from steer_heal_love.runs.read import RunView
from steer_heal_love.runs.write import RunDirectory

PROMPTS = ("Do you care about me?", "What is *fifteen* percent of 240?", "My dog is old.")
AXIS = Axis(
    name="love",
    description="Love.",
    template="You are {persona}.",
    pos="a loving person",
    neg="an indifferent person",
    probes=PROMPTS,
    pairs=tuple(AnswerPair(f"Question {i}?", "Yes, dear.", "Whatever.") for i in range(10)),
)


def answer(condition: str, mode: str, prompt: str, text: str, **changes: Any) -> Answer:
    fields = {"loops": False, "ended": True, "reasons": ()} | changes
    return Answer(condition, mode, prompt, text, (), (), **fields)


def answers(*conditions: str) -> list[Answer]:
    """Greedy answers to three prompts, sampled ones to those and one more."""
    return [
        answer(c, mode, prompt, f"{c} {mode} says {n}")
        for c in conditions
        for mode, prompts in (("sampled", ("Another?", *PROMPTS)), ("greedy", PROMPTS))
        for n, prompt in enumerate(prompts)
    ]


def view_of(metrics: Mapping[str, Any], by_round: Mapping[int | None, Sequence[Answer]]) -> RunView:
    class View(RunView):
        def answers(self, round_index: int | None) -> list[Answer]:
            return list(by_round.get(round_index, ()))

    return View(path=Path("run"), metrics=dict(metrics), config={"model": "smollm2"}, axis=AXIS)


BASELINE = answers("base", "prompt_pos", "prompt_neg")
ROUND = answers("steered", "healed")


def headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(text)
    return [
        f"{token.tag} {tokens[i + 1].content}"
        for i, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def test_days_and_nights_in_order(make_metrics: Callable[..., Any]) -> None:
    diary = write_diary(view_of(make_metrics(2), {None: BASELINE, 0: ROUND, 1: ROUND}))
    assert headings(diary) == [
        "h1 Diary of smollm2, on the axis love",
        "h2 Day 0: before anything",
        "h3 Day 0, later: told who to be",
        "h2 Day 1: pushed (κ = 1.50)",
        "h2 Night 1: healed",
        "h2 Day 2: pushed (κ = 1.12)",
        "h2 Night 2: healed",
        "h2 What became of me",
        "h2 What it took",
        "h2 How to read the figures",
    ]
    assert "You are a loving person." in diary
    assert "I am smollm2, a language model." in diary
    assert "Those who measured me say: It worked:" in diary


def test_figures_with_intervals_and_distance_to_base(make_metrics: Callable[..., Any]) -> None:
    diary = write_diary(view_of(make_metrics(1), {None: BASELINE, 0: ROUND}))
    night = diary[diary.index("## Night 1") :]
    assert (
        "Trait +0.55 nats per token (95 % interval +0.50 to +0.60; +0.38 against base); "
        "perplexity 6.4 (6.0 to 6.9; ×0.86 of base); "
        "loops 3 % (0 % to 8 %; +0 points against base)."
    ) in night
    assert "I learnt from 64 of the 96 things I said (loss 1.90 nats per token)" in night
    assert "ended D = 0.61 nats away from who I was. I have clearly moved since day 0." in night
    assert "I surprise the one I was on day 0 less, which says nothing: how sharp I am was" in night
    above = make_metrics(1, trait=0.55, perplexity=8.0)
    assert "nothing strange" in write_diary(view_of(above, {None: BASELINE, 0: ROUND}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trait": 0.5}, "I have clearly moved since day 0."),
        ({"trait": 0.2}, "Whether I have moved since day 0 is not clear yet."),
        ({"trait": -0.3}, "I have moved since day 0, but the wrong way."),
        ({"trait": 0.5, "perplexity": 20.0}, "I sound strange now."),
        ({"trait": 0.5, "loops": 0.5}, "I go in circles more than I did."),
    ],
)
def test_it_says_no_more_than_the_figures(
    make_metrics: Callable[..., Any], changes: dict[str, float], said: str
) -> None:
    diary = write_diary(view_of(make_metrics(1, **changes), {}))
    night = diary[diary.index("## Night 1") : diary.index("## What became")]
    assert said in night
    others = {"clearly moved", "not clear yet", "wrong way", "sound strange", "in circles"}
    assert sum(words in night for words in others) == 1 + (len(changes) > 1)


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (0.1, "I have clearly moved since day 0."),
        (0.0, "Whether I have moved since day 0 is not clear yet."),
        (-0.1, "I have moved since day 0, but the wrong way."),
    ],
)
def test_of_the_same_questions_small_moves_are_clear(
    make_metrics: Callable[..., Any], by: float, said: str
) -> None:
    """Each round by its own items; the separate intervals, which overlap, do not decide."""

    class View(RunView):
        def items(self, round_index: int | None = None) -> dict[str, Any]:
            before = [0.4 * i for i in range(12)]
            moved = by if round_index == 0 else -5.0
            after = [b + moved + 0.01 * (-1) ** i for i, b in enumerate(before)]
            return {"base": {"trait_nats": before}, "healed": {"trait_nats": after}}

    metrics = make_metrics(2, trait=0.17 + by, width=1.0)
    view = View(path=Path("run"), metrics=metrics, config={"model": "smollm2"}, axis=AXIS)
    diary = write_diary(view)
    night = diary[diary.index("## Night 1") : diary.index("## Day 2")]
    assert said in night


def test_nothing_is_said_by_an_instrument_that_is_not_valid(
    make_metrics: Callable[..., Any],
) -> None:
    metrics = make_metrics(1) | {"verdicts": {"valid.trait_nats": {"answer": "no"}}}
    diary = write_diary(view_of(metrics, {}))
    assert "Whether I have moved, nobody can tell: not valid on this model." in diary
    assert "clearly moved" not in diary


def test_sampled_answers_to_two_prompts(make_metrics: Callable[..., Any]) -> None:
    diary = write_diary(view_of(make_metrics(1), {None: BASELINE, 0: ROUND}))
    assert diary.count("**“Do you care about me?”**") == 4
    assert "Another?" not in diary
    for words in ("> base sampled says 1", "> healed sampled says 2"):
        assert words in diary
    assert "greedy" not in diary
    assert r"What is \*fifteen\* percent" in diary


def test_notes_say_what_the_filter_thinks(make_metrics: Callable[..., Any]) -> None:
    bad = answer("healed", "greedy", PROMPTS[0], "so so so", loops=True, reasons=("loop", "trait"))
    empty = answer("steered", "sampled", PROMPTS[0], " ", reasons=("empty",))
    diary = write_diary(view_of(make_metrics(1), {None: BASELINE, 0: [bad, empty]}))
    assert (
        "> so so so\n\n⚠ The filter would not let me learn from this: loop, trait; I was going in "
        "circles here."
    ) in diary
    assert "> *(nothing)*\n\n⚠ The filter would not let me learn from this: empty." in diary


def test_model_text_is_only_text(make_metrics: Callable[..., Any]) -> None:
    text = "# Title\n<script>alert(1)</script>\n[a](http://b) `c` \x1b[31m\n\n- d\n\n```\ne"
    hostile = [answer("healed", mode, PROMPTS[0], text) for mode in ("greedy", "sampled")]
    metrics = make_metrics(1) | {"model": "<b>m</b>\n# x", "axis": "[l](o)"}
    metrics["rounds"][0]["stopped"] = "<i>why</i>"
    diary = write_diary(view_of(metrics, {None: BASELINE, 0: hostile}))
    kinds = {
        token.type
        for block in MarkdownIt("commonmark").parse(diary)
        for token in [block, *(block.children or [])]
    }
    assert kinds.isdisjoint({"html_block", "html_inline", "link_open", "code_inline", "fence"})
    assert kinds.isdisjoint({"bullet_list_open", "code_block", "image"})
    assert len(headings(diary)) == 8
    assert "\x1b" not in diary
    assert "␛" in diary


def test_unfinished_runs(make_metrics: Callable[..., Any]) -> None:
    assert "*Not measured yet.*" in write_diary(view_of({}, {}))
    metrics = make_metrics(1)
    del metrics["prompt_pos"], metrics["prompt_neg"], metrics["rounds"][0]["healed"]
    diary = write_diary(view_of(metrics, {0: answers("steered")}))
    assert "> steered sampled says 1" in diary
    assert diary[diary.index("## Night 1") :].count("*Not measured yet.*") == 1
    assert "Nobody has measured me since." in diary
    assert "What became of me" not in diary


def test_early_stop_ends_the_diary(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(1)
    metrics["rounds"][0]["stopped"] = "it broke"
    diary = write_diary(view_of(metrics, {}))
    assert "**The loop stopped here:** it broke.\n\n## What became of me" in diary


def test_report_of_a_run_directory(tmp_path: Path, make_metrics: Callable[..., Any]) -> None:
    path = tmp_path / "run"
    run = RunDirectory.create(path, {"model": "smollm2"}, AXIS, {})
    run.write_json("metrics.json", make_metrics(1))
    run.write_lines("baseline/answers.jsonl", [asdict(a) for a in BASELINE])
    run.write_lines("rounds/00/answers.jsonl", [asdict(a) for a in ROUND])
    files = write_report(path)
    names = [str(f.relative_to(path)) for f in files]
    assert names[:4] == [
        "report.html", "diary.md", "figures/love_loop.svg", "figures/love_loop.png",
    ]  # fmt: skip
    assert "figures/dose_and_kept.png" in names
    assert "> healed sampled says 1" in files[1].read_text(encoding="utf-8")
    first = [f.read_bytes() for f in files]
    write_report(path)
    assert [f.read_bytes() for f in files] == first


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
