"""`shl chat`, with its input piped in."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from play_run import write_play_run
from said import Said, refused
from steer_heal_love.play import open_model as opening
from steer_heal_love.runs.write import RunDirectory

Talk = Callable[..., Said]
NASTY = "\x1b]0;owned\x07\x1b[2J\r\x00[bold]evil[/bold]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_play_run(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def talk(run: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Say these lines to the run."""

    def call(*lines: str, flags: tuple[str, ...] = ("--max-new-tokens", "8")) -> Said:
        typed = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
        return say("chat", str(run), *flags)

    return call


def test_a_piped_conversation(talk: Talk) -> None:
    said = talk("Hello", "/round 0", "/kappa 1.5", "Hello", "", "/history", "/quit", "never read")
    assert (said.code, said.err) == (0, "")
    lines = said.out.split("\n")
    prompts = [line.split(" > ") for line in lines if " > " in line and line.startswith("[")]
    assert [p for p in prompts if len(p) == 2] == [
        ["[after 3 rounds]", "Hello"],
        ["[after 3 rounds]", "/round 0"],
        ["[base model]", "/kappa 1.5"],
        ["[base model, κ 1.5]", "Hello"],
        ["[base model, κ 1.5]", ""],
        ["[base model, κ 1.5]", "/history"],
        ["[base model, κ 1.5]", "/quit"],
    ]
    assert said.out.count("you: Hello") == 2
    assert "never read" not in said.out


def test_the_same_conversation_twice_is_the_same(talk: Talk) -> None:
    lines = ("Hello", "And you?", "/compare")
    first = talk(*lines)
    assert first.out == talk(*lines).out
    for title in ("base:", "prompted:", "steered, κ 0.5:", "healed, after 3 rounds:"):
        assert f"\n{title}\n" in first.out
    other = talk(*lines, flags=("--max-new-tokens", "8", "--seed", "1"))
    assert other.out != first.out


def test_the_contrast_joins_the_comparison(talk: Talk) -> None:
    said = talk("Hello", "/compare", flags=("--max-new-tokens", "8", "--contrast", "900"))
    assert (said.code, said.err) == (0, "")
    assert "[after 3 rounds, contrast γ 900] > Hello" in said.out
    assert "\ncontrast, γ 900:\n" in said.out


def test_a_mistake_is_one_line_and_the_talk_goes_on(talk: Talk) -> None:
    said = talk("/compare", "/round 9", "/dance", "word " * 600, "Hello")
    errors = said.err.splitlines()
    assert [line.split(":")[0] for line in errors] == ["shl"] * 4
    assert "say something first" in errors[0]
    assert "from 0 (the base model) to 3" in errors[1]
    assert "/help lists them" in errors[2]
    assert "exceeds the model's context of 512" in errors[3]
    assert said.code == 0
    assert "[after 3 rounds] > Hello\n" in said.out


def test_what_is_no_utf8_does_not_end_the_talk(talk: Talk) -> None:
    said = talk("caf\udce9", "/history")
    assert (said.code, said.err) == (0, "")
    assert "you: caf\ufffd" in said.out


def test_no_control_character_reaches_the_terminal(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_heal_love.play.turn.decode_text", lambda _lm, ids: NASTY * len(ids))
    said = talk(f"Hello {NASTY}", f"/system {NASTY}", "/compare", "/history", f"/{NASTY}")
    assert "[bold]evil[/bold]" in said.out
    assert not [c for c in said.out + said.err if ord(c) < 32 and c not in "\n\t"]
    assert "\x7f" not in said.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--round", "7"), "there is no round 7"),
        (("--kappa", "inf"), "dose κ"),
        (("--contrast", "1e9"), "contrast γ must lie"),
        (("--kappa", "1", "--contrast", "4"), "begin with one of them"),
        (("--max-new-tokens", "0"), "--max-new-tokens must be at least 1"),
        (("--temperature", "-1"), "--temperature must lie"),
    ],
)
def test_bad_flags(talk: Talk, flags: tuple[str, ...], words: str) -> None:
    refused(talk("Hello", flags=flags), words)


def test_what_is_no_run_is_refused(say: Callable[..., Said], tmp_path: Path) -> None:
    refused(say("chat", str(tmp_path)), "is not a run directory")


def test_another_model_is_told(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opening.open_run(run)
    assert capsys.readouterr().err == ""
    begun = RunDirectory(run).environment()
    other = {**begun, "model": {**begun["model"], "revision": "sha256:of-another"}}
    monkeypatch.setattr(RunDirectory, "environment", lambda _self: other)
    opening.open_run(run)
    assert "warning: the model is not the one of run" in capsys.readouterr().err
