"""The merged model: each adapted weight summed once in float32, then rounded once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import LowRank, adapted_module


@torch.no_grad()
def merge_in_place(lm: LanguageModel, terms: Mapping[str, LowRank], dtype: torch.dtype) -> None:
    """Add the updates to the weights of a float32 model and round all of it to `dtype`.

    One sum and one rounding for any number of rounds: a merge per round in bfloat16 would lose
    about half of the updates over eight rounds.

    Raises:
        ModelError: the model is not float32, an update does not fit it, or a weight is beyond the
            range of `dtype`.
    """
    if lm.dtype != torch.float32:
        raise ModelError(f"a model is merged in float32, not in {lm.dtype}")
    modules = dict(lm.model.named_modules())
    for name, term in terms.items():
        weight: Any = adapted_module(modules, name, term).weight
        weight.add_(term.B.to(weight.device) @ term.A.to(weight.device))
    round_weights(lm, dtype)


@torch.no_grad()
def round_weights(lm: LanguageModel, dtype: torch.dtype) -> None:
    """Round the model to a dtype. Raises ModelError where a weight is beyond its range."""
    largest = torch.finfo(dtype).max
    for name, parameter in lm.model.named_parameters():
        if bool((parameter.abs() > largest).any()):
            raise ModelError(
                f"weight {name!r} is beyond what {str(dtype).removeprefix('torch.')} can hold: "
                "choose --dtype bfloat16 or float32"
            )
    lm.model.to(dtype)
