"""The arithmetic of the planner's benchmark: stages of pieces, and how far a plan is off."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.plan import HEAD, KINDS, Row, cells, store
from benchmarks.plan_round import MODELS, Measured, settings

from steer_heal_love.budget.machines import GIB
from steer_heal_love.budget.memory import HOLES, STAGES, MemoryPoint
from steer_heal_love.budget.rows import CPU_ROWS
from steer_heal_love.piece_names import PieceName

PIECES = {
    "baseline/limits": "baseline",
    "rounds/00/direction": "steer",
    "rounds/00/generate/00064": "generate",
    "rounds/00/heal/result": "heal",
    "rounds/00/steered": "evaluate",
    "rounds/00/healed": "evaluate",
    "rounds/00/shift": "evaluate",
}


@pytest.mark.parametrize(("piece", "stage"), PIECES.items())
def test_pieces_are_of_stages_that_a_plan_has(piece: str, stage: str) -> None:
    assert PieceName(piece).stage == stage
    assert stage in STAGES


@pytest.mark.parametrize("name", MODELS)
def test_a_round_is_one_round_with_full_batches(name: str) -> None:
    config = settings(name)
    assert config.rounds == 1
    assert config.generate.batch_size is None  # so as many as pay
    assert config.dose.probe_batch == CPU_ROWS
    assert config.heal.batch_size == 8


def test_what_is_alive_is_held_against_no_holes_and_all_against_the_round_as_it_is() -> None:
    moments = {
        s: MemoryPoint(s, "work", {"all": (k + 1) * GIB, HOLES: 2 * GIB})
        for k, s in enumerate(STAGES)
    }
    plan: Any = SimpleNamespace(stages=moments, peak=moments["evaluate"], seconds={"heal": 2.0})
    whole = Measured(0, dict.fromkeys(STAGES, 5 * GIB), dict.fromkeys(STAGES, 1.0))
    found = Measured(0, dict.fromkeys(STAGES, 10 * GIB), dict.fromkeys(STAGES, 1.0))
    row = Row("a model", found, whole, plan)
    assert row.off == pytest.approx(8 / 10 - 1)
    lines = cells([row])
    assert [line[1] for line in lines] == [*STAGES, "peak"]
    assert all(len(line) == len(HEAD) for line in lines)
    assert lines[-1][3:9] == ["6.00", "5.00", "+20%", "8.00", "10.00", "-20%"]
    stages = {line[1]: line for line in lines}
    assert stages["heal"][9:] == ["1", "2"]


def test_what_was_measured_is_stored_and_can_be_held_against_another_planner(
    tmp_path: Path,
) -> None:
    moments = {s: MemoryPoint(s, "work", {"all": GIB}) for s in STAGES}
    plan: Any = SimpleNamespace(stages=moments, peak=moments["heal"], seconds={})
    found = Measured(7, dict.fromkeys(STAGES, 3 * GIB), {"heal": 1.5})
    whole = Measured(8, dict.fromkeys(STAGES, 2 * GIB), {"heal": 2.5})
    store([Row("a model", found, whole, plan)], {"device": "made up"}, tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    assert data["machine"] == {"device": "made up"}
    back = [Measured(**data["measured"]["a model"][kind]) for kind in KINDS]
    assert back == [found, whole]
