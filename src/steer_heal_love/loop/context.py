"""The loop's pieces of work: each has a name, and a finished one is read back, not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from steer_heal_love.budget.rows import choose_rows
from steer_heal_love.errors import DivergedError, OutOfMemory, StarvedRound
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.loop.cost import Account
from steer_heal_love.piece_names import PieceName, of_round
from steer_heal_love.records import (
    Axis,
    Context,
    Direction,
    Pieces,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages import steer
from steer_heal_love.stages.instruments.entropy import Reference
from steer_heal_love.stages.instruments.foundations import Foundations

T = TypeVar("T")


class _NotStoredError(Exception):
    """A piece would have to be computed."""


Report = Callable[[str, float, float], None]  # (stage, done, of how many)


class RunContext:
    """What every stage of the loop needs."""

    def __init__(
        self,
        lm: LanguageModel,
        axis: Axis,
        contexts: Sequence[Context],
        config: RunConfig,
        pieces: Pieces,
        report: Report,
    ) -> None:
        self.prompts = training_prompts(axis, contexts, config.dose.min_prompts)
        self.config = config = choose_rows(lm, axis, self.prompts, config)
        self.lm = replace(lm, rows=config.generate.rows)
        self.axis, self.contexts = axis, contexts
        self.account, self.report = Account(lm, pieces), report
        self.notes: list[str] = []  # on the round so far
        g = config.generate
        self.sampling = Sampling(g.max_new_tokens, g.temperature, g.top_k, g.top_p)
        length = config.evaluate.max_new_tokens
        self.evaluation_sampling = replace(self.sampling, max_new_tokens=length)
        self.foundations = Foundations(config.evaluate)
        self.reference: Reference | None = None  # made where it is first asked for

    def do(self, name: PieceName, compute: Callable[[], T]) -> T:
        """A piece of work, computed once; what it took counts to its stage also when it is read."""

        def compute_here() -> T:
            with place_errors(name):
                return compute()

        value = self.account.do(name, name.stage, compute_here)
        self.report(name.stage, 1, 1)
        return value

    def is_stored(self, name: PieceName) -> bool:
        """Whether the piece is there already: nothing is computed, and nothing counts."""

        def refuse() -> object:
            raise _NotStoredError

        try:
            self.account.pieces.do(name, refuse)
        except _NotStoredError:
            return False
        return True

    def begin_round(self) -> None:
        """Nothing has been spent on the round, and nothing is to be noted of it."""
        self.account.stages, self.notes = {}, []


@contextmanager
def place_errors(name: PieceName) -> Iterator[None]:
    """Errors of a piece say which round it is of."""
    try:
        yield
    except (DivergedError, StarvedRound, OutOfMemory) as error:
        place = name.partition("/")[0] if name.round is None else f"round {name.round}"
        raise type(error)(f"{place}: {error}") from error


def extract(run: RunContext, r: int) -> Direction:
    """Stage 1: the direction of the student as it is now."""
    return run.do(
        of_round(r) / "direction",
        lambda: steer.extract_direction(run.lm, run.axis, run.contexts, run.config.steer),
    )


def seed_of(run: RunContext, purpose: str, r: int = 0) -> int:
    """A seed of its own for each purpose and round, from the run's seed."""
    return _hashed(f"{run.config.seed}/{purpose}/{r}")


def fixed_seed(run: RunContext, purpose: str) -> int:
    """A seed for each purpose, axis and model, whatever the run's seed: so that runs are paired."""
    return _hashed(f"{run.axis.name}/{run.lm.identity.revision}/{purpose}")


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
