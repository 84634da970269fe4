"""What to choose, from a plan: precision, batches, processes, or another machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steer_heal_love.budget.machines import GIB
from steer_heal_love.budget.memory import HOLES
from steer_heal_love.budget.plan import Plan, in_four_bits, with_shared_layers


@dataclass(frozen=True)
class Advice:
    """Sentences, and the flags of `shl run` that follow them; none where it does not fit."""

    fits: bool
    sentences: tuple[str, ...]
    flags: tuple[str, ...]


def advise(plan: Plan) -> Advice:
    """What to choose on the plan's machine: a model on each device where one holds it at all."""
    tried: list[tuple[Plan, list[str]]] = [(plan, [])]
    if plan.machine.device == "cuda" and plan.config.quantize == "none":
        tried.append((in_four_bits(plan), ["--quantize", "4bit"]))
    advice = _chosen(tried)
    if advice is None and plan.machine.count > 1:
        tried = [(with_shared_layers(one), flags) for one, flags in tried]
        advice = _chosen(tried)
    return advice or Advice(False, tuple(_missing(tried[-1][0])), ())


def _chosen(tried: Sequence[tuple[Plan, list[str]]]) -> Advice | None:
    """The first plan that fits, or else fits with smaller batches."""
    for option, flags in tried:
        if option.fits:
            return _fitting(option, flags)
    for option, flags in tried:
        if at_rest(option) <= option.usable:
            return _halved(option, flags)
    return None


def _fitting(plan: Plan, flags: list[str]) -> Advice:
    how = " with the linear layers in 4 bits" if flags else ""
    sentences = [f"It fits{how}: {_gib(plan.peak.total)} GiB of {_gib(plan.usable)} at most."]
    rows, batch = plan.config.generate.rows, plan.config.dose.batch
    if plan.machine.device == "cuda" and rows > batch:
        flags = [*flags, "--dose.batch", str(rows)]
        sentences.append(
            f"There is room for {rows} rows at a time while sampling, and a batch of the dose "
            f"search has {batch}."
        )
    return _shared_out(plan, sentences, flags)


def _halved(plan: Plan, flags: list[str]) -> Advice:
    sentences = [
        f"It fits with smaller batches alone ({_gib(plan.peak.total)} GiB of {_gib(plan.usable)} "
        "with those of the settings): they are halved on the way until they do, which costs a "
        "moment each time."
    ]
    if flags:
        sentences.append("The linear layers have to be in 4 bits for that.")
    return _shared_out(plan, sentences, flags)


def _shared_out(plan: Plan, sentences: list[str], flags: list[str]) -> Advice:
    n = plan.machine.count
    if plan.machine.sharing > 1:
        names = ",".join(f"cuda:{i}" for i in range(plan.machine.sharing))
        flags = [*flags, "--device", names]
        sentences.append(
            f"That is on the first of {plan.machine.sharing} devices that share its layers: one "
            "process, and one device at work at a time."
        )
    if n > 1:
        flags = [*flags, "--processes", str(n)]
        sentences.append(f"Each of the {n} devices holds the model and takes a share of the rows.")
    return Advice(True, tuple(sentences), tuple(flags))


def _missing(plan: Plan) -> Iterator[str]:
    held, how = at_rest(plan), " in 4 bits" if plan.config.quantize == "4bit" else ""
    yield (
        f"It does not fit: weights{how} and what belongs to them take {_gib(held)} GiB, whatever "
        f"the batches, and {_gib(plan.usable)} of {plan.machine.name} can be used."
    )
    if plan.machine.device == "cuda":
        yield (
            "Take a larger one, more of them to share its layers (as --gpus 4x24GiB), or a smaller "
            "model."
        )
    else:
        yield "Take a machine with more memory, a smaller model, or a GPU with --quantize 4bit."


def at_rest(plan: Plan) -> int:
    """Bytes that no smaller batch makes fewer: weights, adapters, stored states."""
    moving = ("activations", "cache", "graph", "logits and gradients", HOLES)
    return max(sum(v for k, v in m.terms.items() if k not in moving) for m in plan.moments)


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f}"
