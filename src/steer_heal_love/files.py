"""Writing files so that a kill, a crash or a full disk never leaves half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from steer_heal_love.errors import RunError

_PARTIAL = ".partial"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises:
        RunError: the disk is full, the folder is read-only or gone; says which and what to do.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _forget(partial)
        raise RunError(explain(error, path)) from error


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def append_line(path: Path, line: str) -> None:
    """Append one line and fsync; a torn last line of an earlier crash is closed first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end > 0:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode("utf-8", errors="replace") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(explain(error, path)) from error


def rename_folder(folder: Path, target: Path) -> None:
    """Give a finished folder its name. Raises OSError where something of that name is there."""
    folder.rename(target)
    _sync_folder(target.parent)


def remove_partials(folder: Path) -> None:
    """Delete the temporary files that a killed writer left behind."""
    for partial in folder.rglob(f".*{_PARTIAL}"):
        _forget(partial)


def remove_tree(folder: Path) -> None:
    """Delete a folder and everything in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def sha256(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def explain(error: OSError, path: Path) -> str:
    """One line: what could not be written, why, and the remedy."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            why = "the disk is full: free some space"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            why = "it is read-only or not yours: choose another --out, or mend the permissions"
        case errno.ENOENT | errno.ENOTDIR:
            why = "its folder is gone or is no folder: choose another --out"
        case _:
            why = f"{error.strerror or error}"
    return f"cannot write {path}: {why}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the disk that refused the write may refuse this too; the name marks it as partial
