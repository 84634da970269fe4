"""What a benchmark finds: rates, ratios against a reference of the same run, and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

GIB = 2**30


@dataclass(frozen=True)
class Rate:
    """So many tokens in so many seconds, and what that took."""

    name: str
    tokens: int
    seconds: float  # of the best run
    flops: float = 0.0  # by model arithmetic, of all tokens together; 0 where not counted
    bytes_read: float = 0.0  # weights and cache that a decode loop must read; 0 where not counted
    peak_gib: float | None = None  # highest resident (GPU: allocated) memory while it ran
    runs: tuple[float, ...] = ()  # seconds of every run

    @property
    def per_second(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Ratio:
    """A figure with its target, where it has one."""

    name: str
    value: float
    target: float | None = None
    sense: Literal["at least", "at most"] = "at least"
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target


@dataclass
class Outcome:
    """Everything that one benchmark found; `failed` says why it could not run."""

    name: str
    wall_s: float = 0.0
    peak_gib: float = 0.0  # of the whole process, warm-up and references included
    rates: list[Rate] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)  # whatever else is worth keeping
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, derived figures included."""
        data = asdict(self)
        for row, rate in zip(data["rates"], self.rates, strict=True):
            row["tokens_per_s"] = rate.per_second
        for row, ratio in zip(data["ratios"], self.ratios, strict=True):
            row["met"] = ratio.met
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote."""
        plain = {k: v for k, v in data.items() if k not in ("rates", "ratios")}
        rates = [_without(row, "tokens_per_s") for row in data["rates"]]
        ratios = [_without(row, "met") for row in data["ratios"]]
        return cls(
            **plain,
            rates=[Rate(**{**row, "runs": tuple(row["runs"])}) for row in rates],
            ratios=[Ratio(**row) for row in ratios],
        )


def _without(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != name}


def all_met(outcomes: Sequence[Outcome]) -> bool:
    """Whether everything ran and no target was missed."""
    return all(o.failed is None and all(r.met is not False for r in o.ratios) for o in outcomes)
