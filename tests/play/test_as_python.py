"""The copied program, run: it must print what the playground showed."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import pytest

from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.play.as_python import as_python
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.turn import Setting, take_turn

ASKED = Setting('How\'s "it"?\n<b>{x}</b> é', 2, 1.3, seed=4, sampling=Sampling(10))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"round": 0},
        {"round": 3, "kappa": -0.75},
        {"gate": "complement", "operator": "rotate", "system": 'Be "brief".\\n'},
        {"schedule": Schedule("exponential", 5, 0.25)},
    ],
    ids=["plain", "round 0", "round 3", "gated", "scheduled"],
)
def test_the_program_prints_the_columns(loaded: Loaded, changes: dict[str, Any]) -> None:
    setting = replace(ASKED, **changes)
    *_, columns = take_turn(loaded, setting)
    assert loaded.path is not None
    program = as_python(loaded, setting, run=loaded.path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "copied.py", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == "".join(f"{c.condition}:\n{c.text}\n\n" for c in columns)
    assert len({c.text for c in columns}) > 2
