"""Read an export back: which model to load for it, and which adapters to put on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ModelError
from steer_heal_love.export.sidecar import REPRODUCE, SIDECAR
from steer_heal_love.records import Adapter
from steer_heal_love.runs.read_adapter import read_adapter
from steer_heal_love.runs.read_files import read_json


@dataclass(frozen=True)
class Opened:
    """What loads an export: a model for `lm.load.load_model`, and adapters to put on it."""

    model: str
    adapters: tuple[Adapter, ...] = ()
    revision: str | None = None  # of the weights that the adapters were made for, where known
    reproduce: Path | None = None  # folder of the run's settings and axis; None: it is no export

    def doubt(self, revision: str) -> str | None:
        """What to say where the model at hand has other weights than the adapters were made for."""
        if self.revision in (None, "unknown", revision) or revision == "unknown":
            return None
        return (
            f"the adapter was made for weights {str(self.revision)[:19]}, and {self.model} has "
            f"{revision[:19]} here: what it does on these was never measured"
        )


def open_exported(spec: str) -> Opened:
    """What to load for a folder of `shl export`, a folder with a PEFT adapter, or any model.

    Of an adapter's folder, the base model is the one that the export noted, else the one that
    PEFT's configuration names. Anything else is for `load_model` to know.

    Raises:
        ModelError: the folder holds vectors only, or the adapter's base is not named.
        RunError: the adapter is broken.
    """
    return replace(_open(spec), reproduce=_reproduce(Path(spec).expanduser()))


def holds_model(folder: Path) -> bool:
    """Whether a folder has a model, an adapter or exports in it, whole or not."""
    names = ("config.json", "adapter_config.json", SIDECAR)
    return any((folder / n).is_file() for n in names) or any(folder.glob(f"*/{SIDECAR}"))


def _reproduce(path: Path) -> Path | None:
    """Of an export's folder, or of a GGUF file in it, what the run is made again by."""
    folder = path.parent if path.suffix.lower() == ".gguf" else path
    reproduce = folder / REPRODUCE
    return reproduce if (folder / SIDECAR).is_file() and reproduce.is_dir() else None


def _open(spec: str) -> Opened:
    folder = Path(spec).expanduser()
    if not folder.is_dir() or (folder / "config.json").is_file():
        return Opened(spec)
    noted = read_json(folder / SIDECAR)
    note: Mapping[str, Any] = noted if isinstance(noted, dict) else {}
    if (folder / "adapter_config.json").is_file():
        return _open_adapter(folder, note)
    match note.get("kind"), _name_in(note, "model"):
        case "gguf", str(name):
            return Opened(str(folder / name))
        case "vector", _:
            raise ModelError(f"{spec} holds a direction, not a model: give the model it is for")
    inside = sorted(p.parent.name for p in folder.glob(f"*/{SIDECAR}"))
    if inside:
        raise ModelError(f"{spec} holds several exports: give one of them, {', '.join(inside)}")
    return Opened(spec)


def _open_adapter(folder: Path, note: Mapping[str, Any]) -> Opened:
    adapter = read_adapter(folder)
    base = note.get("base")
    noted: Mapping[str, Any] = base if isinstance(base, dict) else {}
    model = noted.get("model") or adapter.config.get("base_model_name_or_path")
    if not isinstance(model, str) or not model:
        raise ModelError(
            f"adapter {folder} does not name its base model: give that model and --adapter {folder}"
        )
    revision = noted.get("revision")
    return Opened(model, (adapter,), revision if isinstance(revision, str) else None)


def _name_in(note: Mapping[str, Any], key: str) -> str | None:
    """The name of a GGUF file of the export: a name only, no way out of the folder."""
    files = note.get("files")
    name = files.get(key) if isinstance(files, dict) else None
    inside = isinstance(name, str) and name == Path(name).name and name.endswith(".gguf")
    return str(name) if inside else None
