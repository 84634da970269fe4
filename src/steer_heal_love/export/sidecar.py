"""The note that lies in every exported folder: what it is, of which base, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steer_heal_love._version import __version__
from steer_heal_love.export.student import Student
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text

SIDECAR = "steer_heal_love.json"
REPRODUCE = "reproduce"  # folder of the run's settings and axis
FORMAT = 1


def write_sidecar(
    folder: Path, kind: str, student: Student, files: Mapping[str, str], measured: Mapping[str, Any]
) -> None:
    """Write the note.

    Args:
        files: role → name of a file in the folder.
        measured: what the export was measured to cost, as plain data.
    """
    base = {"model": student.base.public_spec, **asdict(student.base)}
    del base["spec"], base["recorded"]  # they may be paths of this machine
    note = {
        "format": FORMAT,
        "kind": kind,
        "made_by": f"steer-heal-love {__version__}",
        "base": base,
        "run": {
            "axis": student.view.axis.name,
            "seed": student.view.metrics.get("seed"),
            "round": student.round,
        },
        "files": dict(files),
        "measured": dict(measured),
    }
    write_text(folder / SIDECAR, to_json(note))
