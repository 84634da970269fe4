"""What a run's pieces of work take: seconds, tokens and memory, stored beside their values."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from steer_heal_love.lm.memory import give_back, peak_bytes, reset_peak
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.records import Cost, Costed, Pieces

T = TypeVar("T")


class Account:
    """Carries pieces of work out and adds up what each stage takes.

    A piece that was stored brings what it took when it was computed, so that a run that was
    resumed adds up to the same tokens as one that was not.
    """

    def __init__(self, lm: LanguageModel, pieces: Pieces) -> None:
        self.lm, self.pieces = lm, pieces
        self.stages: dict[str, Cost] = {}
        self._read = Cost()  # of inner pieces that were read back while the outer one is computed

    def do(self, name: str, stage: str, compute: Callable[[], T]) -> T:
        """The piece of this name, computed once; what it took counts to its stage."""

        def measured() -> Costed:
            give_back()
            reset_peak(*self.lm.devices)
            self._read = Cost()
            costed = self._measured(compute)
            return replace(costed, cost=self._of_team(costed.cost + self._read))

        piece = self.pieces.do(name, measured)
        self.stages[stage] = self.stages.get(stage, Cost()) + piece.cost
        return cast("T", piece.value)

    def inside(self, folder: str) -> Pieces:
        """The store of the parts, in this folder, of a piece that is being computed."""
        return _Inner(self, folder)

    def do_part(self, name: str, compute: Callable[[], T]) -> T:
        """A part of the piece that is being computed, which is stored for itself."""
        computed = False

        def measured() -> Costed:
            nonlocal computed
            computed = True
            return self._measured(compute)

        part = self.pieces.do(name, measured)
        if not computed:  # else it is in the outer one's account
            self._read += part.cost
        return cast("T", part.value)

    def _measured(self, compute: Callable[[], T]) -> Costed:
        counter = self.lm.token_counter
        before, started = counter.tokens, time.perf_counter()
        value = compute()
        seconds = time.perf_counter() - started
        return Costed(value, Cost(seconds, counter.tokens - before, peak_bytes(*self.lm.devices)))

    def _of_team(self, cost: Cost) -> Cost:
        """Memory is that of the process that took most; the rest is the same in each."""
        peaks = self.lm.team.gather(cost.peak_bytes)
        known = [peak for peak in peaks if peak is not None]
        return replace(cost, peak_bytes=max(known) if len(known) == len(peaks) else None)


@dataclass(frozen=True)
class _Inner:
    account: Account
    folder: str

    def do(self, name: str, compute: Callable[[], T]) -> T:
        return self.account.do_part(f"{self.folder}/{name}", compute)

    def forget(self, prefix: str) -> None:
        self.account.pieces.forget(f"{self.folder}/{prefix}")
