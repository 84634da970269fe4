"""`shl verify`: what is broken is named, what is sound is not, whoever writes meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from steer_heal_love import cli
from steer_heal_love.inputs.axes import parse_axis
from steer_heal_love.runs.manifest import SCHEMA
from steer_heal_love.runs.write import RunDirectory
from tiny_run import axis_data

Verify = Callable[[Path], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    axis = parse_axis(tomli_w.dumps(axis_data()), "kind.toml")
    made = RunDirectory.create(tmp_path / "run", {"rounds": 2}, axis, {"python": "3"})
    made.do("baseline/limits", lambda: [1, 2, 3])
    made.event("start")
    made.write_json("metrics.json", {"schema": SCHEMA, "rounds": []})
    return made


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Exit code and words of `shl verify`."""

    def call(path: Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["verify", str(path)])
        said = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, said.out, said.err

    return call


def test_a_sound_run(run: RunDirectory, verify: Verify) -> None:
    assert verify(run.path) == (0, f"{run.path}: all 5 files are sound\n", "")


def test_every_broken_file_is_named(run: RunDirectory, verify: Verify) -> None:
    (run.path / "axis.toml").unlink()
    (run.path / "environment.json").write_bytes(b"")
    data = (run.path / "metrics.json").read_bytes()
    (run.path / "metrics.json").write_bytes(data.replace(b"[", b"{"))
    code, out, err = verify(run.path)
    assert (code, err) == (1, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
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
    assert verify(run.path)[0] == 0
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
    code, out, err = verify(run.path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert remedy in err


def test_what_is_no_run(tmp_path: Path, verify: Verify) -> None:
    for path in (tmp_path / "none", tmp_path):
        code, out, err = verify(path)
        assert (code, out) == (2, "")
        assert "is not a run directory" in err


def test_a_run_without_its_manifest(run: RunDirectory, verify: Verify) -> None:
    (run.path / "manifest.json").unlink()
    code, out, _ = verify(run.path)
    assert code == 1
    assert "manifest.json: missing" in out
