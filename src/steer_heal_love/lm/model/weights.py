"""The weights of a checkpoint, every one of them: none is left at random without a word."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import Any

import transformers

from steer_heal_love.errors import ModelError

LOG = logging.getLogger(__name__)

# What torch.compile, PEFT and DataParallel put before the names of the model that they wrap.
WRAPPERS = ("_orig_mod.", "base_model.model.", "module.")


def read_weights(spec: str, folder: str, **options: Any) -> Any:
    """A causal language model whose weights all come from its files.

    Where the names in the files are the model's own behind a wrapper's prefix, that is taken off.

    Args:
        spec: what the user calls the model.
        folder: folder or hub id, and `options`: as `from_pretrained` takes them.

    Raises:
        ModelError: a weight is not in the files, or has another shape there; says which.
    """
    model, told = _read(folder, options)
    prefix = _wrapper(told["missing_keys"], told["unexpected_keys"])
    if prefix is not None:
        model, told = _read(folder, {**options, "key_mapping": {f"^{re.escape(prefix)}": ""}})
    missing, extra = sorted(told["missing_keys"]), sorted(told["unexpected_keys"])
    if missing:
        also = f", and {len(extra)} in them belong to nothing (first: {extra[0]})" if extra else ""
        raise ModelError(
            f"model {spec}: {len(missing)} weight(s) are not in its files (first: {missing[0]})"
            f"{also}: save the whole model under its own names"
        )
    if told["mismatched_keys"]:
        name, stored, shape = min(told["mismatched_keys"])
        raise ModelError(
            f"model {spec}: {len(told['mismatched_keys'])} weight(s) have another shape in its "
            f"files (first: {name}, {list(stored)} in place of {list(shape)}): its config.json is "
            "of another model"
        )
    if extra:
        unused = "model %s: %d weight(s) of its files are not used (first: %s)"
        LOG.warning(unused, spec, len(extra), extra[0])
    return model


def _read(folder: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are told by name
        **options,
    )
    return model, told


def _wrapper(missing: Collection[str], extra: Collection[str]) -> str | None:
    """The prefix that all names in the files have that the model lacks, without which it has them.

    Of what is missing some may not be stored at all: a head that is tied to the embeddings.
    """
    for prefix in WRAPPERS:
        behind = {name.removeprefix(prefix) for name in extra if name.startswith(prefix)}
        if extra and len(behind) == len(extra) and behind <= set(missing):
            return prefix
    return None
