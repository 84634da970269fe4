"""Write an export into its folder: the files, the licence, the card, the way to repeat the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from steer_heal_love.export.as_adapter import write_peft
from steer_heal_love.export.as_model import write_gguf, write_merged
from steer_heal_love.export.as_vector import write_vector
from steer_heal_love.export.card import model_card
from steer_heal_love.export.folder import whole_folder
from steer_heal_love.export.job import ExportJob, ExportOptions, ExportResult
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.sidecar import REPRODUCE, write_sidecar
from steer_heal_love.export.student import Student
from steer_heal_love.inputs.axes import axis_to_toml_data
from steer_heal_love.runs.codec import to_toml
from steer_heal_love.runs.files import write_bytes, write_text

Kind = Literal["peft", "merged", "gguf", "vector"]

_WRITERS: dict[Kind, Callable[[ExportJob], ExportResult]] = {
    "peft": write_peft,
    "merged": write_merged,
    "gguf": write_gguf,
    "vector": write_vector,
}


def export(
    kind: Kind,
    student: Student,
    target: Path,
    options: ExportOptions,
    licence: Licence,
    say: Callable[[str], None],
) -> ExportResult:
    """Write an export to `target`, which appears whole or not at all.

    Raises:
        RunError: the target is there and not empty, or the disk does not take it.
        ConfigError, ModelError: what is wished for is not possible with this model.
    """
    with whole_folder(target) as folder:
        result = _WRITERS[kind](ExportJob(student, folder, options, licence, say))
        for name, data in licence.files:
            write_bytes(folder / name, data)
        _write_reproduce(student, folder)
        write_text(folder / "README.md", model_card(kind, student, result, licence))
        cost = {"fidelity": asdict(result.fidelity)} if result.fidelity else {}
        write_sidecar(folder, kind, student, result.files, {**result.measured, **cost})
    return result


def _write_reproduce(student: Student, folder: Path) -> None:
    """The run's settings and axis, by which `shl run` makes it again."""
    config = {k: v for k, v in student.view.config.items() if k != "axis"}
    config["model"] = student.base.public_spec
    write_text(folder / REPRODUCE / "config.toml", to_toml(config))
    axis = axis_to_toml_data(student.view.axis)
    write_text(folder / REPRODUCE / "axis.toml", to_toml(axis))
