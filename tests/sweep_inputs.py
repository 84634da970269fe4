"""A sweep small enough for a test, and what is read back of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomli_w

from tiny import save_tiny_model
from tiny_run import axis_data, config_data


def write_sweep(folder: Path, *, base: dict[str, Any] | None = None, **tables: Any) -> Path:
    """Model, axis and sweep.toml in `folder`, trials of one round; returns the sweep's file."""
    if not (folder / "tiny").is_dir():
        save_tiny_model(folder / "tiny")
    (folder / "axis.toml").write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    given = {"model": str(folder / "tiny"), "axis": str(folder / "axis.toml")}
    settings = config_data(rounds=1) | given | (base or {})
    file = folder / "sweep.toml"
    file.write_text(tomli_w.dumps({"base": settings, **tables}), encoding="utf-8")
    return file


def ledger_of(out: Path) -> dict[str, Any]:
    """What trials.json says of each trial."""
    found: dict[str, Any] = json.loads((out / "trials.json").read_text("utf-8"))["trials"]
    return found


def events(run: Path, name: str) -> list[dict[str, Any]]:
    """The events of this name in a run's log; none while there is no log."""
    file = run / "events.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return [event for line in lines if (event := json.loads(line))["event"] == name]
