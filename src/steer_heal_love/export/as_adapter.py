"""An export as a PEFT adapter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import psutil
import torch

from steer_heal_love.errors import ModelError
from steer_heal_love.export.fidelity import Fidelity, ask_student, served_logits
from steer_heal_love.export.job import ExportJob, ExportResult, serve, stored_dtype
from steer_heal_love.export.lora import compress, history_terms, one_adapter, rank_of, write_adapter
from steer_heal_love.export.read_back import read_adapter_by_peft
from steer_heal_love.lm.model.load import (
    LanguageModel,
    default_device,
    find_template,
    stop_ids_of,
)
from steer_heal_love.lm.model.meta_model import build_meta_model
from steer_heal_love.lm.patches.adapters import student as put_on
from steer_heal_love.records import Adapter


def write_peft(job: ExportJob) -> ExportResult:
    """One plain LoRA with the whole history, compressed and padded as wished, read back by PEFT.

    Raises:
        ConfigError: the rank is out of bounds.
        ModelError: an adapter of the run is not plain LoRA, or PEFT reads something else than what
            was written.
    """
    base, like, options = job.student.base, job.student.adapters[-1], job.options
    terms = history_terms(job.student.adapters)
    costs: tuple[str, ...] = ()
    measured: dict[str, Any] = {}
    if options.rank is not None:
        whole = rank_of(terms)
        terms, error = compress(terms, options.rank)
        costs = (
            f"The adapter was compressed from rank {whole} to {rank_of(terms)} by SVD: the "
            f"relative error of the update is {error.whole:.2g} over all weights (Frobenius norm) "
            f"and {error.worst:.2g} in the worst module, {error.module}.",
        )
        measured = {"weight_error": asdict(error)}
    adapter = one_adapter(terms, like, base.name, served=options.pad_rank)
    tokenizer, config = job.tokenizer(), job.config()
    template = find_template(tokenizer, base.label, job.student.day)
    prompting = serve(template, stop_ids_of(config.get_text_config(), tokenizer))
    tokenizer.save_pretrained(job.folder)
    write_adapter(adapter, job.folder)
    fidelity, checks = _read_back(job, adapter)
    rank = int(adapter.config["r"])
    return ExportResult(
        files={"adapter": "adapter_model.safetensors", "config": "adapter_config.json"},
        rank=rank,
        costs=costs,
        fidelity=fidelity,
        checks=checks,
        notes=job.hub_notes(),
        prompting=prompting,
        measured={**measured, "rank": rank},
    )


def _read_back(job: ExportJob, adapter: Adapter) -> tuple[Fidelity | None, tuple[str, ...]]:
    """The adapter as PEFT puts it on the base in the dtype of its files; why not, where not.

    Raises:
        ModelError: PEFT does not load it, or computes something else.
    """
    lm, why_not = _base_at_hand(job)
    if lm is None:
        return None, (f"Not checked: {why_not}.",)
    reference = ask_student(lm, job.student)
    lm.model.to(stored_dtype(job, torch.float32))
    with put_on(lm, [adapter]):
        made = served_logits(lm.model, lm.device, reference.probes)
    return read_adapter_by_peft(lm, job.folder, reference, made), ()


def _base_at_hand(job: ExportJob) -> tuple[LanguageModel | None, str]:
    """The base in float32; or None, and why it is not loaded: an adapter is written without it."""
    try:
        if job.options.device == "cpu" or default_device().type == "cpu":
            _refuse_too_large(job)
        return job.load_base(), ""
    except (ModelError, torch.OutOfMemoryError) as error:
        return None, str(error).splitlines()[0]


def _refuse_too_large(job: ExportJob) -> None:
    """Raises ModelError where the base in float32 is larger than the memory that is free."""
    trust = job.options.trust_remote_code
    meta = build_meta_model(job.config(), torch.float32, trust_remote_code=trust)
    needed, free = 4 * meta.identity.parameters, psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"the base takes {needed / 2**30:.1f} GiB in float32, and {free / 2**30:.1f} are free "
            "here"
        )
