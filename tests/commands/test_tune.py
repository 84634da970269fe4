"""`shl tune` on a tiny model: the table, the files, settings that a run takes, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from steer_heal_love.cli import main as shl
from steer_heal_love.commands.tune import describe_best, list_rows, main
from steer_heal_love.loop.tune import (
    BANDS,
    EXTRACTIONS,
    TRIED,
    Candidate,
    Scan,
    list_bands,
    list_others,
)
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.report.figures.tune import RANDOM, tune_plot, tune_table
from steer_heal_love.runner.settings import load_config
from steer_heal_love.stages.steer import SteerConfig
from tiny_run import write_inputs

FEW = ((0.25, 0.5), (0.5, 1.0))


def test_a_scan_is_shown_drawn_and_turned_into_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_heal_love.loop.tune.BANDS", FEW)
    out = tmp_path / "tuned"
    assert main([*write_inputs(tmp_path), "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {
        f"tune.{end}" for end in ("json", "toml", "svg", "png")
    }
    scanned = json.loads((out / "tune.json").read_text("utf-8"))
    candidates = scanned["candidates"]
    assert len(candidates) == 1 + len(FEW) + TRIED * (len(EXTRACTIONS) - 1) + 1
    assert candidates[0]["own"]
    assert [c["random"] for c in candidates] == [False] * (len(candidates) - 1) + [True]
    assert candidates[0]["against_own"]["value"] == 0
    efficiencies = [c["figures"]["trait_per_sqrt_kl"]["value"] for c in candidates]
    assert len(set(efficiencies)) > len(FEW)
    (best,) = [c for c in candidates if c["best"]]
    assert best["figures"]["trait_per_sqrt_kl"]["value"] == max(efficiencies[:-1])
    settings = load_config(out / "tune.toml")
    assert [settings.steer.band_low, settings.steer.band_high] == best["band"]
    assert settings.steer.extraction == best["extraction"]
    assert settings.steer.contexts == load_config(tmp_path / "config.toml").steer.contexts
    shown = capsys.readouterr().out
    assert "principal" in shown
    assert "against own" in shown
    assert "written:" in shown


def made_up(*efficiencies: float, seed: int = 0) -> Scan:
    """A scan whose candidates have these, each with a little noise over its pairs and texts."""
    rng = np.random.default_rng(seed)
    base = Measurement({}, {"trait_nats": tuple(rng.normal(size=20))})
    candidates = []
    for value, steer in zip(efficiencies, list_bands(SteerConfig()), strict=False):
        trait = np.array(base.items["trait_nats"]) + value + 0.01 * rng.normal(size=20)
        items = {"trait_nats": tuple(trait), "kl_matched_nats": (0.9, 1.0, 1.1)}
        figures = {"trait_per_sqrt_kl": Interval(value, value, value)}
        candidates.append(Candidate(steer, Measurement(figures, items)))
    return Scan(base, tuple(candidates))


def test_each_band_is_measured_once_the_settings_own_first() -> None:
    own = SteerConfig(extraction="principal")
    listed = list_bands(own)
    assert listed[0] == own
    assert len(set(listed)) == len(listed) == len(BANDS)
    assert {c.extraction for c in listed} == {"principal"}
    assert len(list_bands(SteerConfig(band_low=0.1))) == len(BANDS) + 1


def test_the_other_extractions_are_tried_in_the_best_bands() -> None:
    scanned = made_up(0.3, 0.6, 0.1, 0.4)
    others = list_others(scanned.candidates)
    best = [scanned.candidates[i].steer for i in (1, 3)]
    assert [(c.band_low, c.extraction) for c in others] == [
        (band.band_low, extraction) for band in best for extraction in ("principal", "separating")
    ]


def test_what_is_best_and_whether_it_can_be_told_from_the_settings_own() -> None:
    clear = made_up(0.3, 0.2, 0.6)
    assert clear.best is clear.candidates[2]
    assert "more trait for its divergence than the settings' own" in describe_best(clear)
    ahead = clear.against_own(clear.best)
    assert ahead is not None
    assert ahead.value == pytest.approx(0.3, abs=0.02)
    close = made_up(0.3, 0.2, 0.301)
    assert "may be as good" in describe_best(close)
    assert describe_best(made_up(0.6, 0.2)).startswith("No band")


def test_a_random_direction_and_what_cannot_be_measured_never_win() -> None:
    scanned = made_up(0.3, 0.2)
    lucky = Candidate(SteerConfig(), scanned.candidates[0].measured, random=True)
    broken = Candidate(SteerConfig(), Measurement({}, {"trait_nats": (None,) * 20}))
    scanned = Scan(scanned.base, (*scanned.candidates, lucky, broken))
    assert scanned.best is scanned.own
    rows = list_rows(scanned)
    assert rows[-1].efficiency is None
    assert RANDOM in {row.direction for row in rows}
    assert tune_table(rows).row_count == 4
    assert RANDOM in json.dumps(tune_plot(rows, "axis kind on tiny").spec())


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        shl(["tune", *write_inputs(tmp_path), "--out", str(tmp_path / "file")])
    assert stop.value.code == 2
    assert "is a file" in capsys.readouterr().err
