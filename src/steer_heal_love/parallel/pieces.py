"""The pieces of a run that several processes carry out: one store, the same values in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from steer_heal_love.parallel.joined import Joined
from steer_heal_love.records import Pieces

T = TypeVar("T")


@dataclass(frozen=True)
class Led:
    """The first process's: reads and writes the store, and tells the others what came of it."""

    team: Joined
    pieces: Pieces

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The stored piece; else all compute it, and this process stores it."""
        computed = False

        def together() -> T:
            nonlocal computed
            computed = True
            self.team.tell((name, True))
            return compute()

        value = self.pieces.do(name, together)
        if not computed:
            self.team.tell((name, False))
        self.team.tell(value)
        return value

    def forget(self, prefix: str) -> None:
        """Delete the stored pieces."""
        self.pieces.forget(prefix)


@dataclass(frozen=True)
class Followed:
    """The other processes': nothing is stored; values come from the first."""

    team: Joined

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """Take part in computing the piece where it is not stored; the value is the first's."""
        asked, missing = self.team.hear()
        if asked != name:
            raise RuntimeError(f"processes are out of step: {asked!r} is asked for, not {name!r}")
        if missing:
            compute()
        return cast("T", self.team.hear())

    def forget(self, prefix: str) -> None:
        """Nothing is stored here."""
