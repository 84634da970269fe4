"""The picture holds every state, reads alone, and needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import vl_convert

from steer_heal_love.report.figures.love_loop import love_loop_chart, love_loop_plot
from steer_heal_love.report.states import parse_metrics


def layers(spec: dict[str, Any], panel: int, mark: str) -> Iterator[dict[str, Any]]:
    """The layers of a panel that draw a kind of mark."""
    return (layer for layer in spec["vconcat"][panel]["layer"] if layer["mark"]["type"] == mark)


def rows(spec: dict[str, Any], panel: int, mark: str = "point") -> list[dict[str, Any]]:
    """The data of the first such layer."""
    data = next(layers(spec, panel, mark))["data"]
    found: list[dict[str, Any]] = (
        data["values"] if "values" in data else spec["datasets"][data["name"]]
    )
    return found


@pytest.mark.parametrize("rounds", [0, 1, 3, 8])
def test_every_state_is_drawn(rounds: int, make_metrics: Callable[..., Any]) -> None:
    spec = love_loop_chart(parse_metrics(make_metrics(rounds))).to_dict()
    for panel in (0, 1):
        points = rows(spec, panel)
        assert [p["position"] for p in points] == list(range(2 * rounds + 1))
        assert [p["condition"].split(":")[0] for p in points] == (
            ["base model"] + ["steered", "healed"] * rounds
        )
        assert rows(spec, panel, "line") == points
    assert rows(spec, 0)[0]["trait_nats"] == 0.17
    assert rows(spec, 0)[0]["trait_nats_low"] == pytest.approx(0.12)
    svg = vl_convert.vegalite_to_svg(spec)
    for words in ("Trait ‘love’ on smollm2", "trait (nats per token)", "perplexity (log scale)",
                  "persona as", "system prompt", "+0.29", "×1.25", "base 7.4", "base model",
                  "healed: adapter on, vector off"):  # fmt: skip
        assert words in svg
    assert all(f"round {r}" in svg for r in range(rounds))


def test_title_says_what_happened(make_metrics: Callable[..., Any]) -> None:
    title = love_loop_chart(parse_metrics(make_metrics(3))).to_dict()["title"]["text"]
    assert title == [
        "Trait ‘love’ on smollm2: +0.17 → +1.00 nats over 3 rounds; perplexity 7.4 → 8.0"
    ]


def test_long_titles_are_broken(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(3) | {"model": "somebody/" + "a-very-long-name-" * 8}
    title = love_loop_chart(parse_metrics(metrics)).to_dict()["title"]["text"]
    assert len(title) > 2
    assert max(map(len, title)) <= 80
    assert title[-1].startswith("+0.17 → +1.00")


def test_shape_and_colour_both_differ(make_metrics: Callable[..., Any]) -> None:
    spec = love_loop_chart(parse_metrics(make_metrics(1))).to_dict()
    encoding = next(layers(spec, 0, "point"))["encoding"]
    assert len(set(encoding["shape"]["scale"]["range"])) == 3
    assert len(set(encoding["color"]["scale"]["range"])) == 3
    assert encoding["shape"]["scale"]["domain"] == encoding["color"]["scale"]["domain"]


def test_perplexity_is_on_a_log_axis_below_the_same_x(make_metrics: Callable[..., Any]) -> None:
    spec = love_loop_chart(parse_metrics(make_metrics(3))).to_dict()
    assert spec["resolve"]["scale"]["x"] == "shared"
    y = next(layers(spec, 1, "point"))["encoding"]["y"]
    assert y["scale"]["type"] == "log"
    assert y["scale"]["domain"][0] > 0
    assert 3 <= len(y["axis"]["values"]) <= 8


def test_prompting_is_a_dashed_line(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(1)

    def dashed() -> list[Any]:
        spec = love_loop_chart(parse_metrics(metrics)).to_dict()
        return [layer for layer in layers(spec, 0, "rule") if layer["mark"].get("strokeDash")]

    assert len(dashed()) == 1
    del metrics["prompt_pos"]
    assert dashed() == []


@pytest.mark.parametrize("missing", [("base",), ("prompt_pos", "prompt_neg"), ("rounds",)])
def test_unfinished_runs_are_drawn(missing: tuple[str, ...], make_metrics: Any) -> None:
    metrics = {k: v for k, v in make_metrics(2).items() if k not in missing}
    if "rounds" in metrics:
        del metrics["rounds"][1]["healed"]
        metrics["rounds"][0]["steered"]["perplexity"] = None
        metrics["rounds"][0]["steered"].pop("intervals")
    assert "<svg" in vl_convert.vegalite_to_svg(love_loop_chart(parse_metrics(metrics)).to_dict())


def test_an_empty_run_says_so() -> None:
    svg = vl_convert.vegalite_to_svg(love_loop_chart(parse_metrics({})).to_dict())
    assert "nothing measured yet" in svg


def test_the_same_run_gives_the_same_picture(make_metrics: Callable[..., Any]) -> None:
    assert (
        love_loop_chart(parse_metrics(make_metrics(3))).to_dict()
        == love_loop_chart(parse_metrics(make_metrics(3))).to_dict()
    )


def test_names_are_only_names(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(1) | {"model": "</script><img src=x onerror=alert(1)>"}
    spec = love_loop_chart(parse_metrics(metrics)).to_dict()
    assert "<img" not in vl_convert.vegalite_to_svg(spec)


def test_words_and_table_hold_every_state(make_metrics: Callable[..., Any]) -> None:
    plot = love_loop_plot(parse_metrics(make_metrics(2)))
    assert "base +0.17 at perplexity 7.4; round 0 steered +0.70" in plot.alt
    assert [row[0] for row in plot.table.rows] == [
        "base", "round 0 steered", "round 0 healed", "round 1 steered", "round 1 healed",
        "base, persona as system prompt",
    ]  # fmt: skip
    assert plot.table.rows[1][1] == "1.50"
    assert "95 % interval +0.65 to +0.75" in plot.table.rows[1][2]
    assert "nothing measured yet" in love_loop_plot(parse_metrics({})).alt
