"""Writing files so that a kill, a crash or a full disk never leaves half of one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steer_heal_love.errors import RunError, RunInUse

SPARE_BYTES = 32 << 20  # of a disk, that a run leaves free

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


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file, of which at most one more than `limit` are read.

    Raises:
        OSError: it cannot be read, or is no regular file: a named pipe would never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with path.open("rb") as file:
        return file.read() if limit is None else file.read(limit + 1)


def free_bytes(path: Path) -> int:
    """What is free on the disk that this path is on, or would be on."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def check_space(folder: Path, size: int = 0) -> None:
    """Raises RunError where `size` more bytes would leave less than `SPARE_BYTES` of the disk."""
    free = free_bytes(folder)
    if free - size < SPARE_BYTES:
        raise RunError(
            f"cannot write {folder}: only {free / 2**20:.0f} MiB are free on that disk, of which "
            f"{SPARE_BYTES / 2**20:.0f} are kept: free some space"
        )


def refuse_gone(folder: Path) -> None:
    """Raises RunError where the run's folder is not there, so that no write makes another one."""
    if not folder.is_dir():
        raise RunError(
            f"run folder {folder} is gone: it was moved or deleted while the run went on: "
            "put it back"
        )


def refuse_links(folder: Path) -> None:
    """Raises RunError where a link inside the folder leads writes and deletions out of it."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise RunError(
                f"{path} is a link: what is written or deleted there may lie outside of the run: "
                "put the files themselves in its place"
            )


@contextmanager
def hold_lock(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file for this process alone; a process that dies lets it go.

    Raises:
        RunInUse: another process holds it.
        RunError: it cannot be locked.
    """
    try:
        file = path.open("a+")
    except OSError as error:
        raise RunError(explain(error, path)) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(32).strip()
            raise RunInUse(
                f"{name} is in use by process {holder if holder.isdigit() else '?'}: "
                "wait for it or stop it"
            ) from None
        except OSError as error:
            raise RunError(f"{name} cannot be locked: {error.strerror}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
        case errno.EFBIG:
            why = "it is larger than a file may be here: raise that limit (ulimit -f)"
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
    # The disk that refused the write may refuse this too; the name marks it as partial.
    with suppress(OSError):
        path.unlink(missing_ok=True)
