"""What is exported: a run's student after some round, and the base model that it belongs to."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.records import Adapter, Direction
from steer_heal_love.report.states import read_mapping, read_rounds
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.runs.read import RunView, read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.verdicts import to_json

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Base:
    """The base model of a run."""

    spec: str  # what loads it here: an alias, a hub id, or a path
    recorded: str  # what loaded it when the run was made
    name: str  # what others know it by: a hub id, or the recorded path
    revision: str | None  # sha256:… of its weights or the commit of the hub, as the run recorded it
    dtype: str | None  # the precision that the run computed in

    @property
    def hub_id(self) -> str | None:
        """Its name on the hub; None where it is known by a path of one machine only."""
        return self.name if _HUB_ID.fullmatch(self.name) and not self._is_path else None

    @property
    def _is_path(self) -> bool:
        """Whether the name is what the run read the weights from, on the disk."""
        on_disk = self.revision is not None and self.revision.startswith("sha256:")
        return self.name == self.recorded and (on_disk or Path(self.name).exists())

    @property
    def public_spec(self) -> str:
        """What loads it for others: its hub id in place of a path, where it has one."""
        is_path = Path(self.spec).exists() or self.spec.startswith((".", "/", "~"))
        return (self.hub_id or self.spec) if is_path else self.spec

    @property
    def label(self) -> str:
        """A name for a title: a path's last part."""
        return self.hub_id or Path(self.name).name


@dataclass(frozen=True)
class Student:
    """A run's model after one of its rounds."""

    view: RunView  # as it stood after that round: later rounds are left out of its metrics
    round: int
    adapters: tuple[Adapter, ...]  # of the rounds 0 … round
    base: Base

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        return f"{self.base.label}, axis {self.view.axis.name}, round {self.round}"

    @property
    def slug(self) -> str:
        """The same as part of a file name."""
        words = f"{self.base.label.split('/')[-1]}-{self.view.axis.name}"
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", words).strip("-.") or "model"

    @property
    def day(self) -> datetime.date | None:
        """The date that its chats show, where they show one."""
        date = self.view.config.get("date")
        return datetime.date.fromisoformat(date) if isinstance(date, str) else None

    def direction(self) -> Direction:
        """The direction that the round steered along."""
        return self.view.direction(self.round)

    @property
    def entry(self) -> Mapping[str, Any]:
        """What the run's metrics say of the round."""
        return read_rounds(self.view.metrics)[-1]


def read_student(
    path: Path, round_index: int | None, *, model: str | None = None, name: str | None = None
) -> Student:
    """The student of a run after a round; None: its last.

    Args:
        model: where the base model is, if not where the run had it.
        name: the base model's name on the hub, if the run does not know it.

    Raises:
        RunError: it is no run directory, or a file in it is broken.
        ConfigError: the run has no such round, or a name is no hub id.
    """
    if name is not None and not _HUB_ID.fullmatch(name):
        raise ConfigError(f"--base-model {name!r} is no hub id: give owner/name")
    view = read_run(path)
    done = [int(entry["round"]) for entry in view.metrics.get("rounds", [])]
    last = max(done, default=-1) if round_index is None else round_index
    if last not in done:
        rounds = ", ".join(map(str, done)) or "none yet"
        raise ConfigError(f"run {path} has no healed round {last}: its rounds are {rounds}")
    adapters = tuple(view.adapter(r) for r in sorted(done) if r <= last)
    return Student(_until(view, last), last, adapters, _base_of(view, model, name))


def _until(view: RunView, last: int) -> RunView:
    """The run as it stood after a round, with the verdicts of that time."""
    rounds = [entry for entry in read_rounds(view.metrics) if entry.get("round", 0) <= last]
    if len(rounds) == len(read_rounds(view.metrics)):
        return view
    until = replace(view, metrics={**view.metrics, "rounds": rounds})
    # Whether it beats steering takes the doses of round 0's grid, which only the whole run weighs.
    verdicts = {k: v for k, v in judge_run(until).items() if k != "beats_steering"}
    return replace(until, metrics={**until.metrics, "verdicts": to_json(verdicts)})


def _base_of(view: RunView, model: str | None, name: str | None) -> Base:
    spec = str(view.config.get("model", ""))
    known = read_mapping(RunDirectory(view.path).environment().get("model"))
    revision, dtype = known.get("revision"), known.get("dtype")
    return Base(
        spec=model or spec,
        recorded=spec,
        name=name or str(known.get("source") or spec),
        revision=str(revision) if revision not in (None, "unknown") else None,
        dtype=str(dtype) if dtype is not None else None,
    )
