"""Make an export of a run, and the logits that it must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from steer_heal_love.export.exporting import Kind, export
from steer_heal_love.export.job import ExportOptions
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.student import Student, read_student
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.patches.adapters import student as put_on

LICENCE = Licence("apache-2.0", "written by the test")


def make(kind: Kind, run: Path, target: Path, **wish: Any) -> tuple[Student, Path]:
    """The student of a run, and its export of one kind."""
    student = read_student(run, None)
    export(kind, student, target, ExportOptions(device="cpu", **wish), LICENCE, lambda _: None)
    return student, target


def ids() -> torch.Tensor:
    """A batch of token ids."""
    return torch.arange(3, 27).view(2, 12)


def student_logits(student: Student) -> torch.Tensor:
    """Logits of the student as the package computes it: float32, adapters on as hooks."""
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    with put_on(lm, student.adapters), torch.inference_mode():
        return torch.as_tensor(lm.model(ids()).logits)


def base_logits(student: Student) -> torch.Tensor:
    """Logits of the base model."""
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    with torch.inference_mode():
        return torch.as_tensor(lm.model(ids()).logits)


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of two tensors."""
    return float((one.float() - other.float()).abs().max())
