"""A conversation with a model: what was said, who answers, and the commands that change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace

from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.turn import (
    CONDITIONS,
    Column,
    Condition,
    Setting,
    check_gamma,
    check_kappa,
    take_turn,
)

HELP = """\
/round N      talk to the student after N healed rounds; 0 is the base model
/kappa K      steer it by dose K along its round's direction; negative the other way, 0 not at all
/contrast G   draw by the contrast of the personas, amplified by G, in place of a dose; 0 not at all
/compare      the last message again, as base, prompted, steered and healed beside each other,
              and by the contrast where one is on
/system TEXT  set a system prompt; without TEXT take it away
/history      what was said so far
/reset        forget what was said; the next draws begin at the first seed again
/help         this list
/quit         leave (or end of input)"""


@dataclass
class Conversation:
    """The state of one conversation. Each message is answered with the history before it."""

    loaded: Loaded
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    round: int = 0
    kappa: float = 0.0
    gamma: float = 0.0
    system: str | None = None
    history: list[tuple[str, str]] = field(default_factory=list)
    last: Setting | None = None  # of the last message that was sent

    @property
    def speaker(self) -> str:
        """Who answers now, in words."""
        name = self.loaded.name(self.round)
        if self.gamma:
            return f"{name}, contrast γ {self.gamma:g}"
        return name if self.kappa == 0 else f"{name}, κ {self.kappa:g}"

    def ask(self, message: str) -> Generator[tuple[Column, ...], None, None]:
        """The answer as it grows, a single column; `keep` enters it in the history."""
        # Another draw each turn, and the same ones when the conversation is typed again.
        self.last = Setting(
            message,
            self.round,
            self.kappa,
            system=self.system,
            history=tuple(self.history),
            seed=self.seed + len(self.history),
            sampling=self.sampling,
            gamma=self.gamma,
        )
        condition: Condition = "healed" if self.kappa == 0 else "resteered"
        if self.gamma:
            condition = "contrasted"
        return take_turn(self.loaded, self.last, [condition])

    def keep(self, message: str, answer: str) -> None:
        """Enter a message and its answer in the history."""
        self.history.append((message, answer))

    def compare(self) -> tuple[Setting, Generator[tuple[Column, ...], None, None]]:
        """The last message again, answered in all conditions of the present round and dose.

        Where κ is 0, the steered one has the dose that the round settled on. Where there is one
        model only, there is no healed one beside it. A contrast that is on comes last.

        Raises:
            ConfigError: nothing was asked yet, or there is no axis.
            DivergedError: the direction cannot be read from this model.
        """
        if self.last is None:
            raise ConfigError("/compare: say something first")
        kappa = self.kappa or self.loaded.dose(self.round)
        setting = replace(
            self.last, round=self.round, kappa=kappa, gamma=self.gamma, system=self.system
        )
        self.loaded.direction(self.round)  # read it now, before anything is drawn
        conditions = CONDITIONS if self.loaded.rounds else CONDITIONS[:3]
        if self.gamma:
            conditions = (*conditions, "contrasted")
        return setting, take_turn(self.loaded, setting, conditions)

    def command(self, line: str) -> str:
        """Carry out a command that changes or shows the state; returns what to say.

        Raises:
            ConfigError: there is no such command, or its argument is no good.
        """
        name, _, rest = line.partition(" ")
        known: dict[str, Callable[[str], str]] = {
            "/round": self._round,
            "/kappa": self._kappa,
            "/contrast": self._contrast,
            "/system": self._system,
            "/history": self._history,
            "/reset": self._reset,
            "/help": lambda _rest: HELP,
        }
        if name not in known:
            raise ConfigError(f"unknown command {name}: /help lists them")
        return known[name](rest.strip())

    def _round(self, rest: str) -> str:
        try:
            chosen = int(rest)
        except ValueError:
            raise ConfigError(f"/round needs a number from 0 to {self.loaded.rounds}") from None
        self.loaded.check_round(chosen)
        self.round = chosen
        return f"now answers: {self.speaker}"

    def _kappa(self, rest: str) -> str:
        chosen = _number(rest, "/kappa", "1.5")
        check_kappa(chosen)
        if chosen:
            self.loaded.direction(self.round)  # where it must be read, now and not with the answer
            self.gamma = 0.0
        self.kappa = chosen
        return f"now answers: {self.speaker}"

    def _contrast(self, rest: str) -> str:
        chosen = _number(rest, "/contrast", "4")
        check_gamma(chosen)
        if chosen:
            self.loaded.known_axis()
            self.kappa = 0.0
        self.gamma = chosen
        return f"now answers: {self.speaker}"

    def _system(self, rest: str) -> str:
        self.system = rest or None
        return "system prompt set" if rest else "no system prompt"

    def _history(self, _rest: str) -> str:
        if not self.history:
            return "nothing was said yet"
        return "\n".join(f"you: {asked}\nmodel: {said}" for asked, said in self.history)

    def _reset(self, _rest: str) -> str:
        self.history.clear()
        self.last = None
        return "forgotten"


def _number(text: str, name: str, example: str) -> float:
    """The number after a command. Raises ConfigError where there is none."""
    try:
        chosen = float(text.replace("−", "-"))
    except ValueError:
        chosen = math.nan
    if math.isnan(chosen):
        raise ConfigError(f"{name} needs a number, for example {name} {example}")
    return chosen
