"""TOML files that come with the package, each found by its name."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

_END = ".toml"


def bundled_names(folder: str) -> list[str]:
    """Names of the files of a folder of data/, such as "axes"; sorted."""
    names = (file.name for file in _folder(folder).iterdir())
    return sorted(name.removesuffix(_END) for name in names if name.endswith(_END))


def read_bundled(folder: str, name: str) -> str:
    """The text of one of them."""
    return (_folder(folder) / f"{name}{_END}").read_text(encoding="utf-8")


def _folder(name: str) -> Traversable:
    return resources.files("steer_heal_love") / "data" / name
