"""A loaded model with everything that a run made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.records import Adapter, Axis, Direction
from steer_heal_love.runs.read import RunView


@dataclass(frozen=True)
class Loaded:
    """A model, an axis, and per round a direction, the dose it settled on, and the adapter.

    Round n means: n rounds are healed. Round 0 is the base model. Each round from 1 on steered
    along its direction and healed into its adapter; before the first there is the first direction.

    What is no run has one direction, which `read` gives when it is first asked for, and at most
    one adapter; without an axis it has no direction and no persona.
    """

    lm: LanguageModel
    axis: Axis | None
    directions: tuple[Direction, ...]
    doses: tuple[float, ...]
    adapters: tuple[Adapter, ...] = ()
    path: Path | None = None  # of the run; None where it is none
    names: tuple[str, ...] = ()  # of the rounds, where they are not those of a run
    read: Callable[[], Direction] | None = None

    @property
    def rounds(self) -> int:
        """How many rounds are healed."""
        return len(self.adapters)

    def name(self, round_index: int) -> str:
        """Which student this is, in words."""
        return self.names[round_index] if self.names else after_rounds(round_index)

    def check_round(self, round_index: int) -> None:
        """Raises ConfigError where there is no such round."""
        if self.rounds == 0 and round_index != 0:
            raise ConfigError(
                f"there is no round {round_index}: the {self.name(0)} is all that there is"
            )
        if not 0 <= round_index <= self.rounds:
            raise ConfigError(
                f"there is no round {round_index}: choose one from 0 (the {self.name(0)}) to "
                f"{self.rounds}"
            )

    def known_axis(self) -> Axis:
        """The axis. Raises ConfigError where there is none."""
        if self.axis is None:
            raise ConfigError(
                "there is no axis here, so no persona and no steering: begin again with --axis NAME"
            )
        return self.axis

    def direction(self, round_index: int) -> Direction:
        """The direction that this round steered along; before the first round that of the first.

        Raises:
            ConfigError: there is no axis to read it by.
            DivergedError: it cannot be read from this model.
        """
        if self.directions:
            return self.directions[max(0, round_index - 1)]
        self.known_axis()
        assert self.read is not None  # comes with the axis
        return self.read()

    def dose(self, round_index: int) -> float:
        """The dose that this round settled on."""
        return self.doses[max(0, round_index - 1)]


def after_rounds(count: int) -> str:
    """Which student of a run it is, in words: the rounds themselves are numbered from 0."""
    return "base model" if count == 0 else f"after {count} round{'s' if count > 1 else ''}"


def load_run(lm: LanguageModel, view: RunView) -> Loaded:
    """The run's finished rounds, up to the first that is not whole.

    Raises:
        RunError: no round is finished yet, or a file of one is missing or broken.
    """
    entries = sorted(view.metrics.get("rounds", []), key=lambda entry: int(entry["round"]))
    done = [int(entry["round"]) for entry in entries]
    if not done:
        raise RunError(
            f"run {view.path} has no finished round yet, so there is nothing to talk to: follow it "
            f"with `shl watch {view.path}`"
        )
    if done != list(range(len(done))):
        raise RunError(f"run {view.path} has the rounds {done}: one before the last is missing")
    return Loaded(
        lm,
        view.axis,
        tuple(view.direction(r) for r in done),
        tuple(_dose(view, entry) for entry in entries),
        tuple(view.adapter(r) for r in done),
        view.path,
    )


def _dose(view: RunView, entry: dict[str, object]) -> float:
    dose = entry.get("dose")
    if isinstance(dose, bool) or not isinstance(dose, int | float):
        raise RunError(f"run {view.path}: metrics.json has no dose for round {entry['round']}")
    return float(dose)
