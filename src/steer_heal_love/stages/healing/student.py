"""The model while it is healed: a fresh adapter attached, and AdamW's state between epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import peft
import torch
from torch import Tensor, nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.architecture import weight_matrices
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.attention import use_quick_attention
from steer_heal_love.lm.patches.frozen_layers import FrozenLayers
from steer_heal_love.records import Adapter
from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.healing.texts import (
    Batch,
    Example,
    Text,
    Texts,
    reference_states,
    sequences,
)


@dataclass
class Student:
    """A model with a fresh adapter attached, whose tensors alone are trained."""

    lm: LanguageModel
    config: HealConfig
    seed: int  # of the fresh adapter, and of the order of the texts
    model: Any  # PEFT's model around `lm.model`
    frozen_layers: FrozenLayers
    parameters: dict[str, nn.Parameter]  # the trained tensors by PEFT's names
    optimizer: torch.optim.AdamW
    micro: int  # sequences whose graph is in memory at a time

    def hidden(self, batch: Batch) -> Tensor:
        """Final hidden states [tokens, d] where the batch's targets are predicted."""
        # Padding is on the right, where causal attention never looks from a real token: without a
        # padding mask the fused causal kernel runs.
        lower = nullcontext() if batch.lower is None else self.frozen_layers.give(batch.lower)
        with lower:
            states = self.lm.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        hidden: Tensor = states[batch.rows, batch.columns]
        return hidden

    def state(self, step: int) -> dict[str, Any]:
        """What training goes on from after so many steps: weights and AdamW's moments."""

        def copies(of: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
            return {n: of(p).detach().cpu().clone() for n, p in self.parameters.items()}

        moments = self.optimizer.state  # empty before the first step
        return {
            "weights": copies(lambda p: p),
            "exp_avg": copies(lambda p: moments[p].get("exp_avg", torch.zeros_like(p))),
            "exp_avg_sq": copies(lambda p: moments[p].get("exp_avg_sq", torch.zeros_like(p))),
            "step": step,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Set weights and moments to what they were."""
        for name, p in self.parameters.items():
            p.copy_(state["weights"][name])
            self.optimizer.state[p] = {
                "step": torch.tensor(float(state["step"])),
                "exp_avg": state["exp_avg"][name].to(p.device, copy=True),
                "exp_avg_sq": state["exp_avg_sq"][name].to(p.device, copy=True),
            }

    def adapter(self) -> Adapter:
        """The trained tensors in PEFT's file format."""
        tensors = peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        saved = self.model.peft_config["default"].to_dict()
        saved["inference_mode"] = True
        saved["base_model_name_or_path"] = self.lm.identity.source
        saved["target_modules"] = sorted(saved["target_modules"])
        plain = (type(None), str, int, float, bool, list, dict)
        return Adapter(
            {name: t.detach().cpu().contiguous().clone() for name, t in sorted(tensors.items())},
            {name: value for name, value in saved.items() if isinstance(value, plain)},
        )


@contextmanager
def attach_student(
    lm: LanguageModel,
    config: HealConfig,
    seed: int,
    train: Sequence[Example],
    held_out: Sequence[Example] = (),
    anchors: Sequence[Example] = (),
) -> Iterator[tuple[Student, Texts]]:
    """The student with a fresh adapter (B = 0), and its texts; on exit the model is as it was.

    What is frozen runs once over all texts here: the reference model, and the layers under the
    lowest that is adapted.

    Raises:
        ModelError: no module of the model matches the targets.
    """
    frozen_layers = FrozenLayers(lm, lowest_layer(lm, target_modules(lm, config)))
    learnt = [*train, *held_out]
    references: list[Tensor | None] = [None] * len(learnt)
    if config.divergence != "none" and config.lam > 0:
        references = [*reference_states(lm, learnt, config.reference)]
    if anchors:
        references += reference_states(lm, anchors, "base")
    rows = sequences([*learnt, *anchors])
    with frozen_layers.attach():
        lower = frozen_layers.read(rows) if frozen_layers.depth else [None] * len(rows)
        texts = [Text(*t) for t in zip([*learnt, *anchors], references, lower, strict=True)]
        first, second = len(train), len(learnt)
        with (
            use_quick_attention(lm, max(map(len, rows))),
            attach_adapter(lm, config, seed, frozen_layers) as student,
        ):
            yield student, Texts(texts[:first], texts[first:second], texts[second:])


@contextmanager
def attach_adapter(
    lm: LanguageModel, config: HealConfig, seed: int, frozen_layers: FrozenLayers | None = None
) -> Iterator[Student]:
    """The student with a fresh adapter (B = 0); on exit the model is as it was.

    Raises:
        ModelError: no module of the model matches the targets.
    """
    modules = target_modules(lm, config)
    frozen_layers = frozen_layers or FrozenLayers(lm, lowest_layer(lm, modules))
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=modules,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = peft.get_peft_model(lm.model, settings)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=config.weight_decay)
    try:
        yield Student(
            lm, config, seed, model, frozen_layers, parameters, optimizer, config.batch_size
        )
    finally:
        model.unload()
        if hasattr(lm.model, "peft_config"):
            del lm.model.peft_config
        lm.model.eval()


def target_modules(lm: LanguageModel, config: HealConfig) -> list[str]:
    """Full names of the matrices of attention, MLP and experts that get an adapter.

    Raises:
        ModelError: no module of the model matches the targets.
    """
    low = math.floor(len(lm.layers) * config.layer_low)
    high = max(low + 1, math.floor(len(lm.layers) * config.layer_high))
    chosen = {id(m) for layer in lm.layers[low:high] for _, m in weight_matrices(layer)}
    names = [
        name
        for name, module in lm.model.named_modules()
        if id(module) in chosen
        and (not config.targets or name.rsplit(".", 1)[-1] in config.targets)
    ]
    if not names:
        wanted = ", ".join(config.targets) or "any matrix of attention or MLP"
        raise ModelError(f"no module named {wanted} in layers {low} to {high - 1} to adapt")
    return names


def lowest_layer(lm: LanguageModel, modules: Sequence[str]) -> int:
    """Index of the lowest decoder layer that holds one of the named modules."""
    wanted = {id(lm.model.get_submodule(name)) for name in modules}
    return next(
        i for i, layer in enumerate(lm.layers) if any(id(m) in wanted for m in layer.modules())
    )
