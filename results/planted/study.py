"""The model, the texts' sizes and the settings that everything is measured under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from results.planted.planting import Kind
from results.store import Store
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.loop.context import Work
from steer_heal_love.maths.divergence import Aggregate
from steer_heal_love.records import Axis, Context, NoPieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.heal import HealConfig

Arm = Literal["none", "mean", "rmse", "p95", "max"]
ARMS: tuple[Arm, ...] = ("none", "mean", "rmse", "p95", "max")
AGGREGATES: tuple[Aggregate, ...] = ("mean", "rmse", "p95", "max")


@dataclass(frozen=True, eq=False)
class Study:
    """What every piece of this question shares."""

    lm: LanguageModel
    axis: Axis
    contexts: Sequence[Context]
    config: RunConfig
    seeds: tuple[int, ...]
    kinds: tuple[Kind, ...]
    share: float  # of the texts that a loop is planted in
    tau: float  # of every barrier; of the rmse's where the others' are matched to it
    texts: int  # to heal on
    fresh: int  # planted texts besides, to see what is learnt of loops as such
    store: Store

    @property
    def settings(self) -> dict[str, Any]:
        """What every stored piece depends on."""
        return {
            "model": self.lm.identity.name,
            "axis": self.axis.name,
            "filter": self.config.filter.model_dump(),
            "generate": self.config.generate.model_dump(),
            "evaluate": self.config.evaluate.model_dump(),
            "kinds": [asdict(kind) for kind in self.kinds],
            "share": self.share,
            "texts": self.texts,
            "fresh": self.fresh,
        }

    def work(self, seed: int) -> Work:
        """The pieces of work of a run with this seed."""
        config = self.config.model_copy(update={"seed": seed})
        ignore = lambda _stage, _done, _total: None  # noqa: E731
        return Work(self.lm, self.axis, self.contexts, config, NoPieces(), ignore)

    def heal_config(self, arm: Arm, tau: float) -> HealConfig:
        """The barrier of an arm at this τ, all at the same λ. Nothing is held out: it is the texts
        that were learnt from whose divergence is looked at.
        """
        if arm == "none":  # whatever τ is
            barrier = {"divergence": "none", "tau": HealConfig().tau}
        else:
            barrier = {"aggregate": arm, "tau": tau}
        return self.config.heal.model_copy(update={**barrier, "validation_share": 0.0})
