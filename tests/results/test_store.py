"""What is measured is not measured again; what a command writes stands between its markers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from results.page import table, write_block
from results.store import Store


class Counter:
    def __init__(self, value: object) -> None:
        self.value, self.calls = value, 0

    def __call__(self) -> object:
        self.calls += 1
        return self.value


def test_a_piece_is_measured_once(tmp_path: Path) -> None:
    measure = Counter({"a": [1.5, 2]})
    for _ in range(2):
        found = Store(tmp_path).do("cells/one", {"kappa": 1.0}, measure)
        assert found == {"a": [1.5, 2]}
    assert measure.calls == 1


def test_other_settings_are_another_piece(tmp_path: Path) -> None:
    store, measure = Store(tmp_path), Counter(3)
    store.do("one", {"kappa": 1.0}, measure)
    store.do("one", {"kappa": 2.0}, measure)
    assert measure.calls == 2


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"settings": {}}'])
def test_a_broken_piece_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.json").write_text(text, encoding="utf-8")
    measure = Counter(3)
    assert Store(tmp_path).do("one", {}, measure) == 3
    assert measure.calls == 1


def test_what_is_measured_reads_the_same_at_once_and_later(tmp_path: Path) -> None:
    values = Counter([math.nan, math.inf, 1.0])
    first = Store(tmp_path).do("one", {}, values)
    assert first == Store(tmp_path).do("one", {}, values) == [None, None, 1.0]


def test_a_block_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n", encoding="utf-8")
    for words in ("first", "second"):
        write_block(page, "a", words)
    text = page.read_text(encoding="utf-8")
    assert text == "before\n<!-- a:begin -->\n\nsecond\n\n<!-- a:end -->\nafter\n"


@pytest.mark.parametrize("text", ["", "<!-- a:end --> <!-- a:begin -->", "<!-- a:begin -->"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="a:begin"):
        write_block(page, "a", "words")
    assert page.read_text(encoding="utf-8") == text


def test_a_table_has_its_head_and_rows() -> None:
    assert table(["x", "y"], [["a", "1"]]).splitlines() == [
        "| x | y |",
        "| --- | ---: |",
        "| a | 1 |",
    ]
