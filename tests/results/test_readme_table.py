"""The README's table: a row per condition, between its markers, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from results.readme_table import main

MEASURED = {
    "trait_nats": 0.5,
    "trait_raw_nats": 0.75,
    "temperature_match": 1.25,
    "perplexity": 6.25,
    "loop_share": 0.125,
    "relevance": 0.4,
    "intervals": {"trait_nats": [0.25, 0.75]},
}
METRICS = {
    "schema": 2, "axis": "love", "model": "tiny", "seed": 3, "base": MEASURED,
    "rounds": [
        {"round": 0, "dose": 0.8, "kept": 5, "total": 9, "wall_s": {"heal": 90.0}}
        | {"steered": MEASURED, "healed": MEASURED}
    ],
}  # fmt: skip
BASE_ROW = (
    "| base model |  |  | +0.50 (+0.25 to +0.75) | +0.75 | 1.25 | 6.2 | 12 % | 1.00× | – | – |"
)
PAGE = "Above\n<!-- run-table:begin -->\nold\n<!-- run-table:end -->\nbelow\n"


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """A run and a README, as the command takes them."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(json.dumps(METRICS), "utf-8")
    (tmp_path / "README.md").write_text(PAGE, "utf-8")
    return [str(tmp_path / "run"), str(tmp_path / "README.md")]


def test_every_condition_has_a_row(place: list[str], capsys: Any) -> None:
    readme = Path(place[1])
    assert main(place) == 0
    text = readme.read_text("utf-8")
    assert text.startswith("Above\n<!-- run-table:begin -->\n\n| condition |")
    assert text.endswith("<!-- run-table:end -->\nbelow\n")
    lines = text.splitlines()
    assert "| --- |" + 10 * " ---: |" in lines
    assert BASE_ROW in lines
    assert "| persona as system prompt |  |  |" + 8 * " – |" in lines
    assert any(line.startswith("| round 0, steered | 0.80 |") for line in lines)
    assert any(line.startswith("| round 0, healed |  | 5 / 9 |") for line in lines)
    assert "`shl run --axis love --model tiny --rounds 1 --seed 3`" in text
    assert main(place) == 0
    assert readme.read_text("utf-8") == text
    assert "1 rounds written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run/metrics.json", "{", "is not JSON"),
        ("run/metrics.json", None, "run `make demo` first"),
        ("README.md", "no markers", "needs the line <!-- run-table:begin --> once"),
    ],
)
def test_what_is_missing_is_told(
    place: list[str], tmp_path: Path, capsys: Any, file: str, content: str | None, words: str
) -> None:
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content, "utf-8")
    before = (tmp_path / "README.md").read_text("utf-8")
    assert main(place) == 1
    assert words in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text("utf-8") == before
