"""`shl verify`: what is broken is named, what is sound is not, whoever writes meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from said import Said, refused
from steer_heal_love.runs.manifest import SCHEMA
from steer_heal_love.runs.write import RunDirectory
from tiny_run import small_axis

Verify = Callable[[Path], Said]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "run", {"rounds": 2}, small_axis(), {"python": "3"})
    made.do("baseline/limits", lambda: [1, 2, 3])
    made.event("start")
    made.write_json("metrics.json", {"schema": SCHEMA, "rounds": []})
    return made


@pytest.fixture
def verify(say: Callable[..., Said]) -> Verify:
    """What `shl verify` says of a folder."""
    return lambda path: say("verify", str(path))


def test_a_sound_run(run: RunDirectory, verify: Verify) -> None:
    assert verify(run.path) == Said(0, f"{run.path}: all 5 files are sound\n", "")


def test_every_broken_file_is_named(run: RunDirectory, verify: Verify) -> None:
    (run.path / "axis.toml").unlink()
    (run.path / "environment.json").write_bytes(b"")
    data = (run.path / "metrics.json").read_bytes()
    (run.path / "metrics.json").write_bytes(data.replace(b"[", b"{"))
    said = verify(run.path)
    assert (said.code, said.err) == (1, "")
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == [
        "axis.toml",
        "environment.json",
        "metrics.json",
    ]


def test_a_run_that_is_written_meanwhile_is_no_broken_one(
    run: RunDirectory, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, calls = RunDirectory.problems, []

    def overtaken(self: RunDirectory) -> list[str]:
        calls.append(1)
        if len(calls) == 1:
            run.write_json("metrics.json", {"schema": SCHEMA, "rounds": [{"round": 0}]})
        return problems(self)

    monkeypatch.setattr(RunDirectory, "problems", overtaken)
    assert verify(run.path).code == 0
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("schema", "words", "remedy"),
    [
        (SCHEMA + 1, "newer version", "upgrade steer-heal-love"),
        (SCHEMA - 1, "older version", "begin another run"),
    ],
)
def test_a_run_of_another_version_is_refused(
    run: RunDirectory, verify: Verify, schema: int, words: str, remedy: str
) -> None:
    text = (run.path / "manifest.json").read_text("utf-8")
    other = text.replace(f'"schema": {SCHEMA}', f'"schema": {schema}')
    (run.path / "manifest.json").write_text(other, "utf-8")
    refused(verify(run.path), words, remedy)


def test_what_is_no_run(tmp_path: Path, verify: Verify) -> None:
    for path in (tmp_path / "none", tmp_path):
        refused(verify(path), "is not a run directory")


def test_a_run_without_its_manifest(run: RunDirectory, verify: Verify) -> None:
    (run.path / "manifest.json").unlink()
    said = verify(run.path)
    assert said.code == 1
    assert "manifest.json: missing" in said.out
