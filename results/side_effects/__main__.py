"""Look at finished runs' students for side effects, and write docs/RESULTS.md.

    python -m results.side_effects [RUN …] [--last] [--tiny] [--fresh] [--axes AXIS …]

RUN is a run directory, or a folder of them as `shl sweep` makes it; by default runs/results/loop.
An interrupted command goes on where it stopped. With --tiny, --last or runs of one's own the page
and the figure go to a temporary folder: what the project shows is of the runs that it publishes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results.command import ROOT, docs_folder, teller
from results.page import write_block
from results.side_effects.figure import effects_figure
from results.side_effects.findings import Effects, Own, effects
from results.side_effects.measure import Questions, measure_round, valid_axes
from results.side_effects.subjects import DEFAULT, Subject, find_subjects
from results.side_effects.words import effects_words, runs_words
from results.store import Store
from steer_heal_love.errors import ConfigError, SteerHealLoveError
from steer_heal_love.inputs.axes import builtin_axes, load_axis, load_contexts
from steer_heal_love.report.figures.drawing import save_twins
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.model import load_settled
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text

BLOCK = "side-effects"
MUNDANE = 48
DIGITS = 4  # of the values per item in the JSON file


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(arguments)
    groups, unfinished = find_subjects(options.runs)
    if options.fresh:
        shutil.rmtree(options.store, ignore_errors=True)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tell = teller()
    questions = make_questions(options, groups)
    found = [look_at(questions, group, last=options.last, tell=tell) for group in groups]
    about = {
        "command": command_of(options.runs),
        "model": questions.lm.identity.name,
        "mundane": questions.mundane,
        "unfinished": unfinished,
    }
    block = effects_words(found, about)
    first = found[0]
    runs = runs_words(first["rounds"][-1].runs)
    subject = f"axis {first['axis']} on {about['model']}, {runs}"
    files = save_twins([effects_figure(first["rounds"], subject)], options.docs / "results")
    values = {
        **about,
        "environment": describe_environment(questions.lm),
        "groups": [{**g, "rounds": [asdict(e) for e in g["rounds"]]} for g in found],
    }
    write_text(options.docs / "results" / "side_effects.json", to_json(values))
    write_block(options.docs / "RESULTS.md", BLOCK, block)
    tell(f"written: {options.docs / 'RESULTS.md'}, {', '.join(map(str, files))}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the folders that follow from it."""
    parser = argparse.ArgumentParser(prog="python -m results.side_effects", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[DEFAULT], metavar="RUN")
    parser.add_argument("--last", action="store_true", help="the students of the last rounds alone")
    parser.add_argument("--axes", nargs="+", default=every_axis(), help="to look for shifts of")
    parser.add_argument("--tiny", action="store_true", help="a few questions: does the code run?")
    parser.add_argument("--fresh", action="store_true", help="forget what has been measured")
    parser.add_argument("--store", type=Path, help="folder of what has been measured")
    parser.add_argument("--docs", type=Path, help="folder with RESULTS.md")
    options = parser.parse_args(arguments)
    if options.store is None:
        name = "side-effects-tiny" if options.tiny else "side-effects"
        options.store = ROOT / "runs" / "results" / name
    if options.docs is None:
        aside = options.tiny or options.last or not _are_default(options.runs)
        options.docs = docs_folder("side-effects", aside=aside)
    return options


def every_axis() -> list[str]:
    """The axes that come with the package, and those of the sweeps."""
    return [*builtin_axes(), *map(str, sorted((ROOT / "sweeps" / "axes").glob("*.toml")))]


def command_of(runs: Sequence[Path]) -> str:
    """What does this again, from the project's root."""
    if _are_default(runs):
        return "make results-side-effects"
    places = [p.relative_to(ROOT) if p.is_relative_to(ROOT) else p for p in map(Path.resolve, runs)]
    return shlex.join(["python", "-m", "results.side_effects", *map(str, places)])


def _are_default(runs: Sequence[Path]) -> bool:
    return [path.resolve() for path in runs] == [DEFAULT.resolve()]


def make_questions(options: argparse.Namespace, groups: Sequence[Sequence[Subject]]) -> Questions:
    """The model that all runs are of, and what its students are asked.

    Raises:
        ConfigError: the runs are of several models.
    """
    settings = [subject.settings for group in groups for subject in group]
    models = sorted({s.model for s in settings})
    if len(models) > 1:
        raise ConfigError(f"the runs are of several models ({', '.join(models)}): look at one's")
    return Questions(
        lm=load_settled(settings[0]),
        store=Store(options.store),
        contexts=load_contexts(),
        axes=[load_axis(name) for name in options.axes],
        mundane=6 if options.tiny else MUNDANE,
        max_new_tokens=12 if options.tiny else settings[0].evaluate.max_new_tokens,
    )


def look_at(
    questions: Questions, group: Sequence[Subject], *, last: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The effects of a group, round by round, as far as all of its runs have come."""
    others, invalid = valid_axes(questions, group[0].axis)
    rounds = sorted(set.intersection(*(set(subject.rounds) for subject in group)))
    runs = [Own(s.view.metrics, s.settings.evaluate.long_samples) for s in group]
    base = [measure_round(questions, subject, None, others) for subject in group]
    found: list[Effects] = []
    for r in rounds[-1:] if last else rounds:
        healed = [measure_round(questions, subject, r, others) for subject in group]
        found.append(effects(r, healed, base, runs))
        tell(f"{', '.join(s.name for s in group)}: round {r}")
    return {
        "name": ", ".join(subject.name for subject in group),
        "axis": group[0].axis.name,
        "seeds": [subject.settings.seed for subject in group],
        "invalid": invalid,
        "rounds": found,
        "items": {
            "base": [_rounded(items) for items in base],
            "last": [_rounded(items) for items in healed],
        },
    }


def _rounded(items: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    return {
        name: [None if v is None else round(v, DIGITS) for v in values]
        for name, values in items.items()
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteerHealLoveError as error:
        print(f"results.side_effects: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
