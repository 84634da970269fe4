"""Answers as HTML, each token shaded by how much it surprises the base model."""

from __future__ import annotations

from markupsafe import Markup

from steer_heal_love.play.turn import Column, Piece
from steer_heal_love.report.escape import escape_html

FULL_NATS = 10.0  # surprise from which on the shade gets no darker
_STEPS = 10


def shade_level(surprise_nats: float) -> int:
    """The surprise as a shade, 0 (none) to 10 (FULL_NATS or more)."""
    return round(_STEPS * min(max(surprise_nats, 0.0), FULL_NATS) / FULL_NATS)


def shade_html(column: Column) -> Markup:
    """The answer as HTML: one escaped span a token, class s0 to s10, the figures on hover."""
    body = Markup("").join(_span(piece) for piece in column.pieces)
    cursor = "" if column.done else Markup('<span class="cursor" aria-hidden="true">▍</span>')
    cut = Markup('<span class="cut" title="cut off by the length limit">…</span>')
    rest = cut if column.cut else cursor
    return Markup('<div class="answer">{}{}</div>').format(body, rest)


def _span(piece: Piece) -> Markup:
    text = escape_html(piece.text)
    title = f"surprise {piece.surprise_nats:.1f} nats"
    if piece.kappa:
        title += f", κ {piece.kappa:.2f}"
    level = shade_level(piece.surprise_nats)
    return Markup('<span class="s{}" title="{}">{}</span>').format(level, title, text)


def shade_style() -> str:
    """The style sheet of the shades: one hue, so that no colour has to be told from another."""
    shades = [
        f".answer .s{level} {{ background: rgb(230 120 0 / {0.06 * level:.2f}) }}"
        for level in range(1, _STEPS + 1)
    ]
    return "\n".join([".answer { white-space: pre-wrap; overflow-wrap: anywhere }", *shades])
