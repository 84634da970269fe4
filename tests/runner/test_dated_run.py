"""A chat template with a clock: a run keeps the day that it began on."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from said import Said, say
from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model import template, template_check
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner import start
from steer_heal_love.runner.settings import config_from
from tiny import CHATML, save_tiny_model, tiny_tokenizer
from tiny_run import outcome, write_inputs

__all__ = ["say"]

DAYS = [datetime.date(2026, 1, 5), datetime.date(2026, 1, 6)]


def test_a_run_keeps_its_day(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "Today is {{ strftime_now('%A, %d %B %Y') }}. " + CHATML
    tokenizer.save_pretrained(folder)
    flags = write_inputs(tmp_path, rounds=1)

    def do(day: datetime.date, *arguments: str) -> Said:
        for module in (template, template_check, start):
            monkeypatch.setattr(module, "today", lambda: day)
        said = say(*arguments, "--quiet")
        assert said.code == 0, said.err
        return said

    runs = {name: tmp_path / name for name in ("first", "whole", "later", "again")}
    for name, day, more in (
        ("first", DAYS[0], []),
        ("whole", DAYS[0], ["--rounds", "2"]),
        ("later", DAYS[1], []),
    ):
        do(day, "run", *flags, *more, "--out", str(runs[name]))
    do(DAYS[1], "run", "--from", str(runs["first"]), "--out", str(runs["again"]))
    assert 'date = "2026-01-05"' in (runs["again"] / "config.toml").read_text("utf-8")
    assert outcome(runs["again"]) == outcome(runs["first"]) != outcome(runs["later"])
    do(DAYS[1], "resume", str(runs["first"]), "--rounds", "2")
    assert outcome(runs["first"]) == outcome(runs["whole"])


def test_a_model_without_a_clock_has_no_date_in_its_run(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    flags = write_inputs(tmp_path, rounds=1)
    assert say("run", *flags, "--out", str(tmp_path / "run"), "--quiet").code == 0
    assert "date" not in (tmp_path / "run/config.toml").read_text("utf-8")


def test_what_is_no_day_is_refused() -> None:
    assert config_from({"date": "2026-02-28"}, "x").day == datetime.date(2026, 2, 28)
    assert RunConfig().day is None
    with pytest.raises(ConfigError, match=r"x: key 'date': '2026-02-30' is no day"):
        config_from({"date": "2026-02-30"}, "x")


def test_another_chat_template_is_not_gone_on_with(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    flags = write_inputs(tmp_path, rounds=1)
    run = tmp_path / "run"
    assert say("run", *flags, "--out", str(run), "--quiet").code == 0
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "Chat. " + CHATML
    tokenizer.save_pretrained(tmp_path / "tiny")
    said = say("resume", str(run), "--rounds", "2", "--quiet")
    assert said.code == 2
    assert "the chat template of model" in said.err
    said = say("run", "--from", str(run), "--out", str(tmp_path / "again"))
    assert "  chat template: sha256:" in said.out
