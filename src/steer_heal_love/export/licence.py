"""The licence of a base model, which goes with everything that is made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import yaml
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from steer_heal_love.lm.model.gguf import find_packaged_gguf
from steer_heal_love.lm.model.gguf_reading import open_gguf
from steer_heal_love.lm.model.sources import ALIAS

# Files that a licence may oblige whoever passes the model on to pass on too.
FILES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
HUB_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "USE_POLICY.md")
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Licence:
    """A licence by the name that the hub's cards use, and the files that state it."""

    id: str | None  # apache-2.0, gemma, other, …; None where nothing was found
    source: str  # where it was found, in words
    name: str | None = None  # of a licence whose id is "other"
    link: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()


def find_licence(spec: str, hub_id: str | None, stated: str | None = None) -> Licence:
    """The licence of the model that `spec` loads.

    Looked for in the metadata of a GGUF file, beside the weights of a folder, and in the card of
    a model that comes from the hub.

    Raises:
        ModelError: a GGUF file is broken, or holds no model.

    Args:
        hub_id: the model's name on the hub, where it has one.
        stated: what the user says it is; files that are found go along even so.
    """
    licence = _find(spec, hub_id)
    if stated is None:
        return licence
    return replace(licence, id=stated, source="given by hand")


def _find(spec: str, hub_id: str | None) -> Licence:
    packaged = find_packaged_gguf() if spec == ALIAS else None
    path = packaged or Path(spec).expanduser()
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _of_gguf(path)
    if path.is_dir():
        return _of_folder(path)
    return _of_hub(hub_id) if hub_id is not None else Licence(None, "not found")


def _of_gguf(path: Path) -> Licence:
    keys = gguf.Keys.General
    reader = open_gguf(path)
    values = {
        key: str(field.contents())
        for key in (keys.LICENSE, keys.LICENSE_NAME, keys.LICENSE_LINK)
        if (field := reader.get_field(key)) is not None
    }
    return Licence(
        values.get(keys.LICENSE),
        f"from the metadata of {path.name}",
        values.get(keys.LICENSE_NAME),
        values.get(keys.LICENSE_LINK),
    )


def _of_folder(folder: Path) -> Licence:
    files = {p.name: p.read_bytes() for p in _licence_files(folder)}
    return _of_card(folder / "README.md", "from the card beside the weights", files)


def _licence_files(folder: Path) -> Iterator[Path]:
    for pattern in FILES:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                yield path


def _of_hub(hub_id: str) -> Licence:
    paths = {name: _fetch(hub_id, name) for name in HUB_FILES}
    files = {name: path.read_bytes() for name, path in paths.items() if path is not None}
    return _of_card(_fetch(hub_id, "README.md"), f"from the card of {hub_id}", files)


def _fetch(hub_id: str, name: str) -> Path | None:
    """A file of a hub model, from its cache or the network; None where it is in neither."""
    try:
        return Path(huggingface_hub.hf_hub_download(hub_id, name))
    except (HTTPError, OSError, ValueError):  # offline, gated, not there, or no hub id
        return None


def _of_card(card: Path | None, source: str, files: Mapping[str, bytes]) -> Licence:
    meta: dict[str, Any] = {}
    if card is not None and card.is_file():
        try:
            meta = huggingface_hub.metadata_load(card) or {}
        except (ValueError, yaml.YAMLError):  # front matter that is no YAML names no licence
            meta = {}
    whole = tuple(sorted(files.items()))
    if not meta.get("license"):
        return Licence(None, "not found" if not files else "only its files were found", files=whole)
    name, link = meta.get("license_name"), meta.get("license_link")
    return Licence(
        str(meta["license"]),
        source,
        str(name) if name else None,
        str(link) if link else None,
        whole,
    )
