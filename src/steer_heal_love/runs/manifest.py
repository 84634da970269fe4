"""The manifest of a run: size and SHA-256 of each of its files, entered before they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from steer_heal_love.errors import RunError
from steer_heal_love.runs.files import read_regular, refuse_gone, sha256, write_text

SCHEMA = 2  # of metrics.json and manifest.json
NAME = "manifest.json"
LOG = "events.jsonl"  # only ever appended to: what the manifest knows is how it begins
PAGES = ("report.html", "diary.md", "figures/")  # written again by whoever asks for the report
MAX_BYTES = 1 << 28

_CHANGED = "its bytes have changed since they were written"


@dataclass(frozen=True)
class Entry:
    """What a file holds."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Entry:
        """The entry of these bytes."""
        return cls(len(data), sha256(data))

    def as_json(self) -> dict[str, Any]:
        """The entry as the manifest holds it."""
        return {"bytes": self.size, "sha256": self.sha256}


class Manifest:
    """Entries by file name. The file that is being written may also still be what it was before.

    The manifest is written first, with the file's new entry and its old one; then the file. A kill
    between the two leaves a file that is as the old entry says, so each file is known at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem: str | None = None  # why nothing that is stored can be trusted
        self._entries: dict[str, Entry] = {}
        self._before: dict[str, Entry | None] = {}  # of the last file written
        self._log: Entry | None = None

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a run; where it is missing or broken an empty one, with the `problem`.

        Raises:
            RunError: it is of another schema.
        """
        manifest = cls(folder)
        try:
            data = read_regular(folder / NAME, MAX_BYTES)
        except OSError:
            manifest.problem = f"{NAME}: missing"
            return manifest
        try:
            content = json.loads(data)
            refuse_other_schema(content["schema"], folder)
            manifest._fill(content)
            if manifest._render().encode() != data:
                raise ValueError("changed")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            manifest = cls(folder)
            manifest.problem = f"{NAME}: {_CHANGED}"
        return manifest

    def _fill(self, content: Mapping[str, Any]) -> None:
        self._entries = {name: _entry(name, e) for name, e in content["files"].items()}
        self._before = {
            name: None if e is None else _entry(name, e) for name, e in content["writing"].items()
        }
        self._log = None if content["log"] is None else _entry(LOG, content["log"])

    def _render(self) -> str:
        """The manifest's text, which holds its own hash: any changed byte shows."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "files": {name: e.as_json() for name, e in sorted(self._entries.items())},
            "writing": {n: e and e.as_json() for n, e in self._before.items()},
            "log": self._log and self._log.as_json(),
        }
        content["sha256"] = sha256(json.dumps(content).encode())
        return json.dumps(content, indent=1) + "\n"

    def save(self) -> None:
        """Write the manifest, with the log as it is now.

        Raises:
            RunError: it cannot be written, or the run's folder is gone.
        """
        refuse_gone(self.folder)
        self._log = self._entry_now(LOG)
        write_text(self.folder / NAME, self._render())

    # Entries

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return list(self._entries)

    def expect(self, name: str, data: bytes) -> None:
        """Enter what is about to be written."""
        self._before = {name: self._entries.get(name)}
        self._entries[name] = Entry.of(data)
        self.save()

    def settle(self) -> None:
        """Whatever stopped the last write: the entry is of what the file holds now."""
        for name, before in self._before.items():
            now = self._entry_now(name)
            if now == self._entries.get(name) or now != before:
                continue
            if before is None:
                self._entries.pop(name, None)
            else:
                self._entries[name] = before
        self._before = {}

    def adopt(self, names: Iterable[str]) -> None:
        """Enter files as they are now: another writer's, such as the report's."""
        self.settle()
        for name in names:
            self._entries[name] = Entry.of((self.folder / name).read_bytes())
        self.save()

    def drop(self, names: Iterable[str]) -> None:
        """Forget files that are about to be deleted or rewritten by another writer."""
        known = [name for name in names if name in self._entries]
        if known:
            self.settle()
            for name in known:
                self._entries.pop(name, None)
            self.save()

    # Checking

    def read_sound(self, name: str) -> bytes | None:
        """The bytes of a file, where they are what was written; else None."""
        entries, path = (self._entries.get(name), self._before.get(name)), self.folder / name
        known = [entry for entry in entries if entry is not None]
        try:
            # One that is far too large is not even read.
            if path.stat().st_size not in {entry.size for entry in known}:
                return None
            data = read_regular(path)
        except OSError:
            return None
        return data if Entry.of(data) in known else None

    def _entry_now(self, name: str) -> Entry | None:
        """The entry that a file would have as it is now; None where there is none."""
        try:
            return Entry.of(read_regular(self.folder / name))
        except OSError:
            return None

    def problem_of(self, name: str) -> str | None:
        """What is wrong with a file, on one line; None where it is sound, or was never there."""
        if name not in self._entries or self.read_sound(name) is not None:
            return None
        try:
            size = (self.folder / name).stat().st_size
        except OSError:
            # A kill between the manifest and the file: the file was never there.
            unwritten = name in self._before and self._before[name] is None
            return None if unwritten else f"{name}: missing"
        wanted = self._entries[name]
        if size != wanted.size:
            return f"{name}: {size} bytes where {wanted.size} were written"
        return f"{name}: {_CHANGED}"

    def problem_of_log(self) -> str | None:
        """What is wrong with the log; None where it is as it was and has at most grown."""
        if self._log is None:
            return None
        try:
            data = read_regular(self.folder / LOG)
        except OSError:
            return f"{LOG}: missing"
        if len(data) < self._log.size:
            return f"{LOG}: {len(data)} bytes where {self._log.size} were written"
        return None if Entry.of(data[: self._log.size]) == self._log else f"{LOG}: {_CHANGED}"

    def problems(self) -> list[str]:
        """One line per file that is missing or is not as it was written."""
        if self.problem is not None:
            return [self.problem]
        lines = [self.problem_of_log(), *map(self.problem_of, sorted(self._entries))]
        return [line for line in lines if line is not None]


def refuse_other_schema(schema: object, where: object) -> None:
    """Raises RunError where a run's files are of a schema that only another version can read."""
    if type(schema) is not int or schema == SCHEMA or schema < 1:
        return  # none that ever was: the file is broken, which is for its reader to say
    if schema > SCHEMA:
        raise RunError(
            f"run {where} was written by a newer version (schema {schema}, this one reads "
            f"{SCHEMA}): upgrade steer-heal-love"
        )
    raise RunError(
        f"run {where} was written by an older version (schema {schema}, this one reads {SCHEMA}): "
        "read it with that version, or begin another run, with --config and --axis of its files"
    )


def _entry(name: str, value: Mapping[str, Any]) -> Entry:
    """An entry out of JSON. Raises ValueError where its file would lie outside the run."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(name)
    entry = Entry(value["bytes"], value["sha256"])
    if type(entry.size) is not int or not isinstance(entry.sha256, str):
        raise ValueError(name)
    return entry
