"""`shl` in processes of its own, forked from a server that has imported everything once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("torch", "transformers", "peft", "accelerate", "scipy.stats", "altair", "vl_convert"),
        *("transformers.models.llama.modeling_llama", "steer_heal_love.commands.resume"),
    ]
)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A process that has been started."""

    process: BaseProcess
    said: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, timeout: float = 400) -> Ended:
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it hangs"
        out, err = (self.said.with_suffix(s).read_text("utf-8") for s in (".out", ".err"))
        return Ended(self.process.exitcode, out, err)


def start(
    arguments: list[str],
    said: Path,
    *,
    full: bool = False,
    before: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Running:
    """Start `shl ARGUMENTS`; its output goes to SAID.out and SAID.err.

    Unless `full`, what takes most of the time of a tiny run is left out. `before` is called with
    `given` in the new process first. Its cache is its own, so that nothing is taken from a run
    that it is compared with; `set_environment` gives it another one.
    """
    process = _context.Process(target=_run, args=(arguments, said, full, before, given))
    process.start()
    return Running(process, said)


def shl(arguments: list[str], said: Path, **how: Any) -> Ended:
    """Run `shl ARGUMENTS` to its end."""
    return start(arguments, said, **how).wait()


def _run(
    arguments: list[str],
    said: Path,
    full: bool,
    before: Callable[..., None] | None,
    given: tuple[Any, ...],
) -> None:
    for stream, suffix in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        descriptor = os.open(said.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    import torch

    from steer_heal_love.cli import main

    torch.set_num_threads(1)
    os.environ["SHL_CACHE"] = str(said.with_suffix(".cache"))
    if not full:
        make_light(setattr)
    if before is not None:
        before(*given)
    main(arguments)


def make_light(replace: Callable[[Any, str, Any], None]) -> None:
    """Leave out what takes most of the time of a tiny run: figures, long texts, resampling."""
    import scipy.stats

    from steer_heal_love.report import write as report
    from steer_heal_love.report.page import document as page
    from steer_heal_love.stages import evaluate

    def nothing(*_args: Any) -> list[Any]:
        return []

    def no_page(*_args: Any) -> str:
        return "<!doctype html>\n"

    def texts() -> list[str]:
        return ["A short text.", "And another one, as short."]

    bootstrap = scipy.stats.bootstrap

    def quick(*args: Any, **settings: Any) -> Any:
        return bootstrap(*args, **{**settings, "n_resamples": 20})

    replacements: list[tuple[Any, str, Any]] = [
        (report, "plots_of", nothing),
        (page, "run_page", no_page),
        (evaluate, "ordinary_paragraphs", texts),
        (scipy.stats, "bootstrap", quick),
    ]
    for owner, name, replacement in replacements:
        assert hasattr(owner, name), name
        replace(owner, name, replacement)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory of this size at `folder`; skips the test where it cannot be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        while folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


# Faults, to be given as `before`


def snapshot_each_write(run: Path, snapshots: Path) -> None:
    """Before each fsync and each rename keep what a crash there would leave of the run."""
    count = 0

    def keep() -> None:
        nonlocal count
        target = snapshots / f"{count:05d}"
        count += 1
        target.mkdir(parents=True)
        if not run.exists():
            return
        for path in sorted(run.rglob("*")):
            copy = target / "run" / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                copy.mkdir(exist_ok=True)
            elif path.name in ("events.jsonl", "lock"):  # written in place
                copy.write_bytes(path.read_bytes())
            else:  # written once and renamed: a second name for it is a copy
                copy.hardlink_to(path)

    _before_each_write(keep)


def crash_at_write(nth: int) -> None:
    """Die, as of a power cut, at the nth fsync or rename."""
    count = 0

    def die() -> None:
        nonlocal count
        count += 1
        if count == nth:
            os._exit(9)

    _before_each_write(die)


def fail_at_write(nth: int, code: int) -> None:
    """From the nth fsync on, each raises this error: a disk that is full."""
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        if count >= nth:
            raise OSError(code, os.strerror(code))

    _before_each_write(fail, renames=False)


def fill_disk_at_write(nth: int, ballast: Path) -> None:
    """At the nth fsync another file takes what is left of the disk."""

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    _at_write(nth, fill)


def take_folder_at_write(nth: int, run: Path, elsewhere: Path) -> None:
    """At the nth fsync the run's folder is moved away."""
    _at_write(nth, lambda: run.rename(elsewhere))


def read_only_at_write(nth: int, disk: Path) -> None:
    """At the nth fsync the disk becomes read-only, as one does that fails."""

    def mount() -> None:
        for how in (["--bind", str(disk)], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *how, str(disk)], check=True)

    _at_write(nth, mount)


def _at_write(nth: int, act: Callable[[], None]) -> None:
    count = 0

    def at_this_one() -> None:
        nonlocal count
        count += 1
        if count == nth:
            act()

    _before_each_write(at_this_one, renames=False)


def limit_file_size(size: int) -> None:
    """No file may be larger: the system's own refusal, as of a quota."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def keep_no_space() -> None:
    """Nothing of the disk is kept free, so that it is full when it is full."""
    from steer_heal_love.budget import disk as space
    from steer_heal_love.runs import files

    files.SPARE_BYTES = space.SPARE_BYTES = 0


def convert_slowly(cache: Path, log: Path) -> None:
    """Want a model that takes a while to convert; a line in the log for each conversion."""
    from steer_heal_love.lm.model import gguf

    def write(_path: Path, folder: Path) -> None:
        with log.open("a") as file:
            file.write("converted\n")
        time.sleep(1)
        (folder / "config.json").write_text("whole")

    os.environ["SHL_CACHE"] = str(cache)
    gguf._write_dequantised = write
    gguf.convert_gguf(Path("m.gguf"), "name")


def turn_the_clock_back() -> None:
    """The system's time is an hour earlier each time that it is asked."""
    asked = 0
    now = time.time

    def earlier() -> float:
        nonlocal asked
        asked += 1
        return now() - 3600 * asked

    time.time = earlier


def draw_no_pages() -> None:
    """A run ends without its page, diary and figures."""
    from steer_heal_love.runner import carry_out

    def nothing(_run: Path) -> list[Path]:
        return []

    carry_out.write_report = nothing  # type: ignore[assignment]


def set_environment(values: dict[str, str]) -> None:
    """Variables of the process: those of its parent do not reach it through the server."""
    os.environ.update(values)


def leave_free(memory: int) -> None:
    """So many bytes of memory are free for rows."""
    from steer_heal_love.budget import rows as batching

    def free_bytes(*_args: object) -> int:
        return memory

    batching.free_bytes = free_bytes


def in_turn(*faults: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    """Several of these, each with what it is given."""
    for fault, given in faults:
        fault(*given)


def _before_each_write(act: Callable[[], None], *, renames: bool = True) -> None:
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def synced(descriptor: int) -> None:
        act()
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        act()
        return replace(self, target)

    def renamed(self: Path, target: Path) -> Path:
        act()
        return rename(self, target)

    os.fsync = synced  # type: ignore[assignment]
    if renames:
        Path.replace = replaced  # type: ignore[method-assign, assignment]
        Path.rename = renamed  # type: ignore[method-assign, assignment]


NASTY = (
    '<script>alert("x")</script> <img src=x onerror=alert(1)> \x1b[31mred\x1b]0;title\x07 '
    "[click](http://evil.example/) ![p](http://evil.example/p.png) \n"
    "=cmd()|' /C calc'!A0\n# heading\n```\n\u202eright to left\u202c 👩‍👩‍👧‍👦 שלום \x00\x9b31m"
)


def answer_nastily() -> None:
    """Whatever the model answers, its text is NASTY."""
    answer_with(NASTY)


def answer_with(text: str) -> None:
    """Whatever the model answers, it is this text and a number."""
    from steer_heal_love.lm.sampler import answers
    from steer_heal_love.stages import evaluate

    def decode_text(_lm: object, ids: tuple[int, ...] | list[int]) -> str:
        return f"{text} {sum(ids)}"

    answers.decode_text = decode_text  # type: ignore[assignment]
    evaluate.decode_text = decode_text  # type: ignore[assignment]
