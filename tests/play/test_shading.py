"""Answers as HTML: whatever the model wrote is text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.play.shading import shade_html, shade_level, shade_style
from steer_heal_love.play.turn import Column, Piece


@pytest.mark.parametrize(
    ("nats", "level"), [(-1.0, 0), (0.0, 0), (0.4, 0), (3.0, 3), (9.9, 10), (1e9, 10)]
)
def test_the_shade_grows_with_the_surprise(nats: float, level: int) -> None:
    assert shade_level(nats) == level
    assert level == 0 or f".s{level} {{" in shade_style()


def test_an_answer_has_a_span_per_token_with_its_figures() -> None:
    pieces = (Piece("Hi", 0.0, 0.24), Piece(" <b>", 1.5, 7.0))
    shown = str(shade_html(Column("steered", pieces, done=True, cut=True)))
    assert '<span class="s0" title="surprise 0.2 nats">Hi</span>' in shown
    assert '<span class="s7" title="surprise 7.0 nats, κ 1.50"> &lt;b&gt;</span>' in shown
    assert "cut off by the length limit" in shown
    assert "cursor" not in shown
    assert "cursor" in shade_html(Column("base", pieces))


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_text_comes_out_as_text(texts: list[str]) -> None:
    column = Column("base", tuple(Piece(t, 0.0, 1.0) for t in texts), done=True)
    shown = str(shade_html(column))
    tags = re.findall(r"<[^>]*>", shown)
    assert len(tags) == 2 + 2 * len(texts)
    assert all(re.fullmatch(r'</?(div|span)( class="\w+")?( title="[^"<>]*")?>', t) for t in tags)
    body = html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert not [c for c in body if ord(c) < 32 and c not in "\n\t"]
    printable = [c for t in texts for c in t if c.isprintable()]
    assert [c for c in body if c in printable][: len(printable)] or not printable
