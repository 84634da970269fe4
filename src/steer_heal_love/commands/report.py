"""`shl report`: write the page, the diary and the figures of a run, or a page of several runs."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.errors import ConfigError, RunError, RunInUse
from steer_heal_love.report.write import write_comparison_page, write_report
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.flags import parse


@dataclass(frozen=True)
class ReportArguments:
    """Write report.html, diary.md and the figures of a run, from its directory alone.

    Also of a run that is still going on, that failed, or of which files are missing: the page says
    what is missing. Of several runs: one page that sets them side by side.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The run directories."""
    out: Path | None = None
    """Of several runs: the page to write, by default comparison.html in this folder."""
    open: bool = False
    """Open the page in the browser."""
    force: bool = False
    """Set runs side by side that were measured on different items; the page says so."""


def main(arguments: list[str]) -> int:
    """Parse, write, name the files."""
    options = parse(ReportArguments, arguments, "shl report")
    if not options.runs:
        raise ConfigError("name at least one run directory: shl report RUN…")
    if len(options.runs) == 1:
        if options.out is not None:
            raise ConfigError("--out is for several runs: the page of one run goes into the run")
        files = _report(options.runs[0])
    else:
        files = _compare(options)
    for path in files:
        print(path)  # noqa: T201
    if options.open:
        webbrowser.open(files[0].resolve().as_uri())
    return 0


def _report(path: Path) -> list[Path]:
    """The pages of one run, entered in its manifest where it has one."""
    read_run(path, damaged_ok=True)
    run = RunDirectory(path)
    try:
        with run.locked():
            if run.manifest.problem is not None:  # a new one would call what is lost sound
                return write_report(path)
            run.release_pages()
            files = write_report(path)
            run.adopt_pages(files)
            return files
    except RunInUse:  # it enters its own pages when it ends
        return write_report(path)


def _compare(options: ReportArguments) -> list[Path]:
    out = options.out or Path("comparison.html")
    if out.suffix != ".html":
        raise RunError(f"out file {out} must end in .html")
    if out.is_dir():
        raise RunError(f"out file {out} is a folder: name a file")
    return write_comparison_page(options.runs, out, force=options.force)
