"""Direction: whether the loop still steers as it began, and what of it the model made its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import read_hidden
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.maths.direction import cosine
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Context, Direction, Interval, Measurement

RESAMPLES = 2000


def direction_cosines(direction: Direction, first: Direction) -> dict[int, float]:
    """cos(v_r, v_0) of each layer that both directions have.

    Raises:
        ValueError: they share no layer.
        DivergedError: a vector has norm zero or is not finite.
    """
    layers = [layer for layer in direction.layers if layer in first.layers]
    if not layers:
        raise ValueError(f"no common layer in {direction.layers} and {first.layers}")
    values = cosine(_of_layers(direction, layers), _of_layers(first, layers))
    return dict(zip(layers, values.tolist(), strict=True))


def _of_layers(direction: Direction, layers: Sequence[int]) -> Tensor:
    return torch.stack([direction.vectors[direction.layers.index(layer)] for layer in layers])


def measure_direction(
    lm: LanguageModel, contexts: Sequence[Context], direction: Direction, first: Direction
) -> Measurement:
    """Cosines of this round's direction, and of the internalised shift, with the first direction.

    The internalised shift `s_l = mean over contexts of h_l(student) − h_l(base)`, neutral prompt
    (no system prompt), at the assistant tag. Figures, each the mean over the band, and per layer
    as NAME_layer_L:

    - `direction_cosine`: cos(v_r, v_0), a point without sampling error.
    - `shift_cosine`: cos(s, v_0), interval by resampling contexts. Absent where s is zero, as it
      is for the base model.
    - `shift_kappa`: s · v_0 / |v_0|², the dose that the model now gives itself. Its values per
      context are the items.

    Runs on the model as it is patched now, so inside `adapters.student`, without steering.

    Raises:
        ValueError: fewer than two contexts, or no common layer.
        DivergedError: a direction has norm zero, or a hidden state is not finite.
    """
    if len(contexts) < 2:
        raise ValueError("an interval over contexts needs at least two of them")
    figures: dict[str, Interval] = {}
    cosines = direction_cosines(direction, first)
    _put(figures, "direction_cosine", {k: _point(v) for k, v in cosines.items()})
    figures["direction_cosine"] = _point(float(np.mean(list(cosines.values()))))
    shifts = internalised_shifts(lm, contexts, first.layers)
    kappas = _kappas(shifts, first.vectors)
    per_layer = zip(first.layers, kappas.T.tolist(), strict=True)
    _put(figures, "shift_kappa", {k: bootstrap_mean(v, resamples=RESAMPLES) for k, v in per_layer})
    items = kappas.mean(1).tolist()
    figures["shift_kappa"] = bootstrap_mean(items, resamples=RESAMPLES)
    if bool((shifts.mean(0).norm(dim=-1) > 0).all()):
        drawn = _drawn_cosines(shifts, first.vectors)
        by_layer = {k: _interval(drawn[:, i]) for i, k in enumerate(first.layers)}
        _put(figures, "shift_cosine", by_layer)
        figures["shift_cosine"] = _interval(drawn.mean(1))
    return Measurement(figures, {"shift_kappa": tuple(items)})


def internalised_shifts(
    lm: LanguageModel, contexts: Sequence[Context], layers: Sequence[int]
) -> Float[Tensor, "contexts band d"]:
    """h(student) − h(base) of each context at the assistant tag, neutral prompt, float32."""
    prompts = [encode_chat(lm, c.text) for c in contexts]
    student = read_hidden(lm, prompts, list(layers))
    with base(lm):
        return student - read_hidden(lm, prompts, list(layers))


def _kappas(
    shifts: Float[Tensor, "contexts band d"], first: Float[Tensor, "band d"]
) -> Float[Tensor, "contexts band"]:
    """s · v_0 / |v_0|² per context and layer."""
    return (shifts * first).sum(-1) / first.square().sum(-1)


def _drawn_cosines(
    shifts: Float[Tensor, "contexts band d"], first: Float[Tensor, "band d"]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """cos(mean shift, v_0) per layer: of all contexts in row 0, then of each resample of them.

    By the Gram matrix of the shifts, so that no resample is laid out in memory.
    """
    n = len(shifts)
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.ones((1, n)), rng.multinomial(n, [1 / n] * n, RESAMPLES)])
    columns = []
    for k, vector in enumerate(first.double()):
        own = shifts[:, k].double()
        along = weights @ (own @ vector / vector.norm()).numpy()
        squares = np.einsum("rn,nm,rm->r", weights, (own @ own.T).numpy(), weights, optimize=True)
        columns.append(along / np.sqrt(np.maximum(squares, np.finfo(float).tiny)))
    cosines: np.ndarray[Any, np.dtype[np.float64]] = np.stack(columns, axis=1).clip(-1.0, 1.0)
    return cosines


def _interval(drawn: np.ndarray[Any, np.dtype[np.float64]]) -> Interval:
    """The value in place 0 with the percentile interval of the resamples after it."""
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    value = float(drawn[0])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _point(value: float) -> Interval:
    return Interval(value, value, value)


def _put(figures: dict[str, Interval], name: str, by_layer: dict[int, Interval]) -> None:
    figures.update({f"{name}_layer_{layer}": value for layer, value in by_layer.items()})
