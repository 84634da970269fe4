"""The base model's measurements, kept from run to run: same model, items and code, same figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from steer_heal_love.errors import RunError
from steer_heal_love.lm.model.gguf import cache_dir
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.piece_names import BASELINE, PieceName, is_rival
from steer_heal_love.records import Axis, Context, Pieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.codec import pack, unpack
from steer_heal_love.runs.files import write_bytes
from steer_heal_love.stages.instruments.foundations import Foundations

T = TypeVar("T")

KEPT = 64  # baselines; the least recently used goes first

# What a baseline is computed by, in the package.
_CODE = (
    *("lm", "maths", "stages", "data", "records.py", "run_config.py"),
    *("inputs/prompts.py", "inputs/vignettes.py"),
    *(f"loop/{name}.py" for name in ("context", "collect", "measure", "heal", "dose_curve")),
    "loop/rivals",
)
# Settings that no baseline depends on.
_WITHOUT = dict.fromkeys(
    ("rounds", "steer", "dosing", "heal", "method", "online", "axis", "model"), True
)
_WITHOUT_EVALUATE = {
    *("front", "front_temperatures", "front_contrasts", "front_random", "front_measure"),
    *("rivals", "max_perplexity_ratio", "max_loop_excess"),
}


class WithBaselines:
    """Pieces of a run, where those of the base model are also looked up in the user's cache."""

    def __init__(
        self, pieces: Pieces, folder: Path, rivals: Path, on_hit: Callable[[str], None]
    ) -> None:
        self.pieces, self.folder, self.rivals, self.on_hit = pieces, folder, rivals, on_hit

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The run's own piece; else, of the base model, the cached one; else it is computed."""
        of_base = PieceName(name).inside(BASELINE)
        if of_base is None:
            return self.pieces.do(name, compute)
        folder = self.rivals if is_rival(of_base) else self.folder
        file = folder / f"{of_base}.safetensors"

        def look_up() -> T:
            stored = _stored(file)
            if stored is not None:
                self.on_hit(name)
                return cast("T", stored)
            value = compute()
            _store(file, value)
            return value

        return self.pieces.do(name, look_up)

    def forget(self, prefix: str) -> None:
        """Of the run; the cache keeps what it has."""
        self.pieces.forget(prefix)


def cache_baselines(
    pieces: Pieces,
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    *,
    on_hit: Callable[[str], None] = lambda _name: None,
) -> Pieces:
    """The pieces, with the cache of this model, these items, this code and this machine.

    Nothing is cached where tiny-mfv's own package measures, whose code is not known here.

    Args:
        on_hit: told the name of each piece that was found in the cache.
    """
    if config.evaluate.mfv == "package":
        return pieces
    root = cache_dir() / "baselines"
    folder, rivals = (root / _key(lm, axis, contexts, c) for c in (config, _of_rivals(config)))
    _trim(root, keep=[folder.name, rivals.name])
    return WithBaselines(pieces, folder, rivals, on_hit)


def _of_rivals(config: RunConfig) -> RunConfig:
    """What rivals depend on: neither the run's seed, nor how many rows go through at a time, nor
    what else is measured.
    """
    usual = RunConfig()
    names = ("front_samples", "max_new_tokens", "relevance_others")
    evaluate = {name: getattr(config.evaluate, name) for name in names}
    return config.model_copy(
        update={
            "seed": usual.seed,
            "generate": config.generate.model_copy(update={"batch_size": None}),
            "evaluate": usual.evaluate.model_copy(update=evaluate),
        }
    )


def _stored(file: Path) -> Any:
    """The value under its hash; None where the file is missing or broken."""
    try:
        stored = file.read_bytes()
        data = stored[64:]
        if hashlib.sha256(data).hexdigest().encode() == stored[:64]:
            return unpack(data, str(file))
    except (OSError, RunError):
        pass
    return None


def _store(file: Path, value: Any) -> None:
    data = pack(value)
    # A full or read-only cache costs time in the next run, and nothing in this one.
    with suppress(RunError):
        write_bytes(file, hashlib.sha256(data).hexdigest().encode() + data)


def _key(lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: RunConfig) -> str:
    settings = config.model_dump(exclude=cast("Any", _WITHOUT))
    settings["evaluate"] = {
        k: v for k, v in settings["evaluate"].items() if k not in _WITHOUT_EVALUATE
    }
    settings["dose"] = {"min_prompts": config.dose.min_prompts}
    cpu = torch.backends.cpu.get_cpu_capability()
    depends_on = {
        "model": asdict(lm.identity) | {"source": ""},
        "device": [lm.device.type, torch.get_num_threads(), cpu],
        "libraries": [torch.__version__, version("transformers")],
        "axis": asdict(axis),
        "contexts": [asdict(c) for c in contexts],
        "vignettes": [asdict(v) for v in Foundations(config.evaluate).vignettes],
        "settings": settings,
        "code": _code_hash(),
    }
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code_hash() -> str:
    """Hash of everything in the package that a measurement of the base model goes through."""
    digest = hashlib.sha256()
    root = resources.files("steer_heal_love")
    for name in _CODE:
        for file in _files(root / name):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _files(place: Traversable) -> list[Traversable]:
    if place.is_file():
        return [place]
    inside = sorted((p for p in place.iterdir() if p.name != "__pycache__"), key=lambda p: p.name)
    return [file for part in inside for file in _files(part)]


def _trim(root: Path, keep: Sequence[str]) -> None:
    """Let go of the baselines that were not written to for longest, beyond `KEPT`."""
    try:
        folders = sorted(root.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in [f for f in folders if f.name not in keep][KEPT:]:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    except OSError:
        pass  # no cache yet, or another process is at it
