"""The history of healed adapters as stacked, frozen low-rank terms beside an untouched base."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.split import device_of
from steer_heal_love.lm.patches.packed import Packed, applies
from steer_heal_love.records import Adapter

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LowRank:
    """The sum of several rounds' updates of one weight: W + B @ A, the LoRA scale folded into B."""

    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]


def stack(adapters: Sequence[Adapter]) -> dict[str, LowRank]:
    """Concatenate the rounds' factors per module: two products a module for any number of rounds.

    `sum_r s_r B_r A_r = [s_1 B_1 … s_R B_R] [A_1; …; A_R]`, exact up to the sum's rounding.

    Raises:
        ModelError: an adapter is not plain LoRA (rsLoRA is scaled, DoRA and biases are refused),
            or the adapters were made for models of different widths.
    """
    parts: dict[str, list[LowRank]] = {}
    for adapter in adapters:
        for module, term in _terms(adapter).items():
            parts.setdefault(module, []).append(term)
    return {module: _joined(module, terms) for module, terms in parts.items()}


def _joined(module: str, terms: Sequence[LowRank]) -> LowRank:
    shapes = list(dict.fromkeys((t.B.shape[0], t.A.shape[1]) for t in terms))
    if len(shapes) > 1:
        raise ModelError(
            f"the adapters of one history do not fit together: at {module!r} they adapt weights of "
            f"shapes {', '.join(map(str, shapes))}, so they were made for different models"
        )
    return LowRank(torch.cat([t.A for t in terms], 0), torch.cat([t.B for t in terms], 1))


def _terms(adapter: Adapter) -> dict[str, LowRank]:
    config = adapter.config
    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise ModelError("only plain LoRA adapters can be stacked: DoRA and biases cannot")
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ModelError("adapters with a rank or alpha per module cannot be stacked")
    rank = int(config["r"])
    scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    terms = {}
    for key, tensor in adapter.tensors.items():
        if not key.startswith(_PREFIX) or not key.endswith((_A, _B)):
            raise ModelError(f"adapter tensor {key!r} is not a plain LoRA factor")
        module = key.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B)
        if key.endswith(_B):
            if f"{_PREFIX}{module}{_A}" not in adapter.tensors:
                raise ModelError(f"adapter has {key!r} but not its lora_A")
            continue
        b = adapter.tensors.get(f"{_PREFIX}{module}{_B}")
        if b is None:
            raise ModelError(f"adapter has {key!r} but not its lora_B")
        terms[module] = LowRank(tensor.float(), b.float() * scale)
    return terms


def subtract(one: Adapter, other: Adapter) -> Adapter:
    """The adapter of the difference of two updates, exact: one's weights minus the other's.

    `s B₁A₁ − s B₂A₂ = s [B₁ −B₂] [A₁; A₂]`, with the ranks summed and the scale s kept.

    Raises:
        ModelError: they do not adapt the same modules by the same rule and scale, or were made for
            models of different widths.

    Source: task vectors, Ilharco et al. 2023, arXiv:2212.04089, section 2.
    """
    same = ("r", "lora_alpha", "use_rslora", "use_dora", "bias", "rank_pattern", "alpha_pattern")
    differing = [k for k in same if one.config.get(k) != other.config.get(k)]
    if differing or set(one.tensors) != set(other.tensors) or one.config.get("use_rslora"):
        raise ModelError(
            "these adapters cannot be subtracted: they adapt other modules, or by another rule"
        )
    stack([one, other])  # refuses what is no plain LoRA, and models of different widths
    tensors = {
        key: torch.cat([tensor, other.tensors[key]], 0)
        if key.endswith(_A)
        else torch.cat([tensor, -other.tensors[key]], 1)
        for key, tensor in one.tensors.items()
    }
    doubled = {k: 2 * one.config[k] for k in ("r", "lora_alpha")}
    return Adapter(tensors, {**one.config, **doubled})


@dataclass(eq=False)  # taken off the list of patches by identity
class Switch:
    """Turns a set of hooks on and off without removing them.

    `depths` may be set between forward passes: how many of the adapters, from the first, each row
    of the next one has on. A row of depth 0 is the base model to the bit.
    """

    enabled: bool = True
    depths: Int[Tensor, " batch"] | None = None  # None: all rows have all adapters on

    def narrow(
        self, low: Float[Tensor, "*batch_seq rank"], rounds: Int[Tensor, " rank"]
    ) -> Float[Tensor, "*batch_seq rank"]:
        """Zero at the ranks of adapters that a row does not have on.

        Args:
            rounds: the place in the history of the adapter that each rank belongs to.
        """
        if self.depths is None:
            return low
        on = rounds < self.depths.to(low.device)[:, None, None]
        return (low.view(len(self.depths), -1, len(rounds)) * on).view_as(low)


@contextmanager
def student(lm: LanguageModel, adapters: Sequence[Adapter]) -> Iterator[Switch]:
    """The base model with all these adapters on. The base's weights are never written to.

    Inside it `base` gives the bare model back for a while, and `depths` of what it gives lets each
    row of a batch have only a part of the history on.

    Raises:
        ModelError: an adapter was made for another model, or is not plain LoRA.

    Examples:
        >>> from pathlib import Path
        >>> import steer_heal_love as shl
        >>> lm, run = shl.load_model("smollm2"), shl.read_run(Path("runs/demo"))
        >>> adapters = [run.adapter(entry["round"]) for entry in run.metrics["rounds"]]
        >>> with shl.student(lm, adapters):
        ...     [healed] = shl.answer(lm, ["Do you care about me?"])
        >>> healed.kappa
        0.0
    """
    switch = Switch()
    with ExitStack() as handles:
        modules = dict(lm.model.named_modules()) if adapters else {}
        for name, term in stack(adapters).items():
            linear = adapted_module(modules, name, term)
            hook = _low_rank_hook(term, _rounds(adapters, name), switch, lm, device_of(linear))
            handles.callback(linear.register_forward_hook(hook).remove)
        lm.patches.append(switch)
        handles.callback(lm.patches.remove, switch)
        yield switch


def _rounds(adapters: Sequence[Adapter], module: str) -> list[int]:
    """For each rank of a module's stacked adapters the place in the history that it comes from."""
    ranks = (a.tensors.get(f"{_PREFIX}{module}{_A}", torch.empty(0)).shape[0] for a in adapters)
    return [place for place, rank in enumerate(ranks) for _ in range(rank)]


def adapted_module(modules: Mapping[str, nn.Module], name: str, *terms: LowRank) -> nn.Module:
    """The module that these updates belong to, by its name among the model's.

    Raises:
        ModelError: there is none, or its weight is of another shape than an update.
    """
    module = modules.get(name)
    if module is None:
        raise ModelError(
            f"the adapter adapts {name!r}, which this model does not have: it was made for another "
            "model"
        )
    expected = _shape(module)
    for term in terms:
        shape = (term.B.shape[0], term.A.shape[1])
        if shape != expected:
            raise ModelError(
                f"an adapter of shape {shape} does not fit a weight of shape {expected}: it was "
                "made for another model"
            )
    return module


def _low_rank_hook(
    term: LowRank, rounds: list[int], switch: Switch, lm: LanguageModel, device: torch.device
) -> Any:
    a = term.A.to(device, lm.dtype).t().contiguous()
    b = term.B.to(device, lm.dtype).t().contiguous()
    packs = [Packed.of(t.t()) for t in (a, b)] if applies(lm) else []
    owners = torch.tensor(rounds, device=device)

    def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not switch.enabled:
            return None
        if packs and not torch.is_grad_enabled():
            low, high = packs
            return high.added_to(output, switch.narrow(low(args[0]), owners))
        x = args[0].reshape(-1, a.shape[0])
        flat = output.reshape(-1, b.shape[1])
        return torch.addmm(flat, switch.narrow(x @ a, owners), b).view(output.shape)

    return hook


def _shape(linear: nn.Module) -> tuple[int, ...]:
    """(out, in) of a linear module; in 4 bits its weight is stored in another shape."""
    if isinstance(linear, nn.Linear):
        return linear.out_features, linear.in_features
    return tuple(getattr(linear, "weight", torch.empty(0, 0)).shape)


@contextmanager
def base(lm: LanguageModel) -> Iterator[None]:
    """The untouched base model: every adapter and steering patch is off inside.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm, axis = shl.load_model("smollm2"), shl.load_axis("love")
        >>> with shl.steering(lm, shl.extract_direction(lm, axis), 2.0, must_fire=False):
        ...     with shl.base(lm):
        ...         [plain] = shl.answer(lm, ["Do you care about me?"])
        >>> plain.kappa
        0.0
    """
    before = [(patch, patch.enabled) for patch in lm.patches]
    try:
        for patch, _ in before:
            patch.enabled = False
        yield
    finally:
        for patch, enabled in before:
            patch.enabled = enabled
