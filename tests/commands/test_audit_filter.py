"""`shl audit-filter`: the filter on trial from the command line, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from said import Said, refused
from steer_heal_love.commands.audit_filter import main
from tiny_run import write_inputs


def flags(folder: Path, *more: str) -> list[str]:
    given = write_inputs(folder)
    return [*given[:4], "--samples", "12", "--kappa", "2", *more]  # the model and the axis


def test_every_kind_is_tried_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "audit.json"
    assert main(flags(tmp_path, "--out", str(out))) == 0
    again = tmp_path / "again.json"
    assert main(flags(tmp_path, "--out", str(again), "--quiet")) == 0
    assert again.read_bytes() == out.read_bytes()
    found = json.loads(out.read_text("utf-8"))
    kinds = {k["kind"]: k for k in found["kinds"]}
    wanted = {"token loop", "character loop", "shuffled", "spliced", "narrated", "refusal", "empty"}
    assert wanted < set(kinds)
    assert kinds["empty"]["recall"]["value"] == 1.0
    for k in kinds.values():
        assert 0 <= k["recall"]["low"] <= k["recall"]["value"] <= k["recall"]["high"] <= 1
    assert found["samples"] == 12
    assert "as configured" in found["development"]
    shown = capsys.readouterr().out
    assert "base (false drops)" in shown
    assert all(kind in shown for kind in wanted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--samples", "3"], "at least 8 base samples"),
        (["--kappa", "-1"], "--kappa"),
        (["/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_line(
    given: list[str], words: str, tmp_path: Path, say: Callable[..., Said]
) -> None:
    refused(say("audit-filter", *given, *write_inputs(tmp_path)[:4]), words)


def test_a_model_that_says_nothing_cannot_be_audited(
    tmp_path: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    import steer_heal_love.commands.audit_filter as command

    monkeypatch.setattr(command, "_sample", lambda *_: [])
    said = say("audit-filter", *flags(tmp_path))
    assert said.code == 2
    assert "at least four such samples" in said.err
