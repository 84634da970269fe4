"""The runs whose students are looked at: finished ones, in groups that differ by the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.command import ROOT
from steer_heal_love.errors import ConfigError
from steer_heal_love.records import Adapter, Axis
from steer_heal_love.report.compare.over_seeds import is_finished, seed_groups
from steer_heal_love.report.states import read_rounds
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.settings import read_settings
from steer_heal_love.runs.write import RunView, read_run

DEFAULT = ROOT / "runs" / "results" / "loop"
MADE_BY = "make results-loop"


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run."""

    name: str
    view: RunView
    settings: RunConfig
    axis: Axis

    @property
    def rounds(self) -> list[int]:
        """Its healed rounds, in order."""
        return sorted(int(entry["round"]) for entry in read_rounds(self.view.metrics))

    def adapters(self, last: int) -> list[Adapter]:
        """Those of the student after this round."""
        return [self.view.adapter(r) for r in self.rounds if r <= last]


def find_subjects(places: Sequence[Path]) -> tuple[list[list[Subject]], list[str]]:
    """The finished runs by group, and the names of those that are not finished.

    Args:
        places: run directories, and folders of them, as `shl sweep` makes them.

    Raises:
        ConfigError: there is no finished run; says which command makes one.
        RunError: a run is broken.
    """
    views = [read_run(path) for place in places for path in _runs_in(place)]
    done = [view for view in views if is_finished(view)]
    if not done:
        where = ", ".join(map(str, places))
        raise ConfigError(f"no finished run in {where}: `{MADE_BY}` makes the runs, or name others")
    subjects = [Subject(view.path.name, view, *read_settings(view.path)) for view in done]
    groups = [[subjects[i] for i in group] for group in seed_groups(done)]
    return groups, [view.path.name for view in views if view not in done]


def _runs_in(place: Path) -> list[Path]:
    """The run directory itself, or those in the folder."""
    if (place / "config.toml").is_file():
        return [place]
    return sorted(file.parent for file in place.glob("*/config.toml"))
