"""An export read again from its files, by the library that it is for, before its card is written.

What is measured is what was written. A file that says something else than the model that was made
is refused, and what cannot be loaded here is said to be unchecked.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from steer_heal_love.errors import ModelError, RunError
from steer_heal_love.export.fidelity import (
    Fidelity,
    Probe,
    Reference,
    mean_kl_nats,
    measure_fidelity,
    refuse_infinite,
    served_logits,
)
from steer_heal_love.lm.model.gguf_reading import read_gguf
from steer_heal_love.lm.model.load import LanguageModel, describe, load_model
from steer_heal_love.lm.patches.by_peft import put_on_by_peft
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.records import Direction
from steer_heal_love.runs.read_files import read_direction

# A model may be so far from what its file says, against the cost of rounding it to its dtype: PEFT
# and the package's own hooks round at other places.
FACTOR, FLOOR_NATS = 3.0, 1e-5
NOT_RUN = "Not checked: llama.cpp did not run here"


def read_merged(
    folder: Path,
    reference: Reference,
    made: Sequence[Tensor],
    stop_ids: frozenset[int],
    *,
    dtype: torch.dtype,
    device: str,
    trust_remote_code: bool,
    date: datetime.date | None = None,
) -> Fidelity:
    """A merged model as transformers loads it, computed in its own dtype.

    Args:
        made: logits of the model that was written, before it was.
        date: that the run's prompts showed, where the chat template has a clock.

    Raises:
        ModelError: it cannot be loaded, stops elsewhere, renders prompts otherwise, or computes
            something else than the model that was written.
    """
    name = str(dtype).removeprefix("torch.")
    try:
        lm = load_model(
            str(folder),
            device=device,
            dtype=name,  # type: ignore[arg-type]
            trust_remote_code=trust_remote_code,
            date=date,
        )
    except ModelError as error:
        raise ModelError(f"what was written cannot be read back: {error}") from None
    _refuse_other_texts(lm, reference, stop_ids)
    logits = served_logits(lm.model, lm.device, reference.probes)
    return _hold_against(reference, made, logits, name, "transformers")


def read_model_gguf(
    path: Path,
    reference: Reference,
    made: Sequence[Tensor],
    *,
    stop_ids: frozenset[int],
    template: str,
    device: torch.device,
) -> tuple[Fidelity, tuple[str, ...]]:
    """A model in GGUF as transformers reads it, computed in float32; and what that leaves open.

    Raises:
        ModelError: as `read_merged`.
    """
    model, tokenizer = read_gguf(path, torch.float32)
    lm = describe(model.to(device), tokenizer, name=path.name)
    if lm.stop_ids != stop_ids:
        raise ModelError(_other_stops(lm.stop_ids, stop_ids))
    if tokenizer.chat_template != template:
        raise ModelError(f"{path.name} has another chat template than the base: nothing is kept")
    logits = served_logits(lm.model, lm.device, reference.probes)
    cost = _hold_against(reference, made, logits, "float32", "transformers' reader of GGUF")
    # That reader does not split text in all the ways that llama.cpp does by the name in the file.
    same = all(_encodes(lm, probe) for probe in reference.probes)
    prompts = "" if same else ", nor was how it splits a prompt into tokens"
    return cost, (f"{NOT_RUN}{prompts}.",)


def read_adapter_by_peft(
    lm: LanguageModel, folder: Path, reference: Reference, made: Sequence[Tensor]
) -> Fidelity:
    """An adapter as PEFT puts it on `lm`, which it wraps for good. Raises as `read_merged`."""
    model = put_on_by_peft(lm, folder)
    logits = served_logits(model, lm.device, reference.probes)
    name = str(lm.dtype).removeprefix("torch.")
    return _hold_against(reference, made, logits, name, "PEFT")


def _hold_against(
    reference: Reference,
    made: Sequence[Tensor],
    logits: Sequence[Tensor],
    computed_in: str,
    read_by: str,
) -> Fidelity:
    refuse_infinite(logits, f"what was written, read back by {read_by},")
    cost = measure_fidelity(reference, logits, computed_in, read_by)
    rounding = mean_kl_nats(reference.logits, made)
    between = mean_kl_nats(made, logits)
    if between > FACTOR * rounding + FLOOR_NATS:
        raise ModelError(
            f"what was written is not what was made: read back by {read_by} it diverges by "
            f"{between:.2g} nats per token from the model before it was written, and rounding "
            f"costs that {rounding:.2g}: nothing is kept; please report it with the base model's "
            "config.json"
        )
    return cost


def _refuse_other_texts(lm: LanguageModel, reference: Reference, stop_ids: frozenset[int]) -> None:
    if lm.stop_ids != stop_ids:
        raise ModelError(_other_stops(lm.stop_ids, stop_ids))
    for probe in reference.probes:
        if not _encodes(lm, probe):
            raise ModelError(
                "what was written renders a prompt otherwise than the base model does (it begins "
                f"{probe.asked[:40]!r}): nothing is kept"
            )


def _other_stops(written: frozenset[int], wanted: frozenset[int]) -> str:
    return (
        f"what was written stops at tokens {sorted(written)}, and the model at {sorted(wanted)}: "
        "nothing is kept"
    )


def _encodes(lm: LanguageModel, probe: Probe) -> bool:
    return tuple(encode_chat(lm, probe.asked)) == probe.prompt


def check_gguf_tensors(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raises ModelError where the float32 tensors of a GGUF file are not these, one for one."""
    stored = {tensor.name: np.asarray(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    for name, tensor in tensors:
        data = stored.pop(name, None)
        if data is None or not np.array_equal(data, tensor.float().cpu().numpy()):
            raise ModelError(f"{path.name}: {name!r} is not in the file as it was written")
    if stored:
        raise ModelError(f"{path.name}: {min(stored)!r} is in the file and was not written")


def check_direction(path: Path, direction: Direction) -> None:
    """Raises ModelError where the direction in a file is not this one."""
    try:
        stored = read_direction(path)
    except RunError as error:
        raise ModelError(f"what was written cannot be read back: {error}") from None
    if stored.layers != direction.layers or not torch.equal(stored.vectors, direction.vectors):
        raise ModelError(f"{path.name}: the direction in it is not the one that was written")
