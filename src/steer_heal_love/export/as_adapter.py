"""An export as a PEFT adapter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from steer_heal_love.export.content import ExportJob, ExportResult, adapter_fidelity, serve
from steer_heal_love.export.fidelity import Fidelity
from steer_heal_love.export.lora import compress, history_terms, one_adapter, rank_of, write_adapter
from steer_heal_love.lm.model.load import find_template, stop_ids_of


def write_peft(job: ExportJob) -> ExportResult:
    """One plain LoRA with the whole history, compressed and padded as wished.

    Raises:
        ConfigError: the rank is out of bounds.
        ModelError: an adapter of the run is not plain LoRA.
    """
    base, like, options = job.student.base, job.student.adapters[-1], job.options
    terms = history_terms(job.student.adapters)
    costs: tuple[str, ...] = ()
    measured: dict[str, Any] = {}
    fidelity: Fidelity | None = None
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
    if options.rank is not None:
        fidelity = adapter_fidelity(job, adapter)
    tokenizer, config = job.tokenizer(), job.config()
    template = find_template(tokenizer, base.label, job.student.day)
    prompting = serve(template, stop_ids_of(config.get_text_config(), tokenizer))
    tokenizer.save_pretrained(job.folder)
    write_adapter(adapter, job.folder)
    rank = int(adapter.config["r"])
    return ExportResult(
        files={"adapter": "adapter_model.safetensors", "config": "adapter_config.json"},
        rank=rank,
        costs=costs,
        fidelity=fidelity,
        notes=job.hub_notes(),
        prompting=prompting,
        measured={**measured, "rank": rank},
    )
