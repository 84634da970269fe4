"""Floating-point operations by model arithmetic: what the mathematics needs, not what a run did.

A product with a matrix of N weights is 2·N operations a token. Attention is `4 · context · width` a
token and layer (scores, and the weighted sum of values), with width = heads × head size; a causal
pass over n tokens has a mean context of n / 2. Backward costs a frozen matrix once its forward (the
gradient goes through it, it gets none itself), a trained one twice; attention costs twice its
forward. Layers below the lowest adapter need no backward. Not counted: norms, activations, rotary
embedding, softmax, sampling, the optimiser, padding, and anything that is computed twice. A sliding
window is counted as if it did not slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.stages.heal import Example, HealConfig, target_modules


@dataclass(frozen=True)
class Arithmetic:
    """The sizes of a model that its operations follow from."""

    layer_weights: tuple[int, ...]  # weights of the linear modules, layer by layer
    head_weights: int
    attention_width: int

    @classmethod
    def of(cls, lm: LanguageModel) -> Arithmetic:
        """Read the sizes off a model without adapters."""
        config = lm.model.config.get_text_config()
        heads = int(config.num_attention_heads)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        layers = tuple(
            sum(m.weight.numel() for m in layer.modules() if isinstance(m, nn.Linear))
            for layer in lm.layers
        )
        return cls(layers, lm.head.weight.numel(), heads * int(head_dim))

    def forward(self, tokens: float, context: float, *, head: float = 0, lowest: int = 0) -> float:
        """Operations of `tokens` through the layers from `lowest` up, `head` of them to logits."""
        layers = self.layer_weights[lowest:]
        attention = 4 * tokens * context * self.attention_width * len(layers)
        return 2 * tokens * sum(layers) + attention + 2 * head * self.head_weights

    def backward(self, tokens: float, context: float, *, head: float = 0, lowest: int = 0) -> float:
        """Operations of the gradient down to layer `lowest`, all of its matrices frozen."""
        layers = self.layer_weights[lowest:]
        attention = 8 * tokens * context * self.attention_width * len(layers)
        return 2 * tokens * sum(layers) + attention + 2 * head * self.head_weights

    def generation(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
        """Operations of completing the prompts by `new_tokens` each; nothing is shared."""
        total = 0.0
        for prompt in prompts:
            n = len(prompt)
            total += self.forward(n, n / 2)
            total += self.forward(new_tokens - 1, n + new_tokens / 2, head=new_tokens)
        return total


def lowest_adapted(lm: LanguageModel, config: HealConfig) -> int:
    """Index of the lowest layer with an adapter."""
    adapted = {id(lm.model.get_submodule(name)) for name in target_modules(lm, config)}
    return min(i for i, x in enumerate(lm.layers) if any(id(m) in adapted for m in x.modules()))


def lora_weights(lm: LanguageModel, config: HealConfig) -> int:
    """Weights of the adapter: rank · (inputs + outputs) over the adapted modules."""
    shapes = [lm.model.get_submodule(name).weight.shape for name in target_modules(lm, config)]
    return config.rank * sum(sum(shape) for shape in shapes)


def heal_flops(
    lm: LanguageModel, texts: Sequence[Example], config: HealConfig, *, barrier: bool
) -> float:
    """Operations of a whole heal: every epoch forward and backward, the reference's pass once.

    With the barrier the head is applied to the reference's states anew in every step.
    """
    sizes, lowest, lora = Arithmetic.of(lm), lowest_adapted(lm, config), lora_weights(lm, config)
    total = 0.0
    for text in texts:
        n, k = len(text.prompt) + len(text.completion) - 1, len(text.completion)
        step = sizes.forward(n, n / 2, head=k) + 2 * n * lora
        step += sizes.backward(n, n / 2, head=k, lowest=lowest) + 4 * n * lora
        if barrier:
            step += 2 * k * sizes.head_weights
            total += sizes.forward(n, n / 2)
        total += config.epochs * step
    return total


def decode_bytes(lm: LanguageModel, rows: int, context: float, steps: int) -> float:
    """Bytes that a decode loop must read: every weight once a step, and the cache of every row."""
    config = lm.model.config.get_text_config()
    sizes, wide = Arithmetic.of(lm), torch.finfo(lm.dtype).bits / 8
    heads = int(config.num_attention_heads)
    kv_share = (getattr(config, "num_key_value_heads", None) or heads) / heads
    cache = 2 * len(lm.layers) * sizes.attention_width * kv_share * context * rows
    return steps * wide * (sum(sizes.layer_weights) + sizes.head_weights + cache)
