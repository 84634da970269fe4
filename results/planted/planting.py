"""Loops planted in texts: a text's own last words, said again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Kind:
    """Where a loop is planted, in tokens: after `at` tokens their last `period` are repeated."""

    where: str
    at: int
    period: int
    loop: int  # tokens that are planted; the last repeat may be cut short
    rest: int = 0  # tokens of the text that go on after the loop

    @property
    def needs(self) -> int:
        """Tokens that a text must have."""
        return self.at + self.rest

    @property
    def repeats(self) -> int:
        """Whole repeats of what is repeated."""
        return self.loop // self.period

    def repeat(self, k: int) -> slice:
        """The tokens of the k-th repeat, from 1; 0 is what is repeated."""
        start = self.at + (k - 1) * self.period
        return slice(start, min(start + self.period, self.at + self.loop))


# Four tokens said five times within sixty; eight tokens said seven times, to the length limit.
INSIDE = Kind("inside", at=24, period=4, loop=16, rest=20)
TO_THE_END = Kind("to the end", at=48, period=8, loop=48)
KINDS = (INSIDE, TO_THE_END)


def plant(token_ids: Sequence[int], kind: Kind) -> tuple[int, ...]:
    """The text with the loop in it, cut off where the kind says.

    Raises ValueError where the text is too short for it.
    """
    if len(token_ids) < kind.needs or kind.period > kind.at:
        raise ValueError(f"{len(token_ids)} tokens are too few: the loop needs {kind.needs}")
    before, after = token_ids[: kind.at], token_ids[kind.at : kind.at + kind.rest]
    copies = list(before[-kind.period :]) * (kind.loop // kind.period + 1)
    return (*before, *copies[: kind.loop], *after)


def choose_places(
    lengths: Sequence[int], share: float, kinds: Sequence[Kind], seed: int
) -> dict[int, Kind]:
    """Which texts get a loop, and of which kind: `share` of all, the kinds in turn, by the seed.

    Raises ValueError where too few of the texts are long enough.
    """
    wanted = round(share * len(lengths))
    fit = [i for i, n in enumerate(lengths) if n >= max(kind.needs for kind in kinds)]
    if len(fit) < wanted:
        raise ValueError(f"{wanted} texts are to be planted in, and {len(fit)} are long enough")
    drawn = np.random.default_rng(seed).permutation(fit)[:wanted].tolist()
    return {i: kinds[k % len(kinds)] for k, i in enumerate(drawn)}
