"""An export as a merged model: in safetensors, or in GGUF with adapter and control vector."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.export.as_vector import layer_notes
from steer_heal_love.export.card import front_matter
from steer_heal_love.export.fidelity import Fidelity, Reference
from steer_heal_love.export.gguf import llama_cpp
from steer_heal_love.export.gguf.files import (
    direction_tensors,
    lora_tensors,
    write_control_vector,
    write_lora,
    write_model,
)
from steer_heal_love.export.gguf.layout import layout_of, refuse_other_tensors
from steer_heal_love.export.gguf.stops import stop_roles
from steer_heal_love.export.gguf.tokenizer import chat_template, check_tokenizer
from steer_heal_love.export.job import (
    ExportJob,
    ExportResult,
    merged_model,
    serve,
    stored_dtype,
)
from steer_heal_love.export.lora import history_terms, one_adapter, write_adapter
from steer_heal_love.export.read_back import (
    NOT_RUN,
    check_gguf_tensors,
    read_merged,
    read_model_gguf,
)
from steer_heal_love.lm.model.load import LanguageModel, stop_ids_of
from steer_heal_love.lm.model.meta_model import build_meta_model
from steer_heal_love.lm.model.save import copy_companions, lacking_companions, save_model
from steer_heal_love.runs.files import write_text

_NUMBERS = "Adapter and control vector were read back number by number, and run nowhere."


def write_merged(job: ExportJob) -> ExportResult:
    """The whole model in safetensors, read back by transformers in its own dtype.

    Raises:
        ModelError: the base is quantised, the adapters do not fit it, a weight does not fit the
            dtype, or what was written is not what was made.
    """
    dtype, trust = job.options.dtype or stored_dtype(job), job.options.trust_remote_code
    lm, reference, made = merged_model(job, dtype, dtype)
    prompting = serve(lm.template, lm.stop_ids)
    save_model(lm, job.folder)
    copy_companions(job.student.base.spec, job.folder, trust_remote_code=trust)
    lacking = tuple(lacking_companions(lm.model.config, job.folder))
    stop_ids, notes, device = lm.stop_ids, job.base_notes(lm), job.options.device
    del lm  # one model at a time
    job.say("reading it back …")
    fidelity = read_merged(
        job.folder,
        reference,
        made,
        stop_ids,
        dtype=dtype,
        device=device,
        trust_remote_code=trust,
        date=job.student.day,
    )
    name = str(dtype).removeprefix("torch.")
    return ExportResult(
        files={"model": _weights_name(job.folder), "config": "config.json"},
        dtype=name,
        fidelity=fidelity,
        notes=(*notes, *lacking),
        prompting=prompting,
        measured={"dtype": name},
    )


def _weights_name(folder: Path) -> str:
    """The one file of weights, or the index of several."""
    index = "model.safetensors.index.json"
    return index if (folder / index).is_file() else "model.safetensors"


def write_gguf(job: ExportJob) -> ExportResult:
    """The whole model, the adapter as a LoRA and the base's direction, each as a GGUF file.

    Raises:
        ConfigError: the architecture or the tokenizer is not written here and llama.cpp's
            scripts were not given.
        ModelError: as `write_merged`, or a script failed.
    """
    dtype = job.options.dtype or torch.float16
    _check_ways(job)  # before minutes go into what could not be written
    lm, reference, made = merged_model(job, dtype, torch.float32)
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
    check_gguf_tensors(job.folder / files["control_vector"], direction_tensors(first))
    notes = (*layer_notes(first.layers), *job.base_notes(lm))
    kept = _Kept(lm.stop_ids, lm.tokenizer, lm.device)
    del lm  # one model at a time
    job.say("reading it back …")
    fidelity, checks, left_out = _read_back(job, reference, made, job.folder / files["model"], kept)
    name = str(dtype).removeprefix("torch.")
    return ExportResult(
        files=files,
        dtype=name,
        fidelity=fidelity,
        checks=checks,
        notes=(*notes, *left_out),
        prompting=prompting,
        measured={"dtype": name},
    )


@dataclass(frozen=True)
class _Kept:
    """What is remembered of a merged model after its weights are let go."""

    stop_ids: frozenset[int]
    tokenizer: Any
    device: torch.device


def _read_back(
    job: ExportJob, reference: Reference, made: Sequence[Tensor], path: Path, kept: _Kept
) -> tuple[Fidelity | None, tuple[str, ...], tuple[str, ...]]:
    """The file of the model against the student; what was not checked; stop tokens left out.

    Raises:
        ModelError: a file that was written here is not what was made.
    """
    template = chat_template(kept.tokenizer)
    read = partial(read_model_gguf, path, reference, made, template=template, device=kept.device)
    if job.options.llama_cpp is None:
        stops = stop_roles(kept.tokenizer, kept.stop_ids)
        cost, checks = read(stop_ids=frozenset(stops.roles.values()))
        return cost, (*checks, _NUMBERS), stops.notes()
    try:
        cost, checks = read(stop_ids=kept.stop_ids)
    except ModelError as error:  # the file, or that reading of it: only llama.cpp can tell
        why = str(error).removesuffix(": nothing is kept")
        words = f"{NOT_RUN}, and transformers does not bear its script out: {why}."
        return None, (words,), ()
    return cost, checks, ()


def _check_ways(job: ExportJob) -> None:
    if job.options.llama_cpp is not None:
        llama_cpp.check_scripts(job.options.llama_cpp)
        return
    layout = layout_of(job.config())
    trust = job.options.trust_remote_code
    meta = build_meta_model(job.config(), torch.float32, trust_remote_code=trust)
    refuse_other_tensors(meta.model, layout)
    check_tokenizer(job.tokenizer(), job.config().vocab_size)


def _write_here(job: ExportJob, lm: LanguageModel, files: Mapping[str, str]) -> None:
    about = job.about(f"The student after round {job.student.round}.")
    write_model(lm, job.folder / files["model"], about, job.folder)
    terms = history_terms(job.student.adapters)
    config, lora = lm.model.config, job.folder / files["lora"]
    write_lora(terms, config, lora, about)
    check_gguf_tensors(lora, lora_tensors(terms, config))


def _convert(
    job: ExportJob, lm: LanguageModel, files: Mapping[str, str], dtype: torch.dtype, source: Path
) -> None:
    """Model and adapter by llama.cpp's own scripts, from a folder that is deleted again."""
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=job.folder) as name:
        # The scripts name the files by these folders, and take the rest from the card in them.
        model, adapter = Path(name) / job.student.slug, Path(name) / f"{job.student.slug}-lora"
        model.mkdir()
        save_model(lm, model)
        trust = job.options.trust_remote_code
        copy_companions(job.student.base.spec, model, trust_remote_code=trust)
        card = f"---\n{front_matter('gguf', job.student, job.licence)}\n---\n"
        for folder in (model, adapter):
            write_text(folder / "README.md", card)
        llama_cpp.convert_model(source, model, job.folder / files["model"], dtype)
        terms = history_terms(job.student.adapters)
        write_adapter(one_adapter(terms, job.student.adapters[-1], str(model)), adapter)
        llama_cpp.convert_lora(source, adapter, model, job.folder / files["lora"])
