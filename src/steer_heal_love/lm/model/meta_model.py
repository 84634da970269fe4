"""A language model without its weights: all shapes, on torch's meta device, no byte of memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import transformers

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers
from steer_heal_love.lm.model.template import ChatTemplate

# All that `describe` asks of a tokenizer; nothing is encoded with it.
_NO_TOKENIZER = SimpleNamespace(chat_template="none", pad_token_id=0, eos_token_id=None)


def build_meta_model(
    config: Any,
    dtype: torch.dtype,
    *,
    name: str = "in-memory",
    tokenizer: Any = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """The model of a transformers configuration with shapes alone: its passes compute nothing.

    Args:
        config: as `load_config` gives it; it is not written to.
        tokenizer: the model's own, where texts are to be encoded with it.

    Raises:
        ModelError: transformers makes no causal language model of it, or this package does not
            know its decoder.
    """
    copy = type(config).from_dict(config.to_dict())
    with quiet_transformers(), torch.device("meta"):
        try:
            model = transformers.AutoModelForCausalLM.from_config(
                copy, dtype=dtype, trust_remote_code=trust_remote_code
            )
        except (ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
            raise ModelError(
                f"model {name!r}: no language model can be made of its config.json: "
                f"{first_line(error)}"
            ) from error
    if tokenizer is not None:
        return describe(model, tokenizer, name=name)
    return describe(model, _NO_TOKENIZER, name=name, template=ChatTemplate(_NO_TOKENIZER))


def config_of(values: dict[str, Any]) -> Any:
    """The transformers configuration of plain values, as of a config.json.

    Raises:
        ModelError: they name no architecture that transformers knows.
    """
    settings = dict(values)
    model_type = settings.pop("model_type", None)
    try:
        return transformers.AutoConfig.for_model(model_type, **settings)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"no configuration of kind {model_type!r}: {first_line(error)}") from error
