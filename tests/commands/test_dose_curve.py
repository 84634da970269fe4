"""`shl dose-curve` on a tiny model: the table, the figure's files, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer_heal_love.cli import main as shl
from steer_heal_love.commands.dose_curve import main, read_doses
from steer_heal_love.errors import ConfigError
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.report.figures.dose_curve import dose_plot, dose_tables
from steer_heal_love.report.page.figure_page import save_dose_plot
from tiny_run import write_inputs


def flags(folder: Path, *more: str) -> list[str]:
    return [*write_inputs(folder), "--samples", "6", *more]


def test_the_curve_is_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "curve"
    assert main(flags(tmp_path, "--kappas", "2,0, 0.5", "--out", str(out))) == 0
    assert {p.name for p in out.iterdir()} == {
        f"dose_curve.{suffix}" for suffix in ("svg", "png", "html", "json")
    }
    found = json.loads((out / "dose_curve.json").read_text("utf-8"))
    assert [dose["kappa"] for dose in found["doses"]] == [0.0, 0.5, 2.0]
    for dose in found["doses"]:
        figures = dose["figures"]
        assert {"persona_nats", "trait_nats", "perplexity", "kept_share"} <= set(figures)
        assert len(dose["items"]["persona_nats"]) == 6
        for figure in figures.values():
            assert figure["low"] <= figure["value"] <= figure["high"]
    traits = [dose["figures"]["trait_nats"]["value"] for dose in found["doses"]]
    assert len(set(traits)) == 3  # a steered model answers otherwise
    shown = capsys.readouterr().out
    for word in ("dose κ", "trait of texts", "perplexity", "kept", "0.50", "written:"):
        assert word in shown


def test_a_curve_over_the_contrast_of_the_personas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve"
    assert main(flags(tmp_path, "--contrast", "0,500", "--out", str(out))) == 0
    found = json.loads((out / "dose_curve.json").read_text("utf-8"))
    assert [dose["gamma"] for dose in found["doses"]] == [0.0, 500.0]
    bare, tilted = (dose["items"] for dose in found["doses"])
    assert {"persona_nats", "trait_nats", "kept_share"} <= set(tilted)
    assert bare["persona_nats"] != tilted["persona_nats"]
    assert bare["trait_raw_nats"] != tilted["trait_raw_nats"]
    shown = capsys.readouterr().out
    assert "dose γ" in shown
    assert "κ" not in shown
    assert main(flags(tmp_path, "--kappas", "0", "--quiet", "--out", str(out))) == 0
    steered = json.loads((out / "dose_curve.json").read_text("utf-8"))
    assert steered["doses"][0]["items"] == bare  # at 0 both are the model as it is


def test_the_same_seed_gives_the_same_curve(tmp_path: Path) -> None:
    again = [
        flags(tmp_path, "--kappas", "1", "--quiet", "--out", str(tmp_path / n)) for n in ("a", "b")
    ]
    assert [main(given) for given in again] == [0, 0]
    a, b = (tmp_path / name / "dose_curve.json" for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


def test_a_dose_that_falls_has_no_answer_pairs(tmp_path: Path) -> None:
    out = tmp_path / "curve"
    given = ["--kappas", "1", "--dosing.schedule", "prefix", "--dosing.schedule-length", "2"]
    assert main(flags(tmp_path, *given, "--quiet", "--out", str(out))) == 0
    found = json.loads((out / "dose_curve.json").read_text("utf-8"))
    assert found["dosing"]["schedule"] == "prefix"
    assert "trait_nats" not in found["doses"][0]["figures"]
    assert "persona_nats" in found["doses"][0]["figures"]


@pytest.mark.parametrize(
    ("text", "doses"),
    [("0,1", [0.0, 1.0]), (" 2, 1,1 ,", [1.0, 2.0]), ("-1.5,-0", [-1.5, 0.0])],
)
def test_doses_are_read_in_order_and_once(text: str, doses: list[float]) -> None:
    assert read_doses(text) == doses
    assert "-0" not in str(read_doses(text))


@pytest.mark.parametrize("text", ["", ",", "a", "1;2", "nan", "inf", "1e9"])
def test_doses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--kappas: "):
        read_doses(text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--samples", "1"], "--samples: 1"),
        (["--seed", "-1"], "--seed: -1"),
        (["--kappas", "one"], "--kappas: 'one' is no number"),
        (["--contrast", "0,inf"], "--contrast: inf is no dose"),
        (["--contrast", "2", "--kappas", "1"], "ask for one at a time"),
        (["--dosing.schedule", "cubic"], "cubic"),
        (["--dosing.schedule", "exponential", "--dosing.schedule-floor", "0"], "schedule_floor"),
        (["--out", "{file}"], "is a file"),
    ],
)
def test_bad_input_is_one_line(
    given: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    given = [word.format(file=tmp_path / "file") for word in given]
    with pytest.raises(SystemExit) as stop:
        shl(["dose-curve", *write_inputs(tmp_path), *given])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_an_instrument_that_is_not_valid_is_marked() -> None:
    one = Interval(1.0, 0.5, 1.5)
    points = [(k, Measurement({"persona_nats": one, "perplexity": one}, {})) for k in (0.0, 1.0)]
    marks = {"persona_nats": "not valid on this model", "trait_nats": ""}
    (table,) = dose_tables(points, marks)
    headings = [str(column.header) for column in table.columns]
    assert headings == ["dose κ", "trait of texts\nnot valid on this model", "perplexity"]
    assert "95 % interval" in str(table.caption)
    plot = dose_plot(points, "axis kind on tiny", marks)
    assert "trait of texts: not valid on this model." in json.dumps(plot.spec())
    assert plot.table.rows[0][0] == "0.00"


def test_no_name_closes_the_script_of_the_page(tmp_path: Path) -> None:
    one = Interval(1.0, 0.5, 1.5)
    points = [(0.0, Measurement({"persona_nats": one, "perplexity": one}, {}))]
    save_dose_plot(dose_plot(points, "</script><img src=x>", {}), tmp_path)
    page = (tmp_path / "dose_curve.html").read_text("utf-8")
    assert "<img src=x>" not in page
    assert "default-src 'none'" in page
