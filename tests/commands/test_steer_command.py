"""`shl steer`: two answers beside each other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from said import Said, refused
from steer_heal_love.commands import steer
from steer_heal_love.lm.model.gguf import cache_dir
from steer_heal_love.play import columns
from steer_heal_love.play.turn import Column, Piece
from tiny_run import write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steer")
    write_inputs(folder)
    return folder


@pytest.fixture
def ask(say: Callable[..., Said], inputs: Path) -> Callable[..., Said]:
    def call(*flags: str) -> Said:
        model = ("--model", str(inputs / "tiny"), "--axis", str(inputs / "axis.toml"))
        return say("steer", "How are you?", *model, "--max-new-tokens", "8", *flags)

    return call


def answers(said: Said) -> list[dict[str, Any]]:
    assert (said.code, said.err) == (0, ""), said
    found: list[dict[str, Any]] = json.loads(said.out)
    return found


def text_of(column: dict[str, Any]) -> str:
    return "".join(piece["text"] for piece in column["pieces"])


def test_plain_text_where_there_is_no_terminal(ask: Callable[..., Said]) -> None:
    said = ask("--kappa", "40")
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out
    assert said.out.startswith("unsteered:\n")
    assert "\nsteered, κ 40:\n" in said.out
    assert said.out.count("perplexity under base") == 2
    assert ask("--kappa", "40").out == said.out
    assert len(list((cache_dir() / "directions").iterdir())) == 1  # read once


def test_every_token_has_its_dose_and_its_surprise(ask: Callable[..., Said]) -> None:
    base, steered = answers(ask("--kappa", "40", "--json"))
    assert (base["condition"], steered["condition"]) == ("base", "steered")
    assert text_of(base) != text_of(steered)
    assert {p["kappa"] for p in base["pieces"]} == {0.0}
    assert {p["kappa"] for p in steered["pieces"]} == {40.0}
    assert all(p["surprise_nats"] >= 0 for p in base["pieces"] + steered["pieces"])
    ebbing = answers(
        ask("--kappa", "40", "--schedule", "linear", "--schedule-length", "4", "--json")
    )[1]
    doses = [p["kappa"] for p in ebbing["pieces"]]
    assert doses == sorted(doses, reverse=True)
    assert doses[0] == 40.0
    assert len(doses) < 5 or doses[-1] == pytest.approx(10.0)


@pytest.mark.parametrize(
    "flags", [("--gate", "complement"), ("--operator", "rotate"), ("--band", "0.0", "0.5")]
)
def test_gate_operator_and_band_matter(ask: Callable[..., Said], flags: tuple[str, ...]) -> None:
    plain = answers(ask("--kappa", "60", "--json"))
    changed = answers(ask("--kappa", "60", "--json", *flags))
    assert changed[0] == plain[0]
    assert changed[1] != plain[1]


def test_the_contrast_of_the_personas_is_a_third_column(ask: Callable[..., Said]) -> None:
    base, steered, contrast = answers(ask("--kappa", "40", "--contrast", "900", "--json"))
    assert contrast["condition"] == "contrasted"
    assert {p["kappa"] for p in contrast["pieces"]} == {0.0}
    assert len({text_of(c) for c in (base, steered, contrast)}) == 3
    two = answers(ask("--kappa", "40", "--json"))
    assert [text_of(c) for c in two] == [text_of(c) for c in (base, steered)]
    other = answers(ask("--kappa", "40", "--contrast", "-900", "--json"))
    assert [text_of(c) for c in other[:2]] == [text_of(c) for c in two]
    assert text_of(other[2]) != text_of(contrast)
    assert "\ncontrast, γ 900:\n" in ask("--contrast", "900").out


def test_dose_zero_is_no_steering(ask: Callable[..., Said]) -> None:
    base, steered = answers(ask("--kappa", "0", "--json"))
    assert base["pieces"] == steered["pieces"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--kappa", "nan"), "dose κ"),
        (("--contrast", "inf"), "contrast γ must lie between −1000 and 1000"),
        (("--band", "0.6", "0.4"), "--band needs two fractions"),
        (("--schedule", "linear", "--schedule-length", "0"), "at least one token"),
        (("--schedule", "exponential", "--schedule-floor", "0"), "floor above 0"),
        (("--max-new-tokens", "0"), "--max-new-tokens"),
        (("--temperature", "nan"), "--temperature"),
        (("--axis", "lov"), "did you mean 'love'"),
        (("--gate", "open"), "--gate"),
        (("--kapa", "1"), "did you mean --kappa"),
        (("--device", "cuda:99"), "--device"),
    ],
)
def test_bad_flags(ask: Callable[..., Said], flags: tuple[str, ...], words: str) -> None:
    refused(ask(*flags), words)


def test_an_empty_prompt_is_refused_before_anything_is_loaded(say: Callable[..., Said]) -> None:
    refused(say("steer", "  ", "--model", "nowhere/at-all"), "prompt is empty")


# What a terminal shows

GROWN = (
    Column("base", (Piece("As", 0.0, 0.1), Piece(" \x1b[31m[red]", 0.0, 9.0)), done=True),
    Column("steered", (Piece("Love", 2.0, 4.0), Piece(" on", 0.5, 1.0)), done=True, cut=True),
)
TITLES = {"base": "unsteered", "steered": "steered, κ 2"}


def shown(width: int, **how: Any) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, color_system="truecolor", _environ={"TERM": "xterm"}, **how
    )

    def growing() -> Any:
        yield GROWN

    assert columns.show_growing(console, growing(), TITLES) == GROWN
    return out.getvalue().rpartition("\x1b[?25h")[2]  # after the live part


def test_a_terminal_shows_dose_and_surprise_as_colour() -> None:
    text = shown(140, force_terminal=True)
    assert "\x1b[38;2;224;60;31m ␛[31m[red]" in text  # much surprise; and no escape of its own
    strong, faint = "48;2;112;16;16m", "48;2;40;16;16m"
    assert f"{strong}Love" in text
    assert f"{faint} on" in text
    first = next(line for line in text.splitlines() if "unsteered" in line)
    assert "steered, κ 2" in first.replace("unsteered", "")  # beside each other
    assert "κ 2.00 to 0.50" in text


def test_a_narrow_terminal_shows_them_below_each_other() -> None:
    lines = shown(40, force_terminal=True).splitlines()
    assert not any("unsteered" in line and "κ 2" in line for line in lines)


def test_no_colour_where_none_is_wanted() -> None:
    text = shown(100, force_terminal=True, no_color=True)
    assert text == shown(100, force_terminal=False)
    assert "\x1b" not in text
    assert text.startswith("unsteered:\nAs ␛[31m[red]\n")


def test_the_dose_of_either_sign_has_a_background() -> None:
    assert columns._paper(1.0, 2.0) == "on #401010"
    assert columns._paper(-2.0, 2.0) == "on #101070"
    assert columns._paper(0.0, 2.0) == ""


def test_the_flags_name_the_answer() -> None:
    given = steer.SteerArguments("Hi", kappa=1.5, schedule="linear", gate="relu", operator="rotate")
    assert steer._title(given) == "steered, κ 1.5, linear, relu, rotated"
