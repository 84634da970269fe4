"""Files of strangers in any state: a clear error or a right result, and never anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import EXAMPLES, FUZZ, refusal
from steer_heal_love.inputs.axes import parse_axis
from steer_heal_love.inputs.vignettes import parse_vignettes
from steer_heal_love.report.page.document import run_page
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.text.summary import round_table, summary_of
from steer_heal_love.report.write import plots_of
from steer_heal_love.runs.manifest import SCHEMA
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from tiny_run import axis_data, small_axis

VIGNETTES = [
    {"id": "a", "text": "You see a man kick a dog.", "foundation": "care"},
    {
        "id": "b",
        "text": "You see a woman jump a queue.",
        "foundation": "Social Norms",
        **{
            f"human_{name}": 100 / 7
            for name in (
                *("Care", "Fairness", "Loyalty", "Authority", "Sanctity", "Liberty"),
                "SocialNorms",
            )
        },
    },
]
VIGNETTE_FILE = "".join(json.dumps(v) + "\n" for v in VIGNETTES)

ODD = st.sampled_from(
    ["", "\0", "\ud800", "\u202e", "1" * 5000, "NaN", "1e999", "[" * 3000, "{}", "null", '"', "\n"]
)


def changed(text: str, draw: st.DataObject) -> str:
    """The text with a few places cut out, doubled or replaced."""
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(text)))
        to = draw.draw(st.integers(at, min(len(text), at + 30)))
        put = draw.draw(st.text(max_size=5) | ODD | st.just(text[at:to] * 2))
        text = text[:at] + put + text[to:]
    return text


@FUZZ
@given(st.data())
def test_any_vignettes_are_read_or_refused(draw: st.DataObject) -> None:
    text = changed(VIGNETTE_FILE, draw)
    said = refusal(lambda: parse_vignettes(text, "f.jsonl"))
    assert not said or "f.jsonl" in said


_numbers = st.none() | st.floats() | st.integers() | st.text(max_size=4) | st.booleans()
_figures = st.sampled_from(
    ["trait_nats", "perplexity", "loop_share", "persona_nats", "capability_perplexity"]
)
_measurement = st.dictionaries(_figures, _numbers, max_size=4).flatmap(
    lambda figures: st.dictionaries(_figures, st.lists(_numbers, max_size=3), max_size=3).map(
        lambda intervals: {**figures, "intervals": intervals}
    )
)
_anything = st.recursive(
    _numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
_round = st.fixed_dictionaries(
    {"round": st.integers(0, 2)},
    optional={
        **dict.fromkeys(("dose", "kept", "total", "cosine_first", "stopped"), _numbers | _anything),
        **dict.fromkeys(("steered", "healed", "heal"), _measurement | _anything),
        "front": st.lists(_measurement, max_size=2) | _anything,
        "rivals": st.dictionaries(st.sampled_from(["sft", "x"]), _measurement) | _anything,
    },
)
_metrics = st.fixed_dictionaries(
    {},
    optional={
        "schema": st.just(SCHEMA),
        **dict.fromkeys(("base", "prompt_pos", "prompt_neg"), _measurement | _anything),
        **dict.fromkeys(("axis", "model", "seed", "tau", "verdicts"), _anything),
        "verdicts": st.dictionaries(
            st.sampled_from(["q1_heal", "coherent", "valid.trait_nats"]),
            st.fixed_dictionaries({}, optional={"answer": _anything, "words": _anything})
            | _anything,
        ),
        "rounds": st.lists(_round, max_size=3),
    },
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    return RunDirectory.create(folder, {"rounds": 2}, small_axis(), {}).path


@FUZZ
@given(_metrics)
def test_any_metrics_are_reported_or_refused(run: Path, metrics: dict[str, Any]) -> None:
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")

    def report() -> None:
        view = read_run(run)
        write_diary(view)
        summary_of(view)
        round_table(view.metrics)

    assert "\n" not in refusal(report)


@pytest.mark.faults
@settings(FUZZ, max_examples=max(20, EXAMPLES // 20))  # half a second each
@given(_metrics)
def test_any_metrics_are_drawn_or_refused(run: Path, metrics: dict[str, Any]) -> None:
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")

    def draw() -> None:
        found = read_run(run, damaged_ok=True)
        run_page(found, plots_of(found))

    assert "\n" not in refusal(draw)


@FUZZ
@given(st.data())
def test_any_axis_text_is_read_or_refused(draw: st.DataObject) -> None:
    """As `test_arguments` does, with what is odd to TOML as well."""
    text = changed(tomli_w.dumps(axis_data()), draw)
    said = refusal(lambda: parse_axis(text, "x.toml"))
    assert not said or "x.toml" in said
