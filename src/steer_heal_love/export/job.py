"""What the kinds of export share: what is asked for, what was written, the models behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.errors import ConfigError
from steer_heal_love.export.fidelity import (
    Fidelity,
    Reference,
    ask_student,
    refuse_infinite,
    served_logits,
)
from steer_heal_love.export.gguf.files import About
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.lora import history_terms
from steer_heal_love.export.merge import merge_in_place
from steer_heal_love.export.student import Student
from steer_heal_love.lm.model.fingerprint import commit_of
from steer_heal_love.lm.model.load import LanguageModel, load_config, load_model, load_tokenizer
from steer_heal_love.lm.model.plain import make_plain
from steer_heal_love.lm.model.served import prompting_notes, set_served
from steer_heal_love.lm.model.template import ChatTemplate
from steer_heal_love.runs.files import check_space


@dataclass(frozen=True)
class ExportOptions:
    """How an export is to be."""

    dtype: torch.dtype | None = None  # of merged and gguf; None: the base's own, and float16
    rank: int | None = None  # compress the adapter to it
    pad_rank: bool = False  # pad the adapter to a rank that vLLM serves
    llama_cpp: Path | None = None  # llama.cpp's source, to convert by its scripts
    device: str = "auto"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class ExportJob:
    """One export: of which student, into which folder, how."""

    student: Student
    folder: Path
    options: ExportOptions
    licence: Licence
    say: Callable[[str], None]

    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        trust = self.options.trust_remote_code
        return load_tokenizer(self.student.base.spec, trust_remote_code=trust)

    def config(self) -> Any:
        """The base model's configuration."""
        trust = self.options.trust_remote_code
        return load_config(self.student.base.spec, trust_remote_code=trust)

    def load_base(self) -> LanguageModel:
        """The base model in float32.

        Raises:
            ModelError: it cannot be loaded, or its weights are quantised.
        """
        self.say(f"loading {self.student.base.spec} …")
        lm = load_model(
            self.student.base.spec,
            device=self.options.device,
            dtype="float32",
            trust_remote_code=self.options.trust_remote_code,
            date=self.student.day,
        )
        make_plain(lm.model, self.config(), self.student.base.spec)
        return lm

    def base_notes(self, lm: LanguageModel) -> tuple[str, ...]:
        """What to say where the base model at hand has other weights than the run's."""
        then, now = self.student.base.revision, lm.identity.revision
        if then is None or now in (then, "unknown"):
            return ()
        return (
            f"This export was made on other base weights ({now}) than the run ({then}): none of "
            "the run's figures was measured on them.",
        )

    def hub_notes(self) -> tuple[str, ...]:
        """What to say where the hub has moved on from the run's commit; it loads no weight."""
        then = self.student.base.revision
        if then is None or not re.fullmatch(r"[0-9a-f]{40}", then):
            return ()
        now = commit_of(self.student.base.spec)
        if now in (None, then):
            return ()
        return (
            f"The base model's default branch is at commit {now} now, and the run's figures are of "
            f"{then}: the tokenizer here is of the former.",
        )

    def about(self, description: str) -> About:
        """What a GGUF file of this export says of itself."""
        base = self.student.base.hub_id
        return About(self.student.name, description, self.licence.id, base)


@dataclass(frozen=True)
class ExportResult:
    """What was written into the folder, for its card and its note."""

    files: Mapping[str, str]  # role → name
    dtype: str = ""
    rank: int = 0
    layers: tuple[int, ...] = ()
    costs: tuple[str, ...] = ()  # what it was measured to cost, in sentences
    fidelity: Fidelity | None = None
    checks: tuple[str, ...] = ()  # what was read back, and what was not, in sentences
    notes: tuple[str, ...] = ()  # limits that hold for this export
    prompting: tuple[str, ...] = ()  # what the prompts were like, and what a server must set
    measured: Mapping[str, Any] = field(default_factory=dict)  # the same, as plain data


def serve(template: ChatTemplate, ends: frozenset[int]) -> tuple[str, ...]:
    """Set the template's defaults to the run's prompts; what is to be said of them.

    Args:
        ends: the end tokens that a server learns from the files.
    """
    return tuple(prompting_notes(template, ends, done=set_served(template)))


def merged_model(
    job: ExportJob, dtype: torch.dtype, computed_in: torch.dtype
) -> tuple[LanguageModel, Reference, list[Tensor]]:
    """The merged model in `dtype`, the student's logits, and its own, computed in another dtype.

    Raises:
        ModelError: the base is quantised, the adapters do not fit it, a weight is beyond the range
            of `dtype`, or the merged model computes NaN or infinity.
    """
    lm, student = job.load_base(), job.student
    check_space(job.folder, lm.identity.parameters * dtype.itemsize)
    reference = ask_student(lm, student)
    merge_in_place(lm, history_terms(student.adapters), dtype)
    lm.model.to(computed_in)  # rounded to `dtype` already
    made = served_logits(lm.model, lm.device, reference.probes)
    name = str(computed_in).removeprefix("torch.")
    refuse_infinite(made, f"the merged model, in {name},", ": choose --dtype bfloat16 or float32")
    lm.model.to(dtype)
    return lm, reference, made


def stored_dtype(job: ExportJob, unknown: torch.dtype | None = None) -> torch.dtype:
    """The dtype of the base model's stored weights; `unknown` where its configuration has none.

    Raises:
        ConfigError: it has none, and there is no `unknown`.
    """
    stored = getattr(job.config(), "dtype", None) or unknown
    if not isinstance(stored, torch.dtype):
        raise ConfigError("the base model does not say its dtype: give one with --dtype")
    return stored
