"""A student of its own for each row of a batch: how much of the history of adapters it has on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.split import device_of
from steer_heal_love.lm.patches.adapters import LowRank, adapted_module, stack
from steer_heal_love.records import Adapter


@dataclass(eq=False)  # taken off the list of patches by identity
class StudentRows:
    """How many adapters of the history, from the first, each row of the batch has on.

    `depths` may be changed between forward passes, as the batch grows smaller.
    """

    depths: Int[Tensor, " batch"]
    enabled: bool = True
    _masks: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows."""
        self.depths = self.depths[rows]
        self._masks.clear()

    def mask(self, rounds: tuple[int, ...], dtype: torch.dtype) -> Float[Tensor, "batch 1 rank"]:
        """1 where a row has the adapter on that a rank belongs to, else 0.

        Args:
            rounds: the place in the history that each rank of the stacked adapters comes from.
        """
        if rounds not in self._masks:
            owners = torch.tensor(rounds, device=self.depths.device)
            on = owners[None, :] < self.depths[:, None]
            self._masks[rounds] = on.to(dtype)[:, None, :]
        return self._masks[rounds]


@contextmanager
def student_rows(
    lm: LanguageModel, adapters: Sequence[Adapter], depths: Sequence[int]
) -> Iterator[StudentRows]:
    """Row i of each forward pass is the student with the first `depths[i]` adapters on.

    A row of depth 0 is the base model to the bit. Inside it `base` turns all rows off.

    Raises:
        ModelError: an adapter was made for another model, or is not plain LoRA.
    """
    state = StudentRows(torch.tensor(list(depths), device=lm.device))
    needed = list(adapters[: max(depths, default=0)])
    with ExitStack() as handles:
        modules = dict(lm.model.named_modules()) if needed else {}
        for name, terms in _by_module(needed).items():
            linear = adapted_module(modules, name, *(term for _, term in terms))
            handles.callback(
                linear.register_forward_hook(_row_hook(linear, lm.dtype, terms, state)).remove
            )
        lm.patches.append(state)
        handles.callback(lm.patches.remove, state)
        yield state


def _by_module(adapters: Sequence[Adapter]) -> dict[str, list[tuple[int, LowRank]]]:
    """Per module the adapters' factors, each with the adapter's place in the history."""
    found: dict[str, list[tuple[int, LowRank]]] = {}
    for index, adapter in enumerate(adapters):
        for module, term in stack([adapter]).items():
            found.setdefault(module, []).append((index, term))
    return found


def _row_hook(
    linear: nn.Module,
    dtype: torch.dtype,
    terms: Sequence[tuple[int, LowRank]],
    state: StudentRows,
) -> Any:
    device = device_of(linear)
    a = torch.cat([term.A for _, term in terms], 0).to(device, dtype).t().contiguous()
    b = torch.cat([term.B for _, term in terms], 1).to(device, dtype).t().contiguous()
    rounds = tuple(index for index, term in terms for _ in range(term.A.shape[0]))

    def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not state.enabled:
            return None
        low = (args[0] @ a) * state.mask(rounds, dtype).to(device)
        return output + low @ b

    return hook
