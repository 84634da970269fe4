"""llama.cpp's own converter scripts, for what is not written to GGUF here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from steer_heal_love.errors import ConfigError, ModelError

MODEL_SCRIPT = "convert_hf_to_gguf.py"
LORA_SCRIPT = "convert_lora_to_gguf.py"
OUT_TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_HOURS = 4


def check_scripts(source: Path) -> None:
    """Raises ConfigError where a folder is no source tree of llama.cpp with its converters."""
    for script in (MODEL_SCRIPT, LORA_SCRIPT):
        if not (source / script).is_file():
            raise ConfigError(
                f"--llama-cpp {source} holds no {script}: give the folder of llama.cpp's source "
                "(git clone https://github.com/ggml-org/llama.cpp)"
            )


def convert_model(source: Path, model: Path, out: Path, dtype: torch.dtype) -> None:
    """Convert a folder of a transformers model by llama.cpp's script.

    Raises:
        ModelError: the script failed; its last line is told.
    """
    out_type = OUT_TYPES[dtype]
    _run(source / MODEL_SCRIPT, [str(model), "--outfile", str(out), "--outtype", out_type], out)


def convert_lora(source: Path, adapter: Path, base: Path, out: Path) -> None:
    """Convert a PEFT adapter's folder by llama.cpp's script.

    Args:
        base: a folder with the base model's config.json and tokenizer.

    Raises:
        ModelError: the script failed; its last line is told.
    """
    arguments = [str(adapter), "--base", str(base), "--outfile", str(out), "--outtype", "f32"]
    _run(source / LORA_SCRIPT, arguments, out)


def _run(script: Path, arguments: Sequence[str], out: Path) -> None:
    # What a user's environment names is not fetched: the folders given hold all that is needed.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(  # noqa: S603  (the user named the script's folder)
            [sys.executable, str(script.absolute()), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_HOURS * 3600,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{script} did not end within {_HOURS} hours") from None
    if done.returncode != 0 or not out.is_file():
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise ModelError(
            f"{script} failed: {last}: it may need packages "
            "(pip install 'steer-heal-love[gguf]') or a llama.cpp that knows this model"
        )
