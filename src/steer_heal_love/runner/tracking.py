"""A run's figures to an experiment tracker, under the same names in each, through accelerate."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from steer_heal_love.errors import ConfigError
from steer_heal_love.records import Baseline, RoundRecord
from steer_heal_love.runner.settings import flatten

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]

PROJECT = "steer-heal-love"  # project or experiment, where the tracker has such

# Of a heal's step; its number is the step itself.
_CURVE = (
    *("loss", "nll", "divergence_mean", "divergence_max", "over_tau"),
    *("grad_nll", "grad_barrier", "grad_norm", "anchor_nats"),
)


@runtime_checkable
class Tracker(Protocol):
    """What is used of `accelerate.tracking.GeneralTracker`."""

    def start(self) -> None:
        """Open the tracker's run."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep the settings."""

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        """Figures at a step."""

    def finish(self) -> None:
        """Close the tracker's run."""


class Tracking:
    """Passes on what a run yields. The step is the number of optimiser steps of all heals so far.

    A tracker that fails (no network, no disk) is told of once through `warn`, and the run goes on
    without it.
    """

    def __init__(self, tracker: Tracker | None, warn: Callable[[str], None]) -> None:
        self.tracker, self.warn = tracker, warn
        self.step = 0

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Open the tracker and keep the settings, by names such as heal.tau."""

        def open_it(tracker: Tracker) -> None:
            tracker.start()
            tracker.store_init_configuration(plain_settings(settings))

        self._try(open_it)

    def tell(self, record: Baseline | RoundRecord) -> None:
        """Log a record: of a round first the heal's curve, then its figures at the curve's end."""
        if isinstance(record, RoundRecord):
            for step in record.healed_result.steps:
                self._log({f"heal/{name}": getattr(step, name) for name in _CURVE})
                self.step += 1
        self._log(dict(figures(record)))

    def end(self) -> None:
        """Close the tracker."""
        self._try(lambda tracker: tracker.finish())

    def _log(self, values: dict[str, float]) -> None:
        finite = {name: float(v) for name, v in values.items() if math.isfinite(v)}
        self._try(lambda tracker: tracker.log(finite, step=self.step))

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self.tracker is None:
            return
        try:
            act(self.tracker)
        except Exception as error:  # whatever a tracker's library raises, the run is worth more
            self.tracker = None
            words = str(error).strip().partition("\n")[0] or type(error).__name__
            self.warn(f"tracking ended: {words}")


def figures(record: Baseline | RoundRecord) -> Iterator[tuple[str, float]]:
    """Figures of a record by the names that every tracker gets them under: healed/trait_nats, …"""
    match record:
        case Baseline():
            personas = {"prompt_pos": record.prompt_pos, "prompt_neg": record.prompt_neg}
            conditions = {"base": record.base, **personas}
        case RoundRecord():
            conditions = record.measured
            yield "round/index", record.round
            yield "round/dose", record.dose
            yield "round/kept", record.kept
            yield "round/total", record.total
            yield "round/cosine_first", record.cosine_first
            yield from ((f"wall_s/{stage}", s) for stage, s in record.wall_s.items())
    for condition, measured in conditions.items():
        for name, interval in measured.figures.items():
            yield f"{condition}/{name}", interval.value
            yield f"{condition}/{name}/low", interval.low
            yield f"{condition}/{name}/high", interval.high


def plain_settings(settings: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Settings by names such as heal.tau; a list as words, what is unset left out."""
    return {
        name: value if isinstance(value, bool | int | float | str) else ", ".join(map(str, value))
        for name, value in flatten(settings).items()
        if value is not None
    }


def open_tracker(name: TrackerName, run: Path) -> Tracker:
    """accelerate's tracker of this name for this run directory; its library is imported on `start`.

    TensorBoard's files go into the folder `tensorboard` beside the run, the others where they are
    set to put them.

    Raises:
        ConfigError: its library is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"--track {name}: package {name} is not installed: `pip install {name}` "
            "(the extra `track` of steer-heal-love has tensorboard)"
        )
    from accelerate import PartialState, tracking

    PartialState()  # accelerate's trackers speak through its logger, which asks for it
    tracker: Tracker
    match name:
        case "tensorboard":
            tracker = tracking.TensorBoardTracker(run.name, run.parent / "tensorboard")
        case "wandb":
            tracker = tracking.WandBTracker(PROJECT, name=run.name)
        case "mlflow":
            tracker = tracking.MLflowTracker(PROJECT, run_name=run.name)
        case "trackio":
            tracker = tracking.TrackioTracker(PROJECT, name=run.name)
    return tracker
