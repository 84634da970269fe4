"""`shl export`: what a run healed, for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from steer_heal_love.errors import ConfigError
from steer_heal_love.export.exporting import Kind, export
from steer_heal_love.export.folder import refuse_filled
from steer_heal_love.export.hub import push_folder, refuse_push
from steer_heal_love.export.job import ExportOptions, ExportResult
from steer_heal_love.export.licence import find_licence
from steer_heal_love.export.student import Student, read_student
from steer_heal_love.runner.model import check_device
from steer_heal_love.runner.settings import read_settings
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class ExportArguments:
    """Write what a run healed for other programs: PEFT, transformers, vLLM, llama.cpp, repeng.

    Each export has the tokenizer, the chat template, the base model's licence and a model card.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    to: Path
    """Folder to make. Of several kinds each gets a folder of its own in it."""
    kinds: Annotated[tuple[Kind, ...], tyro.conf.arg(name="as")]
    """peft: one LoRA that stacks all rounds. merged: the whole model in safetensors. gguf: model,
    adapter and control vector for llama.cpp. vector: the direction alone."""
    round: int | None = None
    """The student after this round; by default the last. Of vector: the direction of this round; by
    default 0, the base model's own."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of merged and gguf; auto: that of the base's weights, and float16 for gguf."""
    rank: int | None = None
    """Of peft: compress the adapter to this rank, and measure what that costs."""
    pad_rank: bool = False
    """Of peft: pad the adapter with zeros to a rank that vLLM serves."""
    llama_cpp: Path | None = None
    """Of gguf: folder of llama.cpp's source, to convert by its own scripts."""
    model: str | None = None
    """Where the base model is, if not where the run had it."""
    base_model: str | None = None
    """The base model's name on the hub (owner/name), if the run had it from elsewhere."""
    license: str | None = None
    """The base model's licence by the hub's name for it, where it is not found."""
    push_to_hub: str | None = None
    """Publish the export as this model of the hub (owner/name), which is made private."""
    public: bool = False
    """With --push-to-hub: make it public."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, …"""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, write, publish where that is asked for."""
    options = parse(ExportArguments, arguments, "shl export")
    _check(options)
    read_settings(options.run, trust=options.trust_remote_code)
    students = {kind: _student(options, kind) for kind in options.kinds}
    base = next(iter(students.values())).base
    licence = find_licence(base.spec, base.hub_id, options.license)
    if options.push_to_hub is not None:
        refuse_push(options.push_to_hub, base, licence)
    export_options = ExportOptions(
        dtype=None if options.dtype == "auto" else getattr(torch, options.dtype),
        rank=options.rank,
        pad_rank=options.pad_rank,
        llama_cpp=options.llama_cpp,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    with Screen(quiet=options.quiet) as screen:
        if licence.id is None:
            screen.notes.print(
                f"warning: the licence of {base.label} was {licence.source}; it holds for the "
                "export too: look it up and give it with --license",
                markup=False,
            )
        for kind, student in students.items():
            target = options.to if len(students) == 1 else options.to / kind
            result = export(kind, student, target, export_options, licence, screen.say)
            screen.say(_words(kind, student, result, target))
        if options.push_to_hub is not None:
            address = push_folder(options.to, options.push_to_hub, public=options.public)
            screen.say(f"published: {address}")
    return 0


def _check(options: ExportArguments) -> None:
    """Raises ConfigError where flags do not go together, RunError where the target is in use."""
    kinds = options.kinds
    if not kinds or len(set(kinds)) < len(kinds):
        raise ConfigError("--as: name each of peft, merged, gguf, vector at most once")
    for flag, value, home in (
        ("--rank", options.rank, {"peft"}),
        ("--pad-rank", options.pad_rank or None, {"peft"}),
        ("--llama-cpp", options.llama_cpp, {"gguf"}),
        ("--dtype", None if options.dtype == "auto" else options.dtype, {"merged", "gguf"}),
    ):
        if value is not None and not home & set(kinds):
            raise ConfigError(f"{flag} goes with --as {' or '.join(sorted(home))}")
    if options.public and options.push_to_hub is None:
        raise ConfigError("--public goes with --push-to-hub")
    if options.push_to_hub is not None and len(kinds) > 1:
        raise ConfigError("--push-to-hub takes one kind at a time: a model of the hub has one card")
    check_device(options.device)
    refuse_filled(options.to)


def _student(options: ExportArguments, kind: Kind) -> Student:
    which = 0 if kind == "vector" and options.round is None else options.round
    return read_student(options.run, which, model=options.model, name=options.base_model)


def _words(kind: Kind, student: Student, result: ExportResult, target: Path) -> str:
    cost = result.fidelity
    lines = [f"{kind}: {student.name} → {target}"]
    lines += [f"  {name:<14} {target / file}" for name, file in result.files.items()]
    lines += [f"  {sentence}" for sentence in result.costs]
    if cost is not None:
        lines.append(
            f"  KL from the exact student: {cost.mean_kl_nats:.2g} nats per token on average, "
            f"{cost.worst_kl_nats:.2g} at worst ({cost.tokens} tokens; read back by "
            f"{cost.read_by}, in {cost.computed_in})"
        )
    lines += [f"  {sentence}" for sentence in result.checks]
    lines += [f"  note: {note}" for note in result.notes]
    lines += [f"  prompts: {note}" for note in result.prompting[1:]]
    return "\n".join([*lines, f"  {'card':<14} {target / 'README.md'}"])
