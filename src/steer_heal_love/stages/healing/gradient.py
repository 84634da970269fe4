"""The gradient of a batch that is too large for one pass, or shared between processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from steer_heal_love.lm.memory import halve, is_out_of_memory
from steer_heal_love.stages.healing.student import Student
from steer_heal_love.stages.healing.texts import Batch, Text, make_batch

P = ParamSpec("P")
T = TypeVar("T")
Part = tuple[float, Mapping[str, float]]  # its share of a term's texts, and figures of it


@dataclass(frozen=True)
class Term:
    """A term of the loss that is a mean over texts."""

    texts: Sequence[Text]
    weight: float
    loss_of: Callable[[Student, Batch], tuple[Tensor, Mapping[str, float]]]  # with figures of it


def backward(student: Student, terms: Sequence[Term]) -> dict[str, float]:
    """Leave the gradient of the terms' sum in the trained tensors, the same in every process.

    Each process computes its shards of the texts, in parts that fit: of means over texts the parts'
    gradients, weighted by their shares, add up to the whole's. Returns the figures of the whole.

    Raises:
        MemoryError: one of the processes ran out of memory; all raise it, and can begin again.
    """
    team = student.lm.team
    parts: list[Part] = []
    problem: str | None = None
    try:
        parts = _backward_own(student, terms)
    except (RuntimeError, MemoryError) as error:
        if team.processes == 1 or not is_out_of_memory(error):
            raise
        problem = str(error)
    told = team.gather((parts, problem))
    if any(trouble is not None for _, trouble in told):
        raise MemoryError("a process of this run ran out of memory")
    if team.processes > 1:
        _add_processes(student)
    return join_figures([part for theirs, _ in told for part in theirs])


def _backward_own(student: Student, terms: Sequence[Term]) -> list[Part]:
    team, parameters = student.lm.team, student.parameters.values()
    parts: list[Part] = []
    sums: list[Any] = [0.0] * len(parameters)
    for shard in team.own:
        for term in terms:
            own = term.texts[shard :: team.shards]
            for share, batch in parts_of(student, own, len(term.texts)):
                loss, figures = term.loss_of(student, batch)
                (loss * (term.weight * share)).backward()
                parts.append((share, figures))
        # Each shard's gradient is summed on its own, as where every shard has its own process, so
        # that the rounding does not depend on who computes it.
        for i, p in enumerate(parameters):
            sums[i] = sums[i] + (torch.zeros_like(p) if p.grad is None else p.grad)
            p.grad = None
    for p, gradient in zip(parameters, sums, strict=True):
        p.grad = gradient
    return parts


def _add_processes(student: Student) -> None:
    """Add up the processes' gradients, those of all tensors at once."""
    gradients = [p.grad for p in student.parameters.values() if p.grad is not None]
    joined = torch.cat([g.flatten() for g in gradients])
    student.lm.team.add(joined)
    for g, part in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


def parts_of(student: Student, texts: Sequence[Text], total: int) -> Iterator[tuple[float, Batch]]:
    """The texts as batches whose graph fits in memory, each with its share of so many texts."""
    for start in range(0, len(texts), student.micro):
        part = texts[start : start + student.micro]
        yield len(part) / total, make_batch(student.lm, part)


def join_figures(parts: Sequence[Part]) -> dict[str, float]:
    """Figures of a whole from its parts': means by their shares, the largest maximum, and norms of
    what lies side by side.
    """
    names = dict.fromkeys(name for _, figures in parts for name in figures)
    return {name: _join(name, [(s, f[name]) for s, f in parts if name in f]) for name in names}


def _join(name: str, values: Sequence[tuple[float, float]]) -> float:
    if name == "divergence_max":
        return max(value for _, value in values)
    if name.startswith("grad_"):
        return math.sqrt(sum((share * value) ** 2 for share, value in values))
    return sum(share * value for share, value in values)


def fit_in_memory(
    compute: Callable[Concatenate[Student, P], T],
) -> Callable[Concatenate[Student, P], T]:
    """Compute anew, in parts of half the size, as long as a graph does not fit in memory.

    Parts change nothing but rounding. Raises OutOfMemory where one text alone does not fit.
    """

    @wraps(compute)
    def again(student: Student, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return compute(student, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler: what the failed attempt held is free by now.
            student.model.zero_grad()
            student.micro = halve(student.micro, "heal", "use shorter texts, or a smaller model")

    return again
