"""A run directory in which any one file is missing is still read, and says what is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import Markup

import said
from processes import shl
from said import Said
from steer_heal_love.errors import RunError
from steer_heal_love.records import Limits
from steer_heal_love.report import write as report
from steer_heal_love.report.page.document import run_page
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.runs.manifest import PAGES
from steer_heal_love.runs.read import RunView, read_run
from tiny_run import write_inputs

say = said.say

# Every file of a run of one round; the test below holds the list against the run.
FILES = (
    "axis.toml", "baseline/answers.jsonl", "baseline/metrics.json", "config.toml",
    "environment.json", "events.jsonl", "lock", "manifest.json", "metrics.json",
    "rounds/00/adapter/adapter_config.json", "rounds/00/adapter/adapter_model.safetensors",
    "rounds/00/answers.jsonl", "rounds/00/completions.jsonl", "rounds/00/direction.safetensors",
    "rounds/00/heal.jsonl", "rounds/00/metrics.json", "work/baseline/anchors.safetensors",
    "work/baseline/base.safetensors",
    "work/baseline/limits.safetensors", "work/baseline/prompt_neg.safetensors",
    "work/baseline/prompt_pos.safetensors", "work/baseline/reference.safetensors",
    "work/rounds/00/direction.safetensors",
    "work/rounds/00/heal/result.safetensors", "work/rounds/00/healed.safetensors",
    "work/rounds/00/shift.safetensors", "work/rounds/00/steered.safetensors",
)  # fmt: skip
UNMISSED = {"lock"}  # whoever writes the run makes it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round, by the command, without its pages."""
    folder = tmp_path_factory.mktemp("whole")
    flags = write_inputs(folder, rounds=1)
    ended = shl(["run", *flags, "--out", str(folder / "run")], folder / "said")
    assert ended.code == 0, ended
    for page in ("report.html", "diary.md"):
        (folder / "run" / page).unlink()
    return folder / "run"


@pytest.fixture(autouse=True)
def _no_library_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer_heal_love.report.page.document.vega_script", lambda: Markup(""))


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def read(run: Path) -> RunView:
    return read_run(run, damaged_ok=True)


def files_of(run: Path) -> list[str]:
    found = [p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()]
    return sorted(name for name in found if "/generate/" not in name)


def test_these_are_all_its_files(whole: Path) -> None:
    assert set(files_of(whole)) == set(FILES)


def test_a_whole_run_misses_nothing(run: Path) -> None:
    view = read(run)
    assert view.missing() == []
    assert isinstance(view.limits(), Limits)
    assert "What is missing" not in run_page(view, ())
    assert dict(view.files())["metrics.json"] == (run / "metrics.json").stat().st_size
    assert not [name for name, _ in view.files() if name.startswith(PAGES)]


@pytest.mark.parametrize("name", FILES)
def test_any_one_file_may_be_missing(run: Path, name: str) -> None:
    (run / name).unlink()
    view = read(run)
    assert [m.name for m in view.missing()] == ([] if name in UNMISSED else [name])
    page = run_page(view, ())
    assert (f"<code>{name}</code> is missing" in page) == (name not in UNMISSED)
    assert "<h1>" in page
    assert write_diary(view).startswith("# Diary of ")


def test_pieces_of_work_are_one_line(run: Path) -> None:
    shutil.rmtree(run / "work")
    limits, pieces = read(run).missing()
    assert "borderline" in limits.loss
    assert pieces.name.endswith("pieces in work/")
    assert "shl resume" in pieces.loss


def test_the_rounds_speak_for_lost_metrics(run: Path) -> None:
    before = read(run).metrics
    (run / "metrics.json").unlink()
    after = read(run).metrics
    assert after["rounds"] == before["rounds"]
    assert "base" not in after


def test_an_unfinished_run_misses_nothing(run: Path) -> None:
    for gone in ("rounds", "baseline", "work"):
        shutil.rmtree(run / gone)
    for gone in ("metrics.json", "manifest.json"):
        (run / gone).unlink()
    assert [m.name for m in read(run).missing()] == ["manifest.json"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["config.toml", "manifest.json", "metrics.json"])
def test_the_command_makes_its_page(
    run: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(report, "plots_of", lambda _: [])  # drawn elsewhere
    (run / name).unlink()
    done = say("report", str(run))
    assert (done.code, done.err) == (0, "")
    assert f"<code>{name}</code> is missing" in (run / "report.html").read_text("utf-8")
    assert (run / "manifest.json").exists() == (name != "manifest.json")


def test_a_broken_file_is_one_line(run: Path, say: Callable[..., Said]) -> None:
    (run / "rounds/00/completions.jsonl").write_text("{", "utf-8")
    done = say("report", str(run))
    assert done.code == 2
    assert "completions.jsonl, line 1 is broken" in done.err
    assert len(done.err.splitlines()) == 1
    assert not (run / "report.html").exists()
