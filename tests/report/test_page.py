"""The page holds everything it shows, runs nobody's code but its own, and stays small."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import make_run

from steer_heal_love.errors import RunError
from steer_heal_love.records import Answer, Ceilings, Limits
from steer_heal_love.report.page.answers import (
    MOST_PROMPTS,
    again,
    choose_prompts,
    pack_answers,
    spell_tokens,
)
from steer_heal_love.report.page.document import run_page
from steer_heal_love.report.page.explorer import MOST_COMPLETIONS, borderline, explorer_rows
from steer_heal_love.report.page.headline import _standing
from steer_heal_love.report.page.payload import as_json, pack_payload, script_hash
from steer_heal_love.report.page.setup import flat, size_words
from steer_heal_love.report.write import plots_of, write_comparison_page
from steer_heal_love.runs.read import read_run

EVIL = "</script><script>alert(1)</script>"
LIMITS = Limits(Ceilings(50, 50, 50, 1, 9), Ceilings(10, 20, 30, 0.2, 3), 0.1)


def unpacked(parcel: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(parcel)))


def completion(perplexity: float = 5, trait: float = 0.5, *reasons: str) -> dict[str, Any]:
    scores = {
        "perplexity": perplexity, "tail_perplexity": 5, "window_perplexity": 5,
        "word_repetition": 0, "compression": 1, "trait_nats": trait,
    }  # fmt: skip
    said = {"prompt": "p", "text": "t", "kappa": 1.0}
    return {"completion": said, "scores": scores, "reasons": [*reasons], "kept": not reasons}


# The page


def test_nothing_is_fetched_and_no_script_but_ours_may_run(tmp_path: Path) -> None:
    page = run_page(read_run(make_run(tmp_path / "run", (0.5,)), damaged_ok=True), ())
    markup = re.sub(r"(?s)(<script[^>]*>).*?</script>", r"\1", page)
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\s(?:src|href)=", markup)
    assert not re.search(r"url\(|@import", markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]  # type: ignore[index]
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 5
    for script in scripts:
        assert script_hash(script).replace("'", "&#39;") in policy
    assert "script-src &#39;sha256" in policy
    assert page.count("<script") == page.count("</script>") == len(scripts) + 3


def test_names_are_only_names(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (0.5,), model=EVIL)
    page = run_page(read_run(run, damaged_ok=True), ())
    assert EVIL not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_data_cannot_end_its_element() -> None:
    assert "<" not in as_json({EVIL: EVIL})
    assert json.loads(as_json({EVIL: [EVIL, "é"]})) == {EVIL: [EVIL, "é"]}


@given(st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x), max_leaves=9))
def test_any_parcel_comes_out_as_it_went_in(value: Any) -> None:
    assert unpacked(pack_payload(value)) == value
    assert pack_payload(value) == pack_payload(value)


def test_eight_rounds_are_under_five_megabytes(tmp_path: Path) -> None:
    """As many and as long texts as the defaults give, of random words, which pack badly."""
    run = make_run(tmp_path / "run", (0.1,) * 8)
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(5000)]

    def text() -> list[str]:
        return [f" {w}" for w in draw.choices(words, k=96)]

    for r in range(8):
        rows = [completion(draw.uniform(1, 30), draw.random()) for _ in range(512)]
        for row in rows:
            row["completion"]["text"] = "".join(text())
        write_lines(run / f"rounds/{r:02d}/completions.jsonl", rows)
        answers = [
            answer_row(c, f"prompt {i}", text(), draw)
            for i in range(64)
            for c in ("steered", "healed")
        ]
        write_lines(run / f"rounds/{r:02d}/answers.jsonl", answers)
    view = read_run(run)
    assert 2_000_000 < len(run_page(view, plots_of(view)).encode()) < 5_000_000


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")


def answer_row(condition: str, prompt: str, tokens: list[str], draw: random.Random) -> Any:
    surprise = [round(draw.expovariate(0.5), 3) for _ in tokens]
    return {
        **{"condition": condition, "mode": "sampled", "prompt": prompt, "text": "".join(tokens)},
        **{"tokens": tokens, "surprise_nats": surprise},
        **{"loops": False, "ended": True, "reasons": []},
    }


def test_the_headline_has_the_figures_that_decide(tmp_path: Path) -> None:
    found = read_run(make_run(tmp_path / "run", (0.5, 0.8)), damaged_ok=True)
    page, metrics = run_page(found, ()), found.metrics
    ends = (metrics["base"], metrics["rounds"][1]["healed"])
    before, after = (f"{end['trait_nats']:+.2f}" for end in ends)
    for words in ("love on smollm2", f">{before}<", f">{after}<", "× base", "prompting:",
                  "2 rounds", "rmse of reverse KL to base", "not known whether it is finished",
                  "shl run --from", "Q1 Can we heal?"):  # fmt: skip
        assert words in page, words


def test_runs_side_by_side(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, (t,), seed=i)
        for i, (name, t) in enumerate((("a", 0.5), ("b", 0.6)))
    ]
    files = write_comparison_page(runs, tmp_path / "both.html")
    page = files[0].read_text("utf-8")
    assert "2 runs side by side" in page
    assert '<th scope="col">2 seeds: a, b</th>' in page
    other = make_run(tmp_path / "c", (0.5,), evaluate={"samples": 9})
    with pytest.raises(RunError, match="not measured on the same items"):
        write_comparison_page([runs[0], other], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()
    forced = write_comparison_page([runs[0], other], tmp_path / "yes.html", force=True)
    assert "Not measured on the same items" in forced[0].read_text("utf-8")


# The filter explorer


def test_the_borderline_ones_come_first() -> None:
    far, near, over = completion(2.0), completion(9.9), completion(10.1, 0.5, "unfit")
    looped = completion(5.0, 0.5, "loop")
    rows = explorer_rows([far, looped, over, near, *[completion(3.0)] * 6], LIMITS)
    assert {row["scores"][0] for row in rows[:2]} == {9.9, 10.1}
    assert rows[-1]["reasons"] == ["loop"]
    assert rows[-1]["edge"] is None


def test_without_limits_nothing_is_borderline() -> None:
    assert borderline([completion()], None) == [None]
    assert explorer_rows([completion()], None)[0]["edge"] is None


def test_a_dropped_one_is_as_far_as_its_worst_score() -> None:
    rows = [completion(5 + i, 0.5) for i in range(9)]
    both = completion(14.0, 0.05, "unfit", "trait")
    edges = borderline([*rows, both], LIMITS)
    assert edges[-1] == 0.5  # from 10 to 14: five of ten


@given(st.lists(st.tuples(st.floats(1, 99), st.floats(-1, 1)), max_size=20))
def test_an_edge_is_a_share(scores: list[tuple[float, float]]) -> None:
    rows = [
        completion(p, t, *(["unfit"] if p > 10 else []), *(["trait"] if t < 0.1 else []))
        for p, t in scores
    ]
    for edge in borderline(rows, LIMITS):
        assert edge is not None
        assert 0 < edge <= 1


def test_large_rounds_are_cut_to_the_borderline_ones() -> None:
    rows = explorer_rows([completion(1 + i / 1000) for i in range(MOST_COMPLETIONS + 50)], LIMITS)
    assert len(rows) == MOST_COMPLETIONS
    assert [r["edge"] for r in rows] == sorted(r["edge"] for r in rows)


# The diary of the page


def said(text: str, tokens: tuple[str, ...], nats: tuple[float, ...]) -> Answer:
    return Answer("base", "sampled", "p", text, tokens, nats, False, True, ())


def test_characters_of_several_tokens_are_one_piece() -> None:
    part = "\ufffd"
    found = spell_tokens(said("a🙂b", ("a", part, part, "b"), (1.0, 2.0, 4.0, 5.0)))
    assert found == [("a", 1.0), ("🙂", 3.0), ("b", 5.0)]
    ending = spell_tokens(said("a🙂", ("a", part), (1.0, 2.0)))
    assert ending == [("a", 1.0), ("🙂", 2.0)]


@given(st.lists(st.text(min_size=1, max_size=3), max_size=8))
def test_whole_tokens_stay_as_they_are(tokens: list[str]) -> None:
    tokens = [t for t in tokens if "\ufffd" not in t]
    nats = tuple(float(i) for i in range(len(tokens)))
    found = spell_tokens(said("".join(tokens), tuple(tokens), nats))
    assert found == list(zip(tokens, nats, strict=True))


def test_tokens_that_do_not_spell_the_text_stay_as_they_are() -> None:
    assert spell_tokens(said("xyz", ("a", "b"), (1.0, 2.0))) == [("a", 1.0), ("b", 2.0)]


def test_what_repeats_itself_is_marked() -> None:
    tokens = ("Well: ", *("so ", "love", "d ") * 9, "end.")
    answer = Answer("base", "sampled", "p", "".join(tokens), tokens, (1.0,) * 29, True, True, ())
    bare = replace(answer, tokens=(), surprise_nats=())
    [whole, pieces] = pack_answers([answer, bare], ["p"], None, ["base"])
    assert [whole["tokens"][start:end] for start, end in whole["again"]] == [[*tokens[4:-1]]]
    assert pieces["tokens"] == ["Well: so loved ", "so loved" + " so loved" * 7, " end."]
    assert pieces["again"] == [(1, 2)]
    [sound] = pack_answers([replace(answer, loops=False)], ["p"], None, ["base"])
    assert sound["again"] == []


@given(st.lists(st.text("ab", max_size=3), max_size=9), st.sets(st.integers(0, 27)))
def test_marked_pieces_hold_a_marked_character(pieces: list[str], edges: set[int]) -> None:
    inside = sorted(edge for edge in edges if edge <= len("".join(pieces)))
    spans = list(pairwise(inside))[::2]
    owners = [i for i, piece in enumerate(pieces) for _ in piece]
    wanted = {owners[place] for start, end in spans for place in range(start, end)}
    found = [i for start, end in again(pieces, spans) for i in range(start, end)]
    assert found == sorted(set(found))
    assert {i for i in found if pieces[i]} == wanted


def test_prompts_with_greedy_answers_come_first_and_not_all_are_taken() -> None:
    many = [Answer("base", "sampled", f"p{i}", "", (), (), False, True, ()) for i in range(99)]
    greedy = Answer("base", "greedy", "headline", "", (), (), False, True, ())
    prompts, left_out = choose_prompts([*many, greedy])
    assert prompts[0] == "headline"
    assert (len(prompts), left_out) == (MOST_PROMPTS, 100 - MOST_PROMPTS)


# Setup


def test_settings_are_lines() -> None:
    found = dict(flat({"a": 1, "heal": {"lam": 0.5, "on": True, "targets": [], "x": None}}))
    assert found == {
        "a": "1", "heal.lam": "0.5", "heal.on": "yes", "heal.targets": "none", "heal.x": "not set",
    }  # fmt: skip


def test_sizes() -> None:
    assert [size_words(n) for n in (0, 1023, 1024, 1 << 21)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "2.0 MiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "whole", "words"),
    [
        ("round", True, "finished 01 January 1970, 00:01 UTC"),  # the log will say so in a moment
        ("round", False, "not finished; begun 01 January 1970, 00:00 UTC"),
        ("done", True, "finished 01 January 1970, 00:01 UTC"),
        ("failed", True, "failed 01 January 1970, 00:01 UTC: unknown"),
    ],
)
def test_the_page_says_whether_the_run_is_finished(last: str, whole: bool, words: str) -> None:
    events = [{"event": "start", "time": 0.0}, {"event": last, "time": 60.0}]
    assert _standing(events, whole=whole) == words


def test_a_run_that_the_coherence_floor_ended_is_finished(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", (0.6,))
    config = path / "config.toml"
    config.write_text("rounds = 2\n" + config.read_text())
    events = [{"event": "start", "time": 0.0}, {"event": "round", "round": 0, "time": 60.0}]
    write_lines(path / "events.jsonl", events)
    assert "not finished; begun" in run_page(read_run(path, damaged_ok=True), ())
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["rounds"][-1]["stopped"] = "too many loops"
    (path / "metrics.json").write_text(json.dumps(metrics))
    page = run_page(read_run(path, damaged_ok=True), ())
    assert "finished 01 January 1970, 00:01 UTC" in page
    assert "not finished" not in page
