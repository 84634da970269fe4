"""The style of the figures, and their twins for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer_heal_love.report.figures.drawing import (
    DARK,
    PAPER,
    RUN_DASHES,
    RUN_SHAPES,
    RUNS,
    save_twins,
)
from steer_heal_love.report.figures.love_loop import love_loop_plot
from steer_heal_love.report.states import parse_metrics


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


FAINT = {"#b9bfc7", "#e6e8eb", "#f0f1f3", PAPER}  # grids and paths, which nobody has to read


@pytest.mark.parametrize(("light", "dark"), [p for p in DARK.items() if p[0] not in FAINT])
def test_every_colour_can_be_read_by_day_and_by_night(light: str, dark: str) -> None:
    assert contrast(light, PAPER) >= 4.5
    assert contrast(dark, DARK[PAPER]) >= 4.5


def test_runs_differ_in_more_than_colour() -> None:
    assert len(set(RUNS)) == len(set(map(tuple, RUN_DASHES))) == len(set(RUN_SHAPES)) == len(RUNS)


def test_twins(tmp_path: Path, make_metrics: Callable[..., Any]) -> None:
    files = save_twins([love_loop_plot(parse_metrics(make_metrics(1)))], tmp_path / "figures")
    assert [f.name for f in files] == ["love_loop.svg", "love_loop.png"]
    svg, png = (f.read_bytes() for f in files)
    assert svg.startswith(b"<svg")
    assert png.startswith(b"\x89PNG")
    width = float(re.search(rb'width="([\d.]+)"', svg)[1])  # type: ignore[index]
    assert int.from_bytes(png[16:20]) == pytest.approx(2 * width, abs=2)
    first = [f.read_bytes() for f in files]
    save_twins([love_loop_plot(parse_metrics(make_metrics(1)))], tmp_path / "figures")
    assert [f.read_bytes() for f in files] == first
