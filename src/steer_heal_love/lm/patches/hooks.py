"""Read hidden states and steer them: every forward hook on decoder layers lives here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steer_heal_love.errors import HookError
from steer_heal_love.lm.memory import run_in_parts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.split import device_of
from steer_heal_love.lm.model.team import run_in_shards
from steer_heal_love.lm.patches.packed import pack_weights
from steer_heal_love.lm.tokens import Ids, batches_by_length, pad_left
from steer_heal_love.maths.direction import Gate, Operator, intervene
from steer_heal_love.records import Direction

BATCH_TOKENS, ROWS = 8192, 64  # of a batch that hidden states are read in, at most


@dataclass(eq=False)  # taken off the list of patches by identity
class Steering:
    """A steering patch that is on. `kappa` may be changed between forward passes.

    `kappa` is a number, or a tensor [batch, 1, 1] or [batch, seq, 1] for a dose per row or token.
    """

    kappa: float | Tensor
    enabled: bool = True
    fired: set[int] = field(default_factory=set)


def hidden_of(output: Any) -> Tensor:
    """The hidden state [batch, seq, d] in a decoder layer's output, be it a tensor or a tuple."""
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        raise HookError(
            f"a decoder layer returned {type(output).__name__}, not a hidden state "
            "[batch, seq, d]: this architecture is not supported yet"
        )
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """The same output with another hidden state."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@contextmanager
def steering(
    lm: LanguageModel,
    direction: Direction,
    kappa: float | Tensor,
    *,
    gate: Gate = "none",
    operator: Operator = "add",
    must_fire: bool = True,
) -> Iterator[Steering]:
    """Add κ·v to the hidden state after each layer of the direction's band, at every position.

    Removed again on exit, also when the body raises.

    Args:
        gate: scale κ at each position by the cosine of its hidden state with v: see `cosine_gate`.
        operator: `rotate` turns each hidden state towards v and leaves its norm as it was.
        must_fire: raise where no forward pass reached a layer of the band. Off only where the
            body may rightly have nothing to compute (its result was stored before).

    Raises:
        HookError: the body ended and a layer of the band never fired, or an unknown layer output.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm, axis = shl.load_model("smollm2"), shl.load_axis("love")
        >>> direction = shl.extract_direction(lm, axis)
        >>> with shl.steering(lm, direction, 1.0):
        ...     [steered] = shl.answer(lm, ["Do you care about me?"])
        >>> steered.kappa
        1.0
    """
    state = Steering(kappa)
    handles = []

    def make_hook(layer: int, raw: Tensor) -> Any:
        vector = raw.to(device_of(lm.layers[layer]), torch.float32)

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            if not state.enabled:
                return None
            state.fired.add(layer)
            dose = state.kappa
            if isinstance(dose, Tensor):
                dose = dose.to(vector.device)
            return with_hidden(output, intervene(hidden_of(output), vector, dose, gate, operator))

        return hook

    try:
        for layer, vector in zip(direction.layers, direction.vectors, strict=True):
            handles.append(lm.layers[layer].register_forward_hook(make_hook(layer, vector)))
        lm.patches.append(state)
        yield state
    finally:
        for handle in handles:
            handle.remove()
        if state in lm.patches:
            lm.patches.remove(state)
    if lm.team.processes > 1 and not state.fired:
        return  # there were fewer texts than processes
    missing = sorted(set(direction.layers) - state.fired)
    if missing and (must_fire or state.fired):
        raise HookError(
            f"steering never fired at layers {missing}: no forward pass ran inside the context, "
            "or the model bypasses its layer modules"
        )


@torch.inference_mode()
def read_hidden(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    layers: Sequence[int],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> Float[Tensor, "prompts band d"]:
    """Hidden state after each of `layers` at the last token of each prompt, float32, on the CPU."""

    def read(rows: list[int]) -> list[Tensor]:
        return _read_rows(lm, [prompts[i] for i in rows], layers, batch_tokens)

    lm.token_counter.add(sum(map(len, prompts)))
    return torch.stack(run_in_shards(lm, len(prompts), read))


def _read_rows(
    lm: LanguageModel, prompts: list[Ids], layers: Sequence[int], batch_tokens: int
) -> list[Tensor]:
    rows: dict[int, Tensor] = {}

    def read(batch: list[int]) -> Tensor:
        return _read_batch(lm, [prompts[i] for i in batch], layers)

    for batch in batches_by_length([len(p) for p in prompts], batch_tokens, ROWS):
        for part, states in run_in_parts(batch, read, "reading hidden states"):
            rows |= zip(part, states, strict=True)
    return [rows[i] for i in range(len(prompts))]


def _read_batch(lm: LanguageModel, prompts: list[Ids], layers: Sequence[int]) -> Tensor:
    states: dict[int, Tensor] = {}
    handles: list[Any] = []

    def make_hook(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            states[layer] = hidden_of(output)[:, -1].float().cpu()

        return hook

    padded = pad_left(prompts, lm.pad_id, lm.device)
    try:
        handles += [lm.layers[i].register_forward_hook(make_hook(i)) for i in layers]
        with pack_weights(lm):
            lm.decoder(
                input_ids=padded.ids,
                attention_mask=padded.mask,
                position_ids=padded.positions,
                use_cache=False,
            )
    finally:
        for handle in handles:
            handle.remove()
    missing = [layer for layer in layers if layer not in states]
    if missing:
        raise HookError(f"no hidden state was read at layers {missing}: the hooks never fired")
    return torch.stack([states[layer] for layer in layers], dim=1)
