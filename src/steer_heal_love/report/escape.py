"""Model text made harmless: for Markdown, HTML, a terminal and a spreadsheet.

Whatever a model wrote is data. Each function here returns text that shows as the model wrote it,
with no markup, no escape sequence and no formula of its own taking effect.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

# Joiners hold emoji and several scripts together; every other format character is shown.
_JOINERS = "\u200c\u200d"
_WORD_JOINER = "\u2060"
# Cc control, Cf format, Cs lone surrogate, Zl and Zp separators
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MARKDOWN_SPECIAL = re.compile(
    r"[\\`*_\[\]<>~|$]"  # code, emphasis, links, tags, strikethrough, tables, maths
    r"|&(?=#?\w+;)"  # entities
    r"|:(?=//|[\w+-]+:)"  # addresses and GitHub's :emoji:
    r"|(?<=www)\.",
    re.IGNORECASE,
)
_LINE_START = re.compile(r"^(\d{1,9}(?=[.)])|(?=[-+=#]))")  # lists, rules, headings
_EMAIL = re.compile(r"(?<=[\w.+-]@)(?=\w)")
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def make_visible(text: str) -> str:
    """The text with every hidden character shown; newlines and tabs stay.

    Control characters become their pictures (ESC is ␛), other hidden ones, such as those that
    reverse the direction of writing, their code point (⟨U+202E⟩). Windows line ends become "\\n".
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # most of all texts, and fast
        return text
    return "".join(_visible_character(c) for c in text.replace("\r\n", "\n"))


def escape_markdown(text: str) -> str:
    """One line of text that Markdown (CommonMark, with GitHub's tables, maths and autolinks) shows
    as it is. Newlines become spaces.

    An address gets an invisible joiner after its "@", since GitHub links it however it is escaped.
    """
    line = " ".join(make_visible(text).split("\n")).replace("\t", "    ")
    indent = len(line) - len(line.lstrip(" "))
    line = _EMAIL.sub(_WORD_JOINER, line[indent:].rstrip(" "))
    line = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", line)
    return "\u00a0" * indent + _LINE_START.sub(r"\1\\", line)


def quote_markdown(text: str) -> str:
    """The text as a Markdown block quote, with its own line breaks and nothing else of its own."""
    lines = [escape_markdown(line) for line in make_visible(text).strip("\n").split("\n")]
    broken = [
        line + "  " if line and following else line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
    ]
    return "\n".join(f"> {line}" if line else ">" for line in broken)


def escape_html(text: str) -> Markup:
    """The text for HTML, hidden characters shown; a template does not escape it a second time."""
    return escape(make_visible(text))


def escape_terminal(text: str) -> str:
    """The text for a terminal: no escape sequence, bell or carriage return reaches it.

    Give it to rich as `rich.text.Text`, where square brackets are not markup.
    """
    return make_visible(text)


def escape_csv(text: str) -> str:
    """The text for a cell of a CSV file, which no spreadsheet takes for a formula.

    For text only: a number that begins with a minus sign would get an apostrophe too.
    Source: OWASP, "CSV Injection".
    """
    visible = make_visible(text)
    return "'" + visible if _FORMULA.match(visible) else visible


def _visible_character(character: str) -> str:
    if character in "\n\t" or character in _JOINERS:
        return character
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
