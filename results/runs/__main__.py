"""Carry out a question's sweeps, keep their figures, write docs/RESULTS.md: `make results-NAME`.

    python -m results.runs NAME … [--collect | --page-only] [--tiny] [--model …] [--axis …]

An interrupted command goes on where it stopped. --collect takes the runs as they are now;
--page-only needs nothing but docs/results/NAME.json. With --tiny the page and the figures go to a
temporary folder: what the project shows is of whole runs.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.page import write_block
from results.runs.gather import gather
from results.runs.questions import QUESTIONS, Question
from results.runs.records import SweepFigures, read_figures, write_figures
from results.runs.tiny import write_small
from steer_heal_love.commands import sweep as sweep_command
from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.inputs.toml_text import parse_toml
from steer_heal_love.report.figures.drawing import save_twins
from steer_heal_love.runs.files import write_text
from steer_heal_love.sweep.file import Sweep, read_sweep

ROOT = Path(__file__).parents[2]
STOPPED = 128  # exit codes above it are signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: that of the worst sweep, as of `shl sweep`."""
    options = parse(arguments)
    worst = 0
    for name in options.names:
        question = QUESTIONS[name]
        code = 0 if options.page_only else measure(question, options)
        write_page(question, options.docs)
        worst = max(worst, code)
        if code > STOPPED:
            break
    return worst


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the folders that follow from it."""
    parser = argparse.ArgumentParser(prog="python -m results.runs", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(QUESTIONS), metavar="NAME")
    parser.add_argument("--collect", action="store_true", help="begin no run: take what is there")
    parser.add_argument("--page-only", action="store_true", help="from docs/results/NAME.json")
    parser.add_argument("--tiny", action="store_true", help="a few short rounds: does it run?")
    parser.add_argument("--model", help="another model, with --tiny")
    parser.add_argument("--axis", help="another axis, with --tiny")
    parser.add_argument("--config", type=Path, help="settings over a sweep's, with --tiny")
    parser.add_argument("--store", type=Path, help="folder of the sweeps' folders")
    parser.add_argument("--docs", type=Path, help="folder with RESULTS.md")
    options = parser.parse_args(arguments)
    if not options.tiny and (options.model or options.axis or options.config):
        parser.error("--model, --axis and --config are for --tiny: else the sweep's file says it")
    scratch = Path(tempfile.gettempdir()) / "shl-results-runs"
    if options.store is None:
        options.store = scratch / "store" if options.tiny else ROOT / "runs" / "results"
    if options.docs is None:
        options.docs = scratch / "docs" if options.tiny else ROOT / "docs"
        if options.tiny:
            options.docs.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "docs" / "RESULTS.md", options.docs)
    return options


def measure(question: Question, options: argparse.Namespace) -> int:
    """Carry out the question's sweeps and keep the figures. Returns the worst exit code."""
    worst = 0
    for name in question.sweeps:
        sweep = sweep_of(name, options)
        folder = options.store.absolute() / name
        if not options.collect:
            with contextlib.chdir(ROOT):  # a sweep's file may name an axis by its path
                how = [str(sweep.path), "--out", str(folder), "--resume"]
                worst = max(worst, sweep_command.main(how))
        figures = gather(folder, sweep, name, question.kept)
        if figures.runs:
            write_figures(file_of(options.docs, name), figures)
        if question.diary:
            show_diary(folder, options.docs / "results" / f"{name}-diary.md")
        tell(f"{name}: {len(figures.runs)} of {figures.trials} runs have a finished round")
        if worst > STOPPED:
            break
    return worst


def show_diary(sweep: Path, page: Path) -> None:
    """The diary of a sweep's first run that has one, word for word."""
    for diary in sorted(sweep.glob("*/diary.md"))[:1]:
        write_text(page, diary.read_text(encoding="utf-8"))
        tell(str(page))


def sweep_of(name: str, options: argparse.Namespace) -> Sweep:
    """The committed sweep, or a small one made of it."""
    sweep = read_sweep(ROOT / "sweeps" / f"{name}.toml")
    if not options.tiny:
        return sweep
    small = options.store.absolute() / f"{name}.toml"
    small.parent.mkdir(parents=True, exist_ok=True)
    write_small(sweep, small, settings_over(options))
    return read_sweep(small)


def settings_over(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line has over the settings of a sweep."""
    found = parse_toml(options.config.read_text(encoding="utf-8")) if options.config else {}
    for key in ("model", "axis"):
        if getattr(options, key):
            found[key] = getattr(options, key)
    return found


def file_of(docs: Path, sweep: str) -> Path:
    """Where a sweep's figures are kept."""
    return docs / "results" / f"{sweep}.json"


def write_page(question: Question, docs: Path) -> None:
    """The question's blocks and figures, from its JSON files alone."""
    found: Mapping[str, SweepFigures | None] = {
        name: read_figures(file_of(docs, name)) for name in (*question.sweeps, *question.beside)
    }
    for path in save_twins(question.plots(found), docs / "results"):
        tell(str(path))
    blocks = question.words(found)
    for name, block in blocks.items():
        write_block(docs / "RESULTS.md", name, block)
    tell(f"{docs / 'RESULTS.md'}: {', '.join(blocks)}")


def tell(what: str) -> None:
    """A line on standard error."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteerHealLoveError as error:
        print(f"results.runs: {error}", file=sys.stderr)
        sys.exit(2)
