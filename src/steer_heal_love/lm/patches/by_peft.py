"""An adapter put on by PEFT itself, from its files: what other programs make of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers


def put_on_by_peft(lm: LanguageModel, folder: Path) -> Any:
    """PEFT's own model of the base and an adapter's folder. The base is wrapped for good.

    Raises:
        ModelError: PEFT does not load the adapter.
    """
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return peft.PeftModel.from_pretrained(lm.model, folder).eval()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"PEFT does not load what was written: {first_line(error)}") from error
