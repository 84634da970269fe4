"""The run directory as it is written; `read` reads it. No other code knows its files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors.torch

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import axis_to_toml_data
from steer_heal_love.piece_names import SUFFIX, WORK, PieceName, of_round
from steer_heal_love.records import Adapter, Axis, Baseline, RoundRecord
from steer_heal_love.runs.as_json import (
    answer_rows,
    by_condition,
    completion_row,
    figures_of,
    items_of,
    pack_direction,
    round_figures,
)
from steer_heal_love.runs.codec import pack, to_json, to_json_lines, to_toml, unpack
from steer_heal_love.runs.files import (
    append_line,
    check_space,
    explain,
    hold_lock,
    refuse_gone,
    refuse_links,
    remove_partials,
    remove_tree,
    rename_folder,
    write_bytes,
)
from steer_heal_love.runs.manifest import PAGES, SCHEMA, Manifest
from steer_heal_love.runs.read_files import read_json

T = TypeVar("T")


class RunDirectory:
    """A run that is being written. Every write is atomic and entered in `manifest.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.read(path)

    @classmethod
    def create(
        cls, path: Path, config: Mapping[str, Any], axis: Axis, environment: Mapping[str, Any]
    ) -> RunDirectory:
        """A new run directory with its configuration.

        Raises:
            RunError: the path exists already, or cannot be written; nothing is left behind.
        """
        if path.exists():
            raise RunError(
                f"out folder {path} exists already: choose another --out, or go on with that run "
                f"by `shl resume {path}`"
            )
        above = [p for p in path.parents if not p.exists()]
        # Under another name until it is whole: a kill leaves no half of a run at `path`.
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            remove_tree(partial)
            partial.mkdir(parents=True)
            run = cls(partial)
            run.write_config(config)
            run.write_text("axis.toml", to_toml(axis_to_toml_data(axis)))
            run.write_json("environment.json", environment)
            rename_folder(partial, path)
        except BaseException as error:
            remove_tree(partial)
            for folder in above:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            if isinstance(error, OSError):
                raise RunError(explain(error, path)) from None
            raise
        return cls(path)

    # Writing

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file of the run and enter its size and hash in the manifest."""
        try:
            self.manifest.expect(name, data)
            write_bytes(self.path / name, data)
        except BaseException:  # a signal, too
            self.manifest.settle()
            raise

    def write_text(self, name: str, text: str) -> None:
        """As `write_bytes`, in UTF-8."""
        self.write_bytes(name, text.encode("utf-8", errors="replace"))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings as `config.toml`, unless they are there already."""
        text = to_toml(config)
        if self.manifest.read_sound("config.toml") != text.encode("utf-8", errors="replace"):
            self.write_text("config.toml", text)

    def write_json(self, name: str, value: Any) -> None:
        """As `write_text`, JSON; NaN and infinities become null."""
        self.write_text(name, to_json(value))

    def write_lines(self, name: str, rows: Sequence[Any]) -> None:
        """As `write_text`, one JSON value a line."""
        self.write_text(name, to_json_lines(rows))

    def event(self, name: str, /, **fields: Any) -> None:
        """Append a line to `events.jsonl`.

        Its order is that of its lines: `time` is the system's, which may be set back.
        """
        refuse_gone(self.path)
        line = to_json_lines([{"time": time.time(), "event": name, **fields}])
        append_line(self.path / "events.jsonl", line.removesuffix("\n"))

    def record_baseline(self, baseline: Baseline, head: Mapping[str, Any]) -> None:
        """Write the baseline's answers and the first `metrics.json`."""
        measured = by_condition(baseline)
        self.write_lines("baseline/answers.jsonl", answer_rows(measured.values()))
        self.write_json("baseline/metrics.json", {k: items_of(m) for k, m in measured.items()})
        top = {"schema": SCHEMA, **head, **{k: figures_of(m) for k, m in measured.items()}}
        # A resumed run passes here again: what its rounds found stays on view meanwhile.
        sound = self.manifest.read_sound("metrics.json") is not None
        rounds = self.metrics().get("rounds", []) if sound else []
        self.write_json("metrics.json", {**top, "rounds": rounds})

    def record_round(self, record: RoundRecord) -> None:
        """Write everything that a round found, `metrics.json` last."""
        folder = of_round(record.round)
        self.write_bytes(f"{folder}/direction.safetensors", pack_direction(record.direction))
        self.write_lines(f"{folder}/completions.jsonl", [completion_row(j) for j in record.judged])
        self._write_adapter(f"{folder}/adapter", record.healed_result.adapter)
        self.write_lines(f"{folder}/heal.jsonl", [asdict(s) for s in record.healed_result.steps])
        measured = {**record.measured, **record.rivals}
        self.write_lines(f"{folder}/answers.jsonl", answer_rows(measured.values()))
        figures = round_figures(record)
        self.write_json(
            f"{folder}/metrics.json",
            {
                **figures,
                "validation": list(record.healed_result.validation),
                "items": {k: items_of(m) for k, m in measured.items()},
                "front_items": [items_of(m) for _, m in record.front],
            },
        )
        metrics = self.metrics()
        rounds = {r["round"]: r for r in metrics["rounds"]} | {record.round: figures}
        self.write_json("metrics.json", {**metrics, "rounds": [rounds[r] for r in sorted(rounds)]})

    def record_verdicts(self, verdicts: Mapping[str, Any]) -> None:
        """Enter the verdicts so far in `metrics.json`."""
        self.write_json("metrics.json", {**self.metrics(), "verdicts": verdicts})

    def _write_adapter(self, folder: str, adapter: Adapter) -> None:
        weights = safetensors.torch.save(dict(adapter.tensors), {"format": "pt"})
        self.write_bytes(f"{folder}/adapter_model.safetensors", weights)
        self.write_json(f"{folder}/adapter_config.json", adapter.config)

    def metrics(self) -> dict[str, Any]:
        """The present `metrics.json`."""
        return read_json(self.path / "metrics.json")

    # Pieces of work

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The stored piece of this name, if it is sound; else compute it and store it.

        Raises:
            RunError: there is too little room on the disk for it, or it cannot be written.
        """
        file = PieceName(name).file
        stored = self.manifest.read_sound(file)
        if stored is not None:
            try:
                return cast("T", unpack(stored, file))
            except RunError as error:  # whole, but of another version of this package
                self.event("broken-piece", problem=str(error))
        elif problem := self.manifest.problem_of(file):
            self.event("broken-piece", problem=problem)
        check_space(self.path)  # before hours go into what could not be kept
        data = pack(compute())
        check_space(self.path, len(data))
        self.write_bytes(file, data)
        # What was computed and what a resumed run would read are one and the same.
        return cast("T", unpack(data, file))

    def forget(self, prefix: str) -> None:
        """Delete the stored pieces whose names begin so: what came of them is stored elsewhere."""
        start = f"{WORK}{prefix}"
        gone = [name for name in self.manifest.names if name.startswith(start)]
        self.manifest.drop(gone)
        for name in gone:
            (self.path / name).unlink(missing_ok=True)

    def release_pages(self) -> None:
        """Take diary and figures out of the manifest: they are about to be written again."""
        self.manifest.drop([n for n in self.manifest.names if n.startswith(PAGES)])

    def adopt_pages(self, files: Sequence[Path]) -> None:
        """Enter diary and figures in the manifest, and the log as it is now."""
        self.manifest.adopt(file.relative_to(self.path).as_posix() for file in files)

    # Checking

    @property
    def file_count(self) -> int:
        """Files in the manifest."""
        return len(self.manifest.names)

    def problems(self) -> list[str]:
        """One line per file that is missing or is not as it was written."""
        return self.manifest.problems()

    def check_foundations(self) -> None:
        """Raises RunError where the settings or the axis are not what the run was begun with."""
        for name in ("config.toml", "axis.toml"):
            problem = self.manifest.problem_of(name)
            if problem:
                raise RunError(
                    f"run {self.path}: {problem}: restore that file, or begin another run"
                )

    def keep_environment(self, now: Mapping[str, Any]) -> None:
        """Leave `environment.json` as the run was begun; where it is lost, write it anew."""
        if self.manifest.read_sound("environment.json") is None:
            self.write_json("environment.json", now)

    def environment(self) -> dict[str, Any]:
        """What the run was begun with; empty where that is not known for sure."""
        sound = self.manifest.read_sound("environment.json") is not None
        return read_json(self.path / "environment.json") if sound else {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone; a process that dies lets it go.

        Raises:
            RunInUse: another process holds it.
            RunError: it cannot be locked, or a link in it leads elsewhere.
        """
        refuse_gone(self.path)
        refuse_links(self.path)
        with hold_lock(self.path / "lock", f"run {self.path}"):
            self.manifest = Manifest.read(self.path)  # another process may have been at it
            remove_partials(self.path)
            if self.manifest.problem is None:
                self._sweep()
            yield

    def _sweep(self) -> None:
        """Delete the pieces that a process was killed over before it could enter or delete them."""
        known = set(self.manifest.names)
        for piece in (self.path / WORK).rglob(f"*{SUFFIX}"):
            if piece.relative_to(self.path).as_posix() not in known:
                piece.unlink(missing_ok=True)
