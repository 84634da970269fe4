"""Steps of AdamW down a loss, and whether they go well."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
import transformers

from steer_heal_love.errors import DivergedError
from steer_heal_love.records import HealStep
from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.healing.gradient import Term, backward
from steer_heal_love.stages.healing.student import Student

LOG = logging.getLogger(__name__)

Step = TypeVar("Step", bound=HealStep)

SPIKE, SPIKE_AFTER = 100.0, 5  # times the median of the norms so far, once there are so many


def descend(student: Student, terms: Sequence[Term], learning_rate: float) -> dict[str, float]:
    """One step down the terms' sum; returns their figures and the gradient's norm."""
    optimizer = student.optimizer
    figures = backward(student, terms)
    most = student.config.max_grad_norm
    norm = torch.nn.utils.clip_grad_norm_(student.parameters.values(), most)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()
    return figures | {"grad_norm": float(norm)}


def learning_rate(
    config: HealConfig, optimizer: torch.optim.Optimizer, total: int
) -> Callable[[int], float]:
    """The learning rate by the number of the step, of so many in all."""
    warmup = math.ceil(total * config.warmup_share)
    (factor,) = transformers.get_scheduler(config.schedule, optimizer, warmup, total).lr_lambdas
    return lambda step: config.learning_rate * factor(step)


def take_steps(
    numbers: Iterable[int],
    step: Callable[[int], Step],
    clipped_to: float,
    on_step: Callable[[Step], None] | None,
    stage: str = "heal",
) -> list[Step]:
    """The steps of these numbers, each looked at beside those before it, and then told.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    steps: list[Step] = []
    for number in numbers:
        record = step(number)
        check_step(record, [s.grad_norm for s in steps], clipped_to, stage)
        steps.append(record)
        if on_step is not None:
            on_step(record)
    return steps


def check_step(record: HealStep, norms: list[float], clipped_to: float, stage: str) -> None:
    """Look whether the gradient is what it was until now; raises DivergedError for NaN.

    Args:
        stage: that the step is of, and its group of settings.
    """
    step, norm = record.step, record.grad_norm
    if not math.isfinite(record.loss):
        raise DivergedError(
            f"{stage}: the loss is {record.loss} at step {step}: lower --{stage}.learning-rate"
        )
    if not math.isfinite(norm):
        raise DivergedError(
            f"{stage}: the gradient is not finite at step {step}: lower --{stage}.learning-rate, "
            "or use float32"
        )
    if len(norms) >= SPIKE_AFTER and norm > SPIKE * (median := statistics.median(norms)):
        LOG.warning(
            "%s: the gradient's norm jumped to %.3g at step %d (median until then %.3g); it "
            "was clipped to %g",
            *(stage, norm, step, median, clipped_to),
        )


def check_weights(student: Student, place: str, stage: str = "heal") -> None:
    """Raises DivergedError where a trained weight is not finite; `place` says after what."""
    if not all(bool(p.isfinite().all()) for p in student.parameters.values()):
        raise DivergedError(
            f"{stage}: a weight of the adapter is not finite after {place}: "
            f"lower --{stage}.learning-rate"
        )
