"""The whole command on a tiny model: what it measures, writes, and does not do twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli_w
from results.dose import __main__ as command
from results.dose.techniques import TECHNIQUES

from tiny import save_tiny_model
from tiny_run import axis_data, config_data

PAGE = "\n".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->" for name in command.BLOCKS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    (folder / "docs").mkdir()
    (folder / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    save_tiny_model(folder / "tiny")
    (folder / "axis.toml").write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    (folder / "config.toml").write_text(tomli_w.dumps(config_data()), encoding="utf-8")
    assert run(folder) == 0
    return folder


def run(folder: Path) -> int:
    return command.main(
        [
            *("--tiny", "--only", "backtrack", "prefix", "rotate"),
            *("--model", str(folder / "tiny"), "--axis", str(folder / "axis.toml")),
            *("--config", str(folder / "config.toml")),
            *("--store", str(folder / "store"), "--docs", str(folder / "docs")),
        ]
    )


def test_every_question_gets_its_block(done: Path) -> None:
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    for name in command.BLOCKS:
        block = text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
        assert block.strip(), name
    for name in ("constant", "prefix", "rotate", "backtrack", "walk, cold", "bisect, warm"):
        assert f"| {name} |" in text
    assert "| gate relu |" not in text
    assert "by trait − by order" in text


def test_the_values_behind_the_page_are_kept(done: Path) -> None:
    values = json.loads((done / "docs" / "results" / "dose.json").read_text(encoding="utf-8"))
    assert set(values["lines"]) == {"constant", "prefix", "rotate", "backtrack"}
    for line in values["lines"].values():
        assert line["kappas"][0] == 0.0
        assert len(line["trait"]) == len(line["kappas"])
    base = {line["perplexity"][0] for line in values["lines"].values()}
    assert len(base) == 1  # the same cells
    assert "prefix" not in values["answer_pairs"]  # its dose is not the same at every position
    assert set(values["answer_pairs"]) == {"constant", "rotate"}
    for found in values["selection"]["by_seed"].values():
        assert found["trait"]["kept"] == found["order"]["kept"] > 0


def test_the_figure_is_drawn(done: Path) -> None:
    folder = done / "docs" / "results"
    assert (folder / "dose.png").read_bytes()[:4] == b"\x89PNG"
    svg = (folder / "dose.svg").read_text(encoding="utf-8")
    assert "backtrack" in svg
    assert "rotate" in svg


def test_what_was_measured_is_not_measured_again(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")}
    page = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text was generated again")

    monkeypatch.setattr("results.dose.cells.sample_dose", refuse)
    monkeypatch.setattr("results.dose.searches.sample_dose", refuse)
    monkeypatch.setattr("results.dose.selection.sample_dose", refuse)
    assert run(done) == 0
    assert {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")} == before
    assert (done / "docs" / "RESULTS.md").read_text(encoding="utf-8") == page


def test_each_technique_has_a_name_and_ascending_doses_of_its_own() -> None:
    assert len({t.name for t in TECHNIQUES}) == len(TECHNIQUES)
    assert len({t.dosing for t in TECHNIQUES}) == len(TECHNIQUES)
    for technique in TECHNIQUES:
        assert list(technique.kappas) == sorted(set(technique.kappas))
        assert min(technique.kappas) > 0


def test_an_unknown_technique_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.parse(["--only", "magic"])
    assert "invalid choice: 'magic'" in capsys.readouterr().err
