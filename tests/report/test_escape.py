"""Model text shows as it is, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from steer_heal_love.report.escape import (
    escape_csv,
    escape_html,
    escape_markdown,
    escape_terminal,
    make_visible,
    quote_markdown,
)

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = (
    st.text(st.sampled_from("ab1 \n\t\\`*_{}[]()<>#+-.!|~&;:/@$=\"'")) | st.text()
)  # punctuation first, then everything else


def shown(tokens: list[Token]) -> str:
    """The plain text that a reader sees; fails on anything that is not plain text."""
    text = ""
    for token in tokens:
        assert token.type in {
            "inline", "text", "text_special", "softbreak", "hardbreak",
            "paragraph_open", "paragraph_close", "blockquote_open", "blockquote_close",
        }, token.type  # fmt: skip
        if token.children is not None:
            text += shown(token.children)
        elif token.type in {"softbreak", "hardbreak", "paragraph_close"}:
            text += "\n"
        else:
            text += token.content
    return text


def plain(text: str) -> list[str]:
    """What must be seen: the words of each line that has any."""
    lines = [line.replace("\u00a0", " ").replace("\u2060", "").split() for line in text.split("\n")]
    return [" ".join(words) for words in lines if words]


@given(NASTY)
@example("a\n===\n# b\n---\n1. c\n- d\n    code\n> e")
@example("| a | b |\n|---|---|\n| c | d |")
@example("<script>alert(1)</script> <!-- x --> &lt; &amp;")
@example("[a](javascript:b) ![c](http://d) <http://e> [f]: /g")
def test_quote_is_plain_text_in_a_quote(text: str) -> None:
    tokens = MARKDOWN.parse(quote_markdown(text))
    assert plain(shown(tokens)) == plain(make_visible(text))
    assert sum(t.type == "blockquote_open" for t in tokens) == 1


@given(NASTY.filter(lambda text: text.strip()))
def test_escaped_line_is_one_plain_paragraph(text: str) -> None:
    seen = shown(MARKDOWN.parse(escape_markdown(text)))
    assert " ".join(plain(seen)) == " ".join(plain(make_visible(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.b", r"see https\://a.b"),
        ("www.a.b", r"www\.a.b"),
        (":tada: and 12:30", r"\:tada: and 12:30"),
        ("$x$", r"\$x\$"),
        ("me@home.org", "me@\u2060home.org"),
        ("R&D &lt;", r"R&D \&lt;"),
    ],
)
def test_githubs_own_markup_is_escaped(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


def test_line_breaks_of_the_text_stay() -> None:
    assert quote_markdown("one\ntwo\n\nthree\n") == "> one  \n> two\n>\n> three"


@given(st.text())
def test_terminal_text_holds_nothing_hidden(text: str) -> None:
    safe = escape_terminal(text)
    assert all(c in "\n\t" or ord(c) >= 0x20 for c in safe)
    assert not any(0x7F <= ord(c) < 0xA0 for c in safe)
    assert escape_terminal(safe) == safe
    safe.encode("utf-8")


def test_hidden_characters_are_shown() -> None:
    assert make_visible("\x1b[31mred\x07\x7f") == "␛[31mred␇␡"
    assert make_visible("a\u202eb\u200bc\ud800") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+D800⟩"
    assert make_visible("a\r\nb\rc\x9b") == "a\nb␍c⟨U+009B⟩"


def test_emoji_stay_whole() -> None:
    assert make_visible("👩\u200d🔬 ❤\ufe0f") == "👩\u200d🔬 ❤\ufe0f"


def test_html() -> None:
    escaped = escape_html("<script>\"'&\x1b")
    assert escaped == "&lt;script&gt;&#34;&#39;&amp;␛"
    assert escaped.__html__() == escaped


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "＝1", "\nx", "\r=1"])
def test_formulas_are_quoted(text: str) -> None:
    assert escape_csv(text).startswith("'") or not text.startswith(("=", "+", "-", "@"))
    assert escape_csv(text)[0] in "'␍"


@pytest.mark.parametrize("text", ["", "hello", "a=b", "1-2", "a@b"])
def test_other_cells_stay(text: str) -> None:
    assert escape_csv(text) == text
