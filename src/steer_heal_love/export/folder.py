"""A folder that appears under its name when it is whole, and never half."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors import SafetensorError

from steer_heal_love.errors import RunError
from steer_heal_love.runs.files import explain, remove_tree, rename_folder


def refuse_filled(target: Path) -> None:
    """Raises RunError where something is at this path already, other than an empty folder."""
    if target.is_dir() and not target.is_symlink():
        if not any(target.iterdir()):
            return
        raise RunError(f"folder {target} is not empty: choose another --to, or empty it")
    if target.exists() or target.is_symlink():
        raise RunError(f"{target} is no folder: choose another --to")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into; on success it becomes `target`, else it is deleted.

    Raises:
        RunError: the target is there and not empty, or the disk does not take it.
    """
    refuse_filled(target)
    target = target.absolute()
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    above = [folder for folder in target.parents if not folder.exists()]
    try:
        _sweep(target)
        partial.mkdir(parents=True)
        yield partial
        _sync(partial)
        rename_folder(partial, target)
    except (OSError, SafetensorError) as error:
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise RunError(explain(reason, target).replace("--out", "--to")) from None
    finally:
        remove_tree(partial)
        for folder in above:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _sweep(target: Path) -> None:
    """Delete what killed exports to the same target left behind."""
    for left in target.parent.glob(f".{target.name}.partial-*"):
        process = left.name.rpartition("-")[2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            remove_tree(left)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
