"""Measure what is missing for a study, write its tables into docs/RESULTS.md, draw its figures.

    python -m results NAME … [--page-only] [--collect] [--sweeps DIR] [--docs DIR]

An interrupted command goes on where it stopped. --page-only needs nothing but docs/results/. With
anything other than what the project publishes, page and figures go to a temporary folder.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from results.page import write_block
from results.runs.carry_out import STOPPED
from results.store import ROOT, tell
from results.studies import STUDIES, Study
from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.report.figures.drawing import save_twins

SHARE = 0.25
# One heal on the model's own samples is a small step: at the default τ of a run neither the mean
# nor the rmse would say anything of them. At this one they differ in what they see of a loop.
TAU = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: the worst of the studies'."""
    options = parse(arguments)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    worst = 0
    for name in options.names:
        if not options.page_only:
            worst = max(worst, STUDIES[name].measure(options))
        write_page(name, STUDIES[name], options.docs)
        if worst > STOPPED:
            break
    return worst


def write_page(name: str, study: Study, docs: Path) -> None:
    """The study's blocks and figures, from the files in docs/results/ alone."""
    found = study.read(docs)
    for path in save_twins(study.figures(found), docs / "results"):
        tell(str(path))
    for block, tables in study.blocks.items():
        text = tables(found) if found else ""
        write_block(docs / "RESULTS.md", block, text or f"Not run yet: `make results-{name}`.")
    tell(f"{docs / 'RESULTS.md'}: {', '.join(study.blocks)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the folder of the page that follows from it."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    add = parser.add_argument
    add("names", nargs="+", choices=list(STUDIES), metavar="NAME")
    add("--page-only", action="store_true", help="measure nothing")
    add("--collect", action="store_true", help="begin no run: take what is there")
    add("--sweeps", type=Path, default=ROOT / "sweeps", help="folder of the sweeps' files")
    add("--store", type=Path, default=ROOT / "runs" / "results", help="of what is measured")
    add("--docs", type=Path, help="folder with RESULTS.md")
    for name, usual in (("--model", "smollm2"), ("--axis", "love")):
        add(name, default=usual, help=f"planted, front: as shl run {name} takes it")
    add("--config", type=Path, help="planted, front: as shl run --config takes it")
    add(
        "--samples",
        type=_samples,
        help="front: answers a rival, 24 unless given; fewer are less sure, and faster",
    )
    add("--few", action="store_true", help="front: only those that a run itself would measure")
    add(
        "--share",
        type=partial(_number, least=1e-9, below=1.0),
        default=SHARE,
        help="planted: of texts with a loop",
    )
    add(
        "--tau",
        type=partial(_number, least=0.0, below=math.inf),
        default=TAU,
        help="planted: of every barrier, nats",
    )
    options = parser.parse_args(arguments)
    if options.docs is None:
        options.docs = ROOT / "docs"
        published = ("sweeps", "model", "axis", "config", "share", "tau", "samples", "few")
        if any(getattr(options, key) != parser.get_default(key) for key in published):
            options.docs = Path(tempfile.gettempdir()) / "shl-results"
            options.docs.mkdir(exist_ok=True)
            shutil.copy(ROOT / "docs" / "RESULTS.md", options.docs)
    return options


def _samples(text: str) -> int:
    value = int(text)
    if value < 4:
        raise argparse.ArgumentTypeError(f"{text} answers tell nothing: at least 4")
    return value


def _number(text: str, least: float, below: float) -> float:
    value = float(text)
    if not least <= value < below:
        raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {below:g}")
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteerHealLoveError as error:
        print(f"results: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
