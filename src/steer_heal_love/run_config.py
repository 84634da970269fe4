"""Everything that a run is made of: the stages' settings, put together."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, field_validator

from steer_heal_love.lm.model.load import DType, Quantize
from steer_heal_love.stages.dose import DoseConfig
from steer_heal_love.stages.dosing.application import DosingConfig
from steer_heal_love.stages.evaluate import EvaluateConfig
from steer_heal_love.stages.filter import FilterConfig
from steer_heal_love.stages.heal import HealConfig
from steer_heal_love.stages.online import OnlineConfig
from steer_heal_love.stages.settings import StageConfig
from steer_heal_love.stages.steer import SteerConfig


class GenerateConfig(StageConfig):
    """How completions are sampled, for training and for evaluation."""

    max_new_tokens: int = Field(96, ge=8)
    """Length limit of a completion, tokens."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    top_k: int = Field(64, ge=1)
    """The likeliest tokens that are drawn from."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus inside the top k."""
    batch_size: int | None = Field(None, ge=1)
    """Rows in flight at a time; by default as many as memory allows when the run begins, up to 64
    on a CPU and 1024 on a GPU."""

    @property
    def rows(self) -> int:
        """Rows in flight, of settings in which they are chosen."""
        if self.batch_size is None:
            raise ValueError("the rows in flight are not chosen yet")
        return self.batch_size


class RunConfig(StageConfig):
    """Everything that a run is made of."""

    axis: str = "love"
    """Name of a built-in axis, or path of an axis .toml."""
    model: str = "smollm2"
    """Hub id, local folder, .gguf file, or the alias smollm2."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, …; cuda:0,cuda:1 shares the layers out to both."""
    dtype: DType = "auto"
    """Precision of the model: auto is bfloat16 where the device has it."""
    quantize: Quantize = "none"
    """Hold the linear layers in 4 bits (bitsandbytes; needs CUDA); adapters stay in float32."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    date: str | None = None
    """Day that a chat template with a clock shows, such as 2026-01-31; by default the one on which
    the run begins."""
    method: Literal["iterative", "online"] = "iterative"
    """How the student learns: from steered texts that the filter kept, or online, from a tilted
    teacher on texts of its own."""
    rounds: int = Field(8, ge=1, le=1000)
    """How many times to steer and heal."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything random."""
    shards: int = Field(1, ge=1, le=1024)
    """Parts that the work is computed in, so that as many processes can share it."""
    steer: SteerConfig = SteerConfig()
    dose: DoseConfig = DoseConfig()
    dosing: DosingConfig = DosingConfig()
    filter: FilterConfig = FilterConfig()
    generate: GenerateConfig = GenerateConfig()
    heal: HealConfig = HealConfig()
    online: OnlineConfig = OnlineConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @field_validator("date")
    @classmethod
    def _is_date(cls, date: str | None) -> str | None:
        if date is not None:
            try:
                datetime.date.fromisoformat(date)
            except ValueError:
                raise ValueError(f"{date!r} is no day: give one such as 2026-01-31") from None
        return date

    @property
    def day(self) -> datetime.date | None:
        """The date that is asked for."""
        return None if self.date is None else datetime.date.fromisoformat(self.date)

    @property
    def adapter(self) -> HealConfig:
        """The settings of the adapter that a round trains."""
        return self.heal if self.method == "iterative" else self.online.adapter

    @property
    def tau(self) -> float:
        """The barrier's budget in nats; online, where it is relative, that of `--online.tau`."""
        return self.heal.tau if self.method == "iterative" else self.online.tau
