"""TOML from strangers: what would eat the memory is refused, everything else is tomllib's."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ
from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.inputs.toml_text import MAX_KEY_PARTS, parse_toml
from steer_heal_love.runner.settings import load_config


@pytest.mark.parametrize("part", ["a", '"a"', "'a b'", "a-1", '"a.b"'])
@pytest.mark.parametrize("dot", [".", " . ", ".\t"])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{{} = 1}}"])
def test_a_key_of_very_many_parts_is_refused(part: str, dot: str, form: str) -> None:
    key = dot.join([part] * (MAX_KEY_PARTS + 1))
    with pytest.raises(ValueError, match=r"dotted parts \(at line 2\)"):
        parse_toml("y = 0\n" + form.format(key))
    fits = form.format(dot.join([part] * MAX_KEY_PARTS))
    assert parse_toml(fits) == tomllib.loads(fits)


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 500_000) + " = 1",
        "a" * 4_000_000,
        '"' * 1_000_000,
        '"' + "a" * 2_000_000,
        "a " * 1_000_000,
        '"a' * 1_000_000,
        "a." * 30 + " " + "b" * 3_000_000,
        "x = " + "[" * 100_000,
        "x = " + "1" * 100_000,
    ],
)
def test_bad_text_is_refused_soon(text: str) -> None:
    began = time.monotonic()
    with pytest.raises((ValueError, RecursionError)):
        parse_toml(text)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("read", [load_axis, lambda path: load_config(Path(path))])
def test_axes_and_settings_are_read_by_it(tmp_path: Path, read: Callable[[str], object]) -> None:
    file = tmp_path / "x.toml"
    file.write_text(".".join(["a"] * 2000) + " = 1\n")
    with pytest.raises(SteerHealLoveError, match=r"x\.toml is not valid TOML: .*dotted parts"):
        read(str(file))


def test_ordinary_words_with_dots_are_text() -> None:
    text = 'x = "I went ... to www.example.org. Then. I. Came. Home."\ny = 1.5\nz.a.b = 3\n'
    assert parse_toml(text) == tomllib.loads(text)


_keys = st.text(max_size=6)
_values = st.recursive(
    st.text(max_size=40) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(st.dictionaries(_keys, _values, max_size=4))
def test_any_data_is_read_as_it_was(data: dict[str, object]) -> None:
    text = tomli_w.dumps(data)
    assert repr(parse_toml(text)) == repr(tomllib.loads(text))
