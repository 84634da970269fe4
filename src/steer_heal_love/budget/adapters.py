"""How many numbers an adapter has."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.stages.heal import HealConfig, target_modules


def adapter_numbers(lm: LanguageModel, config: HealConfig) -> int:
    """Numbers of one round's LoRA: rank · (inputs + outputs) of each adapted module."""
    return config.rank * sum(i + o for i, o in adapted_shapes(lm, config))


def adapted_shapes(lm: LanguageModel, config: HealConfig) -> Sequence[tuple[int, int]]:
    """(inputs, outputs) of each adapted module.

    Raises:
        ModelError: no module of the model matches the targets.
    """
    modules = dict(lm.model.named_modules())
    chosen = [modules[name] for name in target_modules(lm, config)]
    return [(m.in_features, m.out_features) for m in chosen]
