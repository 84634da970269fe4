"""An export as a merged model: in safetensors, or in GGUF with adapter and control vector."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from steer_heal_love.export.as_vector import layer_notes
from steer_heal_love.export.card import front_matter
from steer_heal_love.export.content import (
    ExportJob,
    ExportResult,
    merged_model,
    serve,
    stored_dtype,
)
from steer_heal_love.export.gguf import llama_cpp
from steer_heal_love.export.gguf.files import write_control_vector, write_lora, write_model
from steer_heal_love.export.gguf.layout import layout_of
from steer_heal_love.export.gguf.tokenizer import check_tokenizer
from steer_heal_love.export.lora import history_terms, one_adapter, write_adapter
from steer_heal_love.lm.model.load import LanguageModel, save_model, stop_ids_of
from steer_heal_love.runs.files import write_text


def write_merged(job: ExportJob) -> ExportResult:
    """The whole model in safetensors.

    Raises:
        ModelError: the adapters do not fit the model, or a weight does not fit the dtype.
    """
    dtype = job.options.dtype or stored_dtype(job)
    lm, fidelity = merged_model(job, dtype)
    prompting = serve(lm.template, lm.stop_ids)
    save_model(lm, job.folder)
    name = str(dtype).removeprefix("torch.")
    return ExportResult(
        files={"model": "model.safetensors", "config": "config.json"},
        dtype=name,
        fidelity=fidelity,
        notes=job.base_notes(lm),
        prompting=prompting,
        measured={"dtype": name},
    )


def write_gguf(job: ExportJob) -> ExportResult:
    """The whole model, the adapter as a LoRA and the base's direction, each as a GGUF file.

    Raises:
        ConfigError: the architecture or the tokenizer is not written here and llama.cpp's
            scripts were not given.
        ModelError: as `write_merged`, or a script failed.
    """
    dtype = job.options.dtype or torch.float16
    _check_ways(job)  # before minutes go into what could not be written
    lm, fidelity = merged_model(job, dtype)
    slug, short = job.student.slug, llama_cpp.OUT_TYPES[dtype]
    files = {
        "model": f"{slug}-{short}.gguf",
        "lora": f"{slug}-lora-f32.gguf",
        "control_vector": f"{slug}-control-vector.gguf",
    }
    prompting = serve(lm.template, stop_ids_of(lm.model.config, lm.tokenizer))
    lm.tokenizer.save_pretrained(job.folder)
    job.say("writing GGUF …")
    if job.options.llama_cpp is None:
        _write_here(job, lm, files)
    else:
        _convert(job, lm, files, dtype, job.options.llama_cpp)
    first = job.student.view.direction(0)
    write_control_vector(
        first,
        lm.model.config.model_type,
        job.folder / files["control_vector"],
        job.about("The direction that was read from the untouched base model."),
    )
    name = str(dtype).removeprefix("torch.")
    return ExportResult(
        files=files,
        dtype=name,
        fidelity=fidelity,
        notes=(*layer_notes(first.layers), *job.base_notes(lm)),
        prompting=prompting,
        measured={"dtype": name},
    )


def _check_ways(job: ExportJob) -> None:
    if job.options.llama_cpp is not None:
        llama_cpp.check_scripts(job.options.llama_cpp)
    else:
        layout_of(job.config())
        check_tokenizer(job.tokenizer())


def _write_here(job: ExportJob, lm: LanguageModel, files: Mapping[str, str]) -> None:
    about = job.about(f"The student after round {job.student.round}.")
    write_model(lm, job.folder / files["model"], about, job.folder)
    terms = history_terms(job.student.adapters)
    write_lora(terms, lm.model.config, job.folder / files["lora"], about)


def _convert(
    job: ExportJob, lm: LanguageModel, files: Mapping[str, str], dtype: torch.dtype, source: Path
) -> None:
    """Model and adapter by llama.cpp's own scripts, from a folder that is deleted again."""
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=job.folder) as name:
        # The scripts name the files by these folders, and take the rest from the card in them.
        model, adapter = Path(name) / job.student.slug, Path(name) / f"{job.student.slug}-lora"
        model.mkdir()
        save_model(lm, model)
        card = f"---\n{front_matter('gguf', job.student, job.licence)}\n---\n"
        for folder in (model, adapter):
            write_text(folder / "README.md", card)
        llama_cpp.convert_model(source, model, job.folder / files["model"], dtype)
        terms = history_terms(job.student.adapters)
        write_adapter(one_adapter(terms, job.student.adapters[-1], str(model)), adapter)
        llama_cpp.convert_lora(source, adapter, model, job.folder / files["lora"])
