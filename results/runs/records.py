"""What is kept of the runs of a sweep: figures, values per item, counts; and its JSON file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from results.lines import lines_of
from steer_heal_love.errors import DataError
from steer_heal_love.runs.files import write_text

SCHEMA = 1


@dataclass(frozen=True)
class Measured:
    """One condition of one run."""

    figures: dict[str, tuple[float, float | None, float | None]]  # value, low, high; 95 %
    items: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # of shares: how many, of all


@dataclass(frozen=True)
class FrontDose:
    """Raw steering of the base model at one dose: items `trait_nats` and `perplexity`."""

    kappa: float
    measured: Measured


@dataclass(frozen=True)
class Round:
    """One round of one run."""

    number: int
    kappa: float
    kept: int
    total: int
    cosine_first: float
    divergence: float | None  # D of the kept texts as the heal ended, nats
    healed: Measured
    steered: Measured | None = None
    front: tuple[FrontDose, ...] = ()
    rivals: dict[str, Measured] = field(default_factory=dict)
    stopped: str | None = None  # why the run was ended early


@dataclass(frozen=True)
class Run:
    """One trial of a sweep, as far as it has come."""

    trial: str
    settings: dict[str, Any]  # dotted; those that are not the same in all runs of the sweep
    axis: str
    model: str
    seed: int
    base: Measured
    prompt_pos: Measured
    prompt_neg: Measured
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class SweepFigures:
    """All runs of a sweep that have a finished round."""

    name: str
    trials: int  # that the sweep's file asks for
    rounds: int  # that it asks for, at most
    settings: dict[str, Any]  # dotted; those that all runs share
    environment: dict[str, Any]  # of the runs: a list of values where they differ
    runs: tuple[Run, ...]
    schema: int = SCHEMA


_FORM = TypeAdapter(SweepFigures)


def write_figures(file: Path, figures: SweepFigures) -> SweepFigures:
    """Write the JSON file, returns what `read_figures` will read.

    Raises RunError where it cannot be written.
    """
    write_text(file, lines_of(asdict(figures), deep=5))
    found = read_figures(file)
    assert found is not None
    return found


def read_figures(file: Path) -> SweepFigures | None:
    """The figures of a sweep; None where there is no file.

    Raises DataError where it is broken.
    """
    if not file.is_file():
        return None
    try:
        found = _FORM.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else error
        raise DataError(f"{file} is broken ({problem}): delete it and measure again") from None
    if found.schema != SCHEMA:
        raise DataError(f"{file} is of schema {found.schema}, not {SCHEMA}: measure again")
    return found
