"""`shl plan`: what a run will take of memory, time and disk, and what to choose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from steer_heal_love.budget.advice import Advice, advise
from steer_heal_love.budget.disk import estimate_need
from steer_heal_love.budget.machines import GIB, Machine, read_gpus, this_machine
from steer_heal_love.budget.memory import MemoryPoint
from steer_heal_love.budget.plan import Plan, make_plan
from steer_heal_love.budget.shape import find_size
from steer_heal_love.budget.texts import USUAL, Texts, measure_texts
from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model import load
from steer_heal_love.lm.model.load import LanguageModel, default_dtype
from steer_heal_love.lm.model.meta_model import build_meta_model, config_of
from steer_heal_love.lm.patches.packed import works
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.settings import files_named, load_config
from steer_heal_love.terminal.flags import parse

THROUGHOUT = ("libraries", "weights", "packed copies")  # parts of every moment


@dataclass(frozen=True)
class PlanArguments:
    """What a run takes of memory, time and disk, without running it and without the weights.

    Takes every setting of `shl run`. The package's own passes are rehearsed on tensors without
    contents, so nothing is computed, and of a model only its configuration and tokenizer are read.
    """

    settings: Annotated[RunConfig, tyro.conf.arg(name="")]
    size: str | None = None
    """Plan for a model of this size in place of --model: 135M, 1B, 4B, 12B, 27B or 70B."""
    gpus: str | None = None
    """GPUs to plan for, by memory or name: 1x24GiB, 2xH100, …; by default this machine."""
    config: Path | None = None
    """TOML file of settings; flags beat it."""
    preset: str | None = None
    """Settings for a known model (`shl presets` lists them); --config and flags beat them."""
    json: bool = False
    """One JSON object on standard output, in place of the table."""


def main(arguments: list[str]) -> int:
    """Plan, and say so. Returns 0, also where the run does not fit."""
    named = files_named(arguments)
    from_file = load_config(named.config, named.preset)
    options = parse(PlanArguments, arguments, "shl plan", PlanArguments(from_file))
    settings = options.settings
    machine = read_gpus(options.gpus) if options.gpus else this_machine(settings.device)
    refuse_four_bits(settings, machine)
    axis = load_axis(settings.axis)
    lm, texts = shape_of(options, axis, dtype_on(settings, machine))
    on_cpu = machine.device == "cpu"
    packs = on_cpu and lm.dtype == torch.bfloat16 and works()
    plan = make_plan(lm, settings, texts, machine, packs=packs)
    advice = advise(plan)
    disk = estimate_need(lm, axis, settings).peak
    if options.json:
        print(json.dumps(as_data(plan, advice, disk), ensure_ascii=False))  # noqa: T201
    else:
        show(plan, advice, disk)
    return 0


def refuse_four_bits(settings: RunConfig, machine: Machine) -> None:
    """Raises ConfigError where 4 bits are asked for on a CPU."""
    if settings.quantize == "4bit" and machine.device != "cuda":
        raise ConfigError(
            "--quantize 4bit needs a CUDA device: name one by --gpus, or leave it out"
        )


def dtype_on(settings: RunConfig, machine: Machine) -> torch.dtype:
    """The precision of a run there; `auto` is bfloat16 on a GPU."""
    if settings.dtype != "auto":
        dtype: torch.dtype = getattr(torch, settings.dtype)
        return dtype
    return torch.bfloat16 if machine.device == "cuda" else default_dtype(torch.device("cpu"))


def shape_of(options: PlanArguments, axis: Axis, dtype: torch.dtype) -> tuple[LanguageModel, Texts]:
    """The model without weights, and how long the run's texts are for it.

    Raises:
        ConfigError: there is no such size.
        ModelError: the model's configuration cannot be read.
    """
    if options.size is not None:
        size = find_size(options.size)
        return build_meta_model(config_of(size.config), dtype, name=size.model), USUAL
    settings = options.settings
    trust = settings.trust_remote_code
    try:
        config = load.load_config(settings.model, trust_remote_code=trust)
        tokenizer = load.load_tokenizer(settings.model, trust_remote_code=trust)
    except ModelError as error:
        raise ModelError(
            f"{error} (a plan needs its config.json and tokenizer, no weights: fetch them once "
            "online, or name a --size)"
        ) from error
    lm = build_meta_model(
        config, dtype, name=settings.model, tokenizer=tokenizer, trust_remote_code=trust
    )
    return lm, measure_texts(lm, axis, load_contexts(), settings)


def show(plan: Plan, advice: Advice, disk: int) -> None:
    """The plan as a table, and in words what to choose."""
    console = Console(highlight=False)
    console.print(headline(plan), markup=False, soft_wrap=True)
    console.print(throughout(plan), markup=False, soft_wrap=True)
    console.print(table_of(plan))
    for sentence in (*advice.sentences, *remarks(plan, disk)):
        console.print(sentence, markup=False, soft_wrap=True)
    if advice.fits and advice.flags:
        flags = " ".join(["--model", plan.sizes.shape.name, *advice.flags])
        console.print(f"shl run {flags}", markup=False, soft_wrap=True)


def headline(plan: Plan) -> str:
    """The model and the machine on one line."""
    shape = plan.sizes.shape
    dtype = str(shape.dtype).removeprefix("torch.")
    held = f"{dtype}, linear in 4 bits" if plan.config.quantize == "4bit" else dtype
    return (
        f"{shape.name}: {shape.parameters / 1e6:,.0f} M parameters, {shape.layers} layers, width "
        f"{shape.width:,}, vocabulary {shape.vocabulary:,}, {held}; on {plan.machine.words} "
        f"({plan.machine.memory / GIB:,.1f} GiB{' each' if plan.machine.devices > 1 else ''})"
    )


def throughout(plan: Plan) -> str:
    """What is held from loading on, in words."""
    terms = plan.stages["baseline"].terms
    held = [f"{name} {terms[name] / GIB:,.2f} GiB" for name in THROUGHOUT if terms.get(name)]
    return f"Held throughout: {', '.join(held)}."


def table_of(plan: Plan) -> Table:
    """A row for each stage: its highest moment, what that is made of, and the stage's time."""
    table = Table(box=None)
    for heading in ("stage", "at most while"):
        table.add_column(heading, no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("of which, beside that")
    for stage, moment in plan.stages.items():
        mark = " ◀" if moment.total == plan.peak.total else ""
        size = f"{moment.total / GIB:,.2f}{mark}"
        table.add_row(stage, moment.work, size, duration(plan.seconds.get(stage)), parts(moment))
    return table


def parts(moment: MemoryPoint) -> str:
    """What is not there throughout, in words; what is under 10 MiB is left out."""
    shown = [
        f"{name} {size / GIB:,.2f}"
        for name, size in moment.terms.items()
        if size > 10 * 2**20 and name not in THROUGHOUT
    ]
    return ", ".join(shown)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits; nothing where they are not known."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def remarks(plan: Plan, disk: int) -> list[str]:
    """Time in all, room on the disk, memory of the host, and what is not planned."""
    sentences = []
    if plan.config.method == "online":
        sentences.append(
            "Memory is planned for an iterative heal; what an online step takes is not known."
        )
    if plan.seconds:
        rounds, baseline = plan.config.rounds, plan.seconds["baseline"]
        each = sum(plan.seconds.values()) - baseline
        sentences.append(
            f"{rounds} rounds of about {duration(each)} after a baseline of {duration(baseline)}: "
            f"about {duration(baseline + rounds * each)}, without what round 0 has besides (the "
            "front and the rivals)."
        )
    sentences.append(f"On the disk it takes up to {disk / GIB:,.2f} GiB.")
    if plan.host_bytes:
        sentences.append(
            f"While it loads, the host needs {plan.host_bytes / GIB:,.1f} GiB of memory."
        )
    return sentences


def as_data(plan: Plan, advice: Advice, disk: int) -> dict[str, Any]:
    """The plan as plain data, in bytes and seconds."""
    return {
        "model": plan.sizes.shape.name,
        "parameters": plan.sizes.shape.parameters,
        "dtype": str(plan.sizes.shape.dtype).removeprefix("torch."),
        "quantize": plan.config.quantize,
        "machine": plan.machine.words,
        "memory_bytes": plan.machine.memory,
        "usable_bytes": plan.usable,
        "peak_bytes": plan.peak.total,
        "fits": advice.fits,
        "advice": list(advice.sentences),
        "flags": list(advice.flags),
        "disk_bytes": disk,
        "host_bytes": plan.host_bytes,
        "moments": [
            {"stage": m.stage, "what": m.work, "bytes": m.total, "terms": dict(m.terms)}
            for m in plan.moments
        ],
        "seconds": dict(plan.seconds),
    }
