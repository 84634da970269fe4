from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.machine import cpu_name, slug, version
from benchmarks.records import Outcome, Rate, Ratio, all_met
from benchmarks.show import markdown, tables

from benchmarks import __main__ as command

MACHINE: dict[str, Any] = {
    "slug": "a-machine",
    "device": "A machine",
    "cores": 2,
    "threads": 2,
    "memory_gib": 8.0,
    "python": "3.11",
    "packages": {"torch": "2", "trl": None},
    "bf16_tflops": 0.5,
    "fp32_tflops": 0.25,
    "copy_gb_per_s": 10.0,
}


def an_outcome(name: str = "heal", value: float = 2.5) -> Outcome:
    rate = Rate("ours", 1000, 2.0, flops=1e12, bytes_read=4e9, peak_gib=1.5, runs=(2.0, 3.0))
    ratio = Ratio("ours / theirs", value, 2.0)
    return Outcome(name, 5.0, 2.0, [rate], [ratio], ["a note"], {"seen": [1, 2]})


@pytest.mark.parametrize(
    ("ratio", "met"),
    [
        (Ratio("r", 2.0, 2.0), True),
        (Ratio("r", 1.99, 2.0), False),
        (Ratio("r", 1.1, 1.1, "at most"), True),
        (Ratio("r", 1.2, 1.1, "at most"), False),
        (Ratio("r", 1.2), None),
    ],
)
def test_a_target_is_met_on_its_side(ratio: Ratio, met: bool | None) -> None:
    assert ratio.met is met


def test_an_outcome_comes_back_from_json() -> None:
    outcome = an_outcome()
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_a_failure_and_a_missed_target_are_not_all_met() -> None:
    assert all_met([an_outcome()])
    assert not all_met([an_outcome(value=1.0)])
    assert not all_met([Outcome("heal", failed="no")])


def test_shares_are_of_the_machines_own_peaks() -> None:
    (_, rates), (_, ratios) = tables(MACHINE, [an_outcome()])
    # 10¹² operations in 2 s are 0.5 TFLOP/s: all of the bf16 peak, twice the fp32 peak
    expected = ("heal", "ours", "1,000", "2.00", "500", "1", "0.5", "100%", "200%", "2", "1.50")
    assert rates[0] == expected
    assert ratios == [("heal", "ours / theirs", "2.5×", "≥ 2×", "met")]


def test_rows_are_as_wide_as_their_headings() -> None:
    for headings, rows in tables(MACHINE, [an_outcome()]):
        assert {len(row) for row in rows} == {len(headings)}


def test_the_page_names_failures_and_misses() -> None:
    page = markdown(MACHINE, [an_outcome(value=1.0), Outcome("round", failed="it broke")])
    assert "missed" in page
    assert "round: FAILED: it broke" in page
    assert "A machine" in page


def test_a_named_benchmark_replaces_its_own_part_alone(tmp_path: Path) -> None:
    command.store(tmp_path, MACHINE, [an_outcome("heal", 3.0), an_outcome("memory", 4.0)])
    command.store(tmp_path, MACHINE, [an_outcome("heal", 5.0)])
    stored = json.loads((tmp_path / "a-machine.json").read_text(encoding="utf-8"))
    values = {n: b["ratios"][0]["value"] for n, b in stored["benchmarks"].items()}
    assert values == {"heal": 5.0, "memory": 4.0}
    assert stored["benchmarks"]["heal"]["ratios"][0]["met"] is True
    assert "| memory | ours / theirs | 4× |" in (tmp_path / "a-machine.md").read_text()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(["speed"])
    assert "no benchmark named 'speed'" in capsys.readouterr().err


def test_a_tiny_run_does_not_touch_the_results() -> None:
    assert command.parse(["--tiny"]).out != command.RESULTS
    assert command.parse([]).out == command.RESULTS


def test_a_child_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    options = argparse.Namespace(model="none", tiny=True)
    assert "code" in (command.run_child("nowhere", options).failed or "")


def test_the_machine_has_a_name() -> None:
    assert cpu_name()
    assert slug("AMD EPYC(TM) 9B14, 2 cores") == "amd-epyc-tm-9b14-2-cores"
    assert version("torch")
    assert version("no-such-package") is None
