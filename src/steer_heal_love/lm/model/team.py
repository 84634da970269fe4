"""The processes that carry a run out together: each computes its shards, all get everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from steer_heal_love import errors

if TYPE_CHECKING:
    from steer_heal_love.lm.model.load import LanguageModel

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """One process alone, and what others that join it override.

    Work is split into `shards`, and the shards are dealt out to the processes. What is computed
    depends on the number of shards (batches are of one shard), not on that of the processes: to the
    bit for rows; for a sum over more than two shards, to the rounding of its order.
    """

    shards: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def own(self) -> range:
        """The shards that this process computes."""
        return range(self.rank, self.shards, self.processes)

    def tell(self, value: Any) -> None:
        """Give a value of the first process to all others."""

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank: plain data, records and tensors, nested."""
        return [value]

    def add(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over the processes, the same to the bit in each."""


def run_in_shards(
    lm: LanguageModel, count: int, compute: Callable[[list[int]], list[T]]
) -> list[T]:
    """What `compute` makes of the rows 0 … count − 1, which do not depend on one another.

    Shard s holds the rows s, s + shards, … Where one process fails, all raise its error.

    Args:
        compute: from indices of rows to a value for each, of the kinds that `Team.gather` takes.

    Raises:
        SteerHealLoveError: what `compute` raised, in whichever process.
        LostProcess: another process has ended.
    """
    team = lm.team
    if team.shards == 1 and team.processes == 1:
        return compute(list(range(count)))
    mine: dict[int, list[T]] = {}
    problem: tuple[str, str] | None = None
    try:
        for shard in team.own:
            rows = range(shard, count, team.shards)
            mine[shard] = compute(list(rows)) if rows else []
    except errors.SteerHealLoveError as error:
        problem = (type(error).__name__, str(error))
    parts: dict[int, list[T]] = {}
    for theirs, trouble in team.gather((mine, problem)):
        raise_again(trouble)
        parts |= theirs
    return [parts[row % team.shards][row // team.shards] for row in range(count)]


def raise_again(problem: tuple[str, str] | None) -> None:
    """Raise the error that another process told of by the name of its kind; nothing for None."""
    if problem is None:
        return
    error: Any = getattr(errors, problem[0], errors.SteerHealLoveError)
    raise error(problem[1])
