"""The grid of rivals without training on a tiny model: measured, written, gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from results.front import measure as measuring
from results.front.tables import front_block, front_figure, rows_of

from results import __main__ as command
from steer_heal_love.records import BARE, Rival
from tiny import save_tiny_model
from tiny_run import axis_data, config_data

PAGE = "<!-- front:begin -->\n<!-- front:end -->"
FRONT = {
    "front": [0.5, 1.0],
    "front_temperatures": [1.0, 0.5],
    "front_contrasts": [4.0],
    "front_random": [1.0],
    "relevance_others": 1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("front")
    (folder / "docs").mkdir()
    (folder / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    save_tiny_model(folder / "tiny")
    (folder / "axis.toml").write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    settings = config_data(evaluate=FRONT)
    (folder / "config.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    assert run(folder) == 0
    return folder


def run(folder: Path, *more: str) -> int:
    flags = ("--model", "tiny"), ("--axis", "axis.toml"), ("--config", "config.toml")
    places = ("--store", "store"), ("--docs", "docs")
    paths = [w for flag, name in (*flags, *places) for w in (flag, str(folder / name))]
    return command.main(["front", "--samples", "5", *paths, *more])


def values_of(folder: Path) -> dict[str, Any]:
    text = (folder / "docs" / "results" / "front.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


def test_every_rival_is_measured_and_shown(place: Path) -> None:
    values = values_of(place)
    rivals = [rival for rival, _ in measuring.front_of(values)]
    assert rivals[0] == BARE
    assert set(rivals[1:]) == {
        *(Rival("steering", k, t) for k in (0.5, 1.0) for t in (1.0, 0.5)),
        Rival("contrast", 4.0),
        Rival("random", 1.0),
    }
    assert values["samples"] == 5
    page = (place / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    for words in ("| steering κ 1 at T 0.5 |", "| contrast γ 4 |", "| random directions κ 1 |"):
        assert words in page
    assert "perplexity at most 1.15 × base" in page
    assert (place / "docs" / "results" / "front.svg").is_file()


def test_the_table_says_what_the_items_say(place: Path) -> None:
    values = values_of(place)
    rows = rows_of(values)
    by_name = {tuple(r[k] for k in ("method", "dose", "temperature")): r for r in values["rivals"]}
    base = by_name["base", 0, 1]["items"]
    for row in rows:
        own = by_name[row.rival.method, row.rival.dose, row.rival.temperature]["items"]
        pairs = zip(own["trait_nats"], base["trait_nats"], strict=True)
        shifts = [a - b for a, b in pairs]
        assert row.trait is not None
        assert row.trait.value == pytest.approx(sum(shifts) / len(shifts), abs=1e-9)
    shown = [row.trait.value for row in rows if row.trait is not None]
    assert shown == sorted(shown, reverse=True)
    within = [row for row in rows if not row.broken]
    said = f"**{within[0].rival.words}**" if within else "No rival is within the bounds."
    assert said in front_block(values)
    assert front_figure(None) == []


def test_what_is_stored_is_not_measured_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "docs" / "RESULTS.md").read_bytes()
    names = sorted(p.name for p in (place / "store" / "front").iterdir())
    assert len(names) == 1 + 1 + 4 + 1 + 1  # the direction, the base model, the rivals
    measured: list[str] = []

    def refuse(_run: object, rival: Rival, _direction: object) -> None:
        measured.append(rival.name)
        raise AssertionError(rival.name)

    monkeypatch.setattr(measuring, "measure_rival", refuse)
    assert run(place) == 0
    assert measured == []
    assert (place / "docs" / "RESULTS.md").read_bytes() == before
    assert names[0].startswith("base-")
    (place / "store" / "front" / names[0]).unlink()
    with pytest.raises(AssertionError):
        run(place)
    assert [f"{name}.json" for name in measured] == names[:1]  # the missing one alone


def test_few_are_those_of_a_run(place: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    for name in ("tiny", "axis.toml", "config.toml"):
        (tmp_path / name).symlink_to(place / name)
    assert run(tmp_path, "--few") == 0
    rivals = [rival for rival, _ in measuring.front_of(values_of(tmp_path))]
    assert rivals == [
        BARE,
        Rival("steering", 1.0, 0.5),
        Rival("steering", 0.5, 1.0),
        Rival("contrast", 4.0),
    ]


@pytest.mark.parametrize("value", ["3", "x", "-1"])
def test_too_few_answers_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.parse(["front", f"--samples={value}"])
    assert stop.value.code == 2
    assert "--samples" in capsys.readouterr().err
