"""What the page reads from its components, and what it writes into its columns."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'steer-heal-love[ui]'")

from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.page import read_setting
from steer_heal_love.play.panes import column_html, page_style
from steer_heal_love.play.turn import Column, Piece, Setting

GIVEN: dict[str, Any] = {
    **{"prompt": "Hi", "round_index": 2, "kappa": -0.5, "schedule": "linear", "length": 9},
    **{"floor": 0.25, "gate": "relu", "operator": "rotate", "system": " Be brief. "},
    **{"temperature": 0.5, "tokens": 12, "seed": 3},
}


def test_the_components_make_a_setting() -> None:
    assert read_setting(**GIVEN) == Setting(
        "Hi",
        2,
        -0.5,
        "relu",
        "rotate",
        Schedule("linear", 9, 0.25),
        system="Be brief.",
        seed=3,
        sampling=Sampling(12, 0.5),
    )
    plain = read_setting(**GIVEN | {"schedule": "constant", "length": 0, "system": ""})
    assert (plain.schedule, plain.system) == (Schedule(), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kappa": None}, "a number is missing"),
        ({"seed": True}, "a number is missing"),
        ({"temperature": -1}, "temperature must lie"),
        ({"temperature": float("nan")}, "temperature must lie"),
        ({"tokens": 513}, "tokens in 1 to 512"),
        ({"schedule": "sudden"}, "not one that there is"),
        ({"gate": "open"}, "not one that there is"),
        ({"operator": "exec"}, "not one that there is"),
        ({"length": 0}, "at least one token"),
        ({"schedule": "exponential", "floor": 0}, "floor above 0"),
        ({"round_index": float("nan")}, "NaN"),
        ({"seed": float("inf")}, "infinity"),
    ],
)
def test_what_makes_no_setting_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_setting(**GIVEN | changes)


def test_a_column_says_what_is_on(loaded: Loaded) -> None:
    setting = read_setting(**GIVEN)
    for condition, words in (
        ("base", "the untouched model"),
        ("prompted", "persona as system prompt"),
        ("steered", "the adapter of round 0 and κ -0.50 along v of round 1"),
        ("healed", "the adapters of rounds 0 to 1"),
    ):
        assert words in column_html(loaded, setting, Column(condition))  # type: ignore[arg-type]
    unhealed = read_setting(**GIVEN | {"round_index": 0})
    assert "no adapter and κ -0.50 along v of round 0" in column_html(
        loaded, unhealed, Column("steered")
    )
    before = column_html(loaded, None, Column("steered"))
    assert "κ 0.50 along v of round 2" in before
    assert "cursor" not in before


def test_a_column_escapes_what_the_model_wrote(loaded: Loaded) -> None:
    column = Column("base", (Piece("<script>x</script>\x1b", 0.0, 0.0),), done=True)
    shown = column_html(loaded, read_setting(**GIVEN), column)
    assert "<script" not in shown
    assert "&lt;script&gt;x&lt;/script&gt;␛" in shown
    assert "1 tokens · perplexity under base 1.0" in shown
    assert "</style" not in page_style()
