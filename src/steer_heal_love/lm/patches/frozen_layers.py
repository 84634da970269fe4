"""Hold the output of the lower layers, so that training does not run them in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from steer_heal_love.errors import HookError
from steer_heal_love.lm.memory import run_in_parts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.hooks import hidden_of, with_hidden
from steer_heal_love.lm.tokens import Ids, batches_by_length, pad_right


class _Reached(Exception):  # noqa: N818  (no error: the layers above need not run)
    """The hidden states after the lower layers, which it carries, have been read."""


class FrozenLayers:
    """The layers under `depth`: they run, or hand out what they once gave.

    Frozen layers give the same hidden states in every epoch. While `states` is set, none of them
    computes and the last of them gives `states`; masks and positions are the decoder's own.
    """

    def __init__(self, lm: LanguageModel, depth: int) -> None:
        self.lm, self.depth = lm, depth
        self.states: Tensor | None = None  # [batch, seq, d] of the batch at hand
        self._reads = False  # whether the layers above are to be left out
        self._around: Any = None  # what a layer returns, with an empty hidden state

    @contextmanager
    def attach(self) -> Iterator[FrozenLayers]:
        """Stand in front of the layers; on exit they are as they were."""
        with ExitStack() as stack:
            for index, layer in enumerate(self.lm.layers[: self.depth]):
                before = layer.__dict__.get("forward")
                stack.callback(_restore, layer, before)
                layer.forward = self._wrap(layer.forward, is_last=index == self.depth - 1)
            yield self

    def _wrap(self, original: Callable[..., Any], *, is_last: bool) -> Callable[..., Any]:
        def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.states is not None:
                return with_hidden(self._around, self.states if is_last else hidden_states)
            output = original(hidden_states, *args, **kwargs)
            self._around = with_hidden(output, hidden_of(output)[:0])
            if is_last and self._reads:
                raise _Reached(hidden_of(output))
            return output

        return forward

    @contextmanager
    def give(self, states: Tensor) -> Iterator[None]:
        """Inside, the lower layers give these states [batch, seq, d] in place of computing."""
        self.states = states
        try:
            yield
        finally:
            self.states = None

    @torch.no_grad()
    def read(self, rows: Sequence[Ids], *, batch_tokens: int = 4096) -> list[Tensor]:
        """Hidden states [seq, d] after the lower layers, of each sequence on its own.

        The layers above are not run.

        Raises:
            HookError: outside of `attached`.
        """
        lower: dict[int, Tensor] = {}

        def part(batch: list[int]) -> list[Tensor]:
            states = self._run([rows[i] for i in batch])
            return [s[: len(rows[i])].clone() for i, s in zip(batch, states, strict=True)]

        for batch in batches_by_length([len(r) for r in rows], batch_tokens, 64):
            for indices, states in run_in_parts(batch, part, "reading the lower layers"):
                lower |= zip(indices, states, strict=True)
        return [lower[i] for i in range(len(rows))]

    def _run(self, rows: Sequence[Ids]) -> Tensor:
        padded = pad_right(rows, self.lm.pad_id, self.lm.device)
        self._reads = True
        try:
            self.lm.decoder(input_ids=padded.ids, use_cache=False)
        except _Reached as reached:
            states: Tensor = reached.args[0]
            return states
        finally:
            self._reads = False
        raise HookError("the lower layers did not run: read them inside `attached`")


def _restore(layer: nn.Module, before: Any) -> None:
    if before is None:
        layer.__dict__.pop("forward", None)  # the method of its class again
    else:
        layer.forward = before
