"""A model written as transformers writes it, with all that a program needs to load it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel, load_config
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers
from steer_heal_love.lm.model.sources import resolve

# Files beside a model's weights that neither the model nor the tokenizer writes: how images, videos
# and sound go in (AutoProcessor, vLLM), and tokenizers in the form that other converters read.
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
COMPANIONS = (
    *PROCESSORS,
    *("chat_template.json", "audio_tokenizer_config.json", "feature_extractor_config.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
)
# What transformers writes anew and not in full: other programs, and its own older versions, read in
# the base's own files which added tokens there are and what class the tokenizer is of.
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
_OTHER_SENSES = ("vision_config", "audio_config")


def save_model(lm: LanguageModel, folder: Path) -> None:
    """Write weights, configuration and tokenizer as transformers does, safetensors.

    What the configurations say follows the model as it is: whether its head is its embedding's own
    tensor, and every token that it stops at. The path that the model was read from does not go
    along, and the files may be read by whom the user's umask lets.

    Raises:
        ModelError: transformers refuses to write the model's configuration.
    """
    lm.model.config.name_or_path = ""
    _follow_tensors(lm.model)
    with quiet_transformers():
        _settle_generation(lm)
        try:
            lm.model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)
        except ValueError as error:
            raise ModelError(f"the model cannot be written: {first_line(error)}") from error
    mode = (folder / "config.json").stat().st_mode
    for weights in folder.glob("*.safetensors"):  # written for their owner alone
        weights.chmod(mode)


def has_tied_head(model: Any) -> bool:
    """Whether the output head is the embedding's own tensor, whatever the configuration says."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return bool(head.weight.data_ptr() == embedding.weight.data_ptr())


def _follow_tensors(model: Any) -> None:
    if not has_tied_head(model):
        for config in (model.config, model.config.get_text_config()):
            if getattr(config, "tie_word_embeddings", False):
                config.tie_word_embeddings = False


def _settle_generation(lm: LanguageModel) -> None:
    """All stop tokens, the file's own first; and settings that transformers takes back.

    It reads a file that has a temperature and yet does not sample, and refuses to write it.
    """
    generation = lm.model.generation_config
    known = generation.eos_token_id
    first = [known] if isinstance(known, int) else list(known or [])
    stops = list(dict.fromkeys([*first, *sorted(lm.stop_ids)]))
    generation.eos_token_id = stops[0] if len(stops) == 1 else stops or None
    if isinstance(generation.pad_token_id, int) and generation.pad_token_id < 0:
        generation.pad_token_id = None
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True


def copy_companions(spec: str, folder: Path, *, trust_remote_code: bool = False) -> list[str]:
    """Copy what lies beside a base model's weights and is not in the folder yet; gives its names.

    From the model's own folder, or from the hub's cache and the hub. The base's own tokenizer takes
    the place of the one that was written; a chat template in a file of its own stays.
    """
    source, _ = resolve(spec)
    config = load_config(spec, trust_remote_code=trust_remote_code)
    revision = getattr(config, "_commit_hash", None)
    copied = []
    for name in (*COMPANIONS, *TOKENIZERS):
        if (folder / name).exists() and name not in TOKENIZERS:
            continue
        path = _beside(source, name, revision)
        if path is not None:
            shutil.copyfile(path, folder / name)
            copied.append(name)
    _settle_tokenizer(folder / "tokenizer_config.json")
    return copied


def _settle_tokenizer(file: Path) -> None:
    """Take out of a tokenizer's configuration where it was read from, and a second chat template.

    The export's own template has a file of its own, which not every program looks at first.
    """
    content = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    stale = ["name_or_path"]
    if (file.parent / "chat_template.jinja").is_file():
        stale.append("chat_template")
    if any(name in content for name in stale):
        for name in stale:
            content.pop(name, None)
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def lacking_companions(config: Any, folder: Path) -> Iterator[str]:
    """What the folder of a model lacks to be loaded with all its senses, in sentences."""
    senses = any(getattr(config, name, None) is not None for name in _OTHER_SENSES)
    if senses and not any((folder / name).is_file() for name in PROCESSORS):
        yield (
            "The base model takes more than text, and no file that says how was found beside it "
            f"({', '.join(PROCESSORS)}): AutoProcessor and vLLM need it; copy it from the base."
        )


def _beside(source: str, name: str, revision: str | None) -> Path | None:
    """A file of a model's folder or hub repository; None where there is none, or no way to it."""
    folder = Path(source)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        return Path(huggingface_hub.hf_hub_download(source, name, revision=revision))
    except (HTTPError, OSError, ValueError):  # offline, gated, not there
        return None
