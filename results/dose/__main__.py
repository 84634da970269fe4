"""Measure what is missing, compare, and write docs/RESULTS.md: `make results-dose`.

    python -m results.dose [--only TECHNIQUE …] [--tiny] [--fresh] [--model …] [--axis …]

An interrupted command goes on where it stopped. With --tiny, --only or --config the page and the
figure go to a temporary folder: what the project shows is of everything, at the settings of
settings.toml.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results.command import add_shared_flags, find_places, teller
from results.dose.cells import Study
from results.dose.figure import dose_figure, save_dose_figure
from results.dose.findings import Comparison, compare
from results.dose.searches import measure_searches
from results.dose.selection import compare_arms, measure_selection
from results.dose.techniques import CONSTANT, TECHNIQUES, Technique
from results.dose.words import (
    comparison_words,
    knee_words,
    search_words,
    selection_words,
)
from results.page import write_block
from results.store import Store
from steer_heal_love.budget.rows import settled
from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.settings import load_config
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text

SEEDS = (0, 1, 2)
SAMPLES = 64  # prompts of a cell
POOL = 192  # texts of a seed to choose from
N_KEEP = 48  # of them
SETTINGS = Path(__file__).parent / "settings.toml"
BLOCKS = ("dose-techniques", "dose-backtracking", "dose-search", "dose-selection")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(arguments)
    if options.fresh:
        shutil.rmtree(options.store, ignore_errors=True)
    techniques = choose_techniques(options.only)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tell = teller()
    study = make_study(options)
    target = study.config.dose.target_keep
    found = compare(study, techniques, target, tell)
    searches = {seed: measure_searches(study, seed) for seed in study.seeds}
    tell("searches measured")
    kappa = found.knees[0].kappa if found.knees else CONSTANT.kappas[1]
    pool, n_keep = (16, 4) if options.tiny else (POOL, N_KEEP)
    chosen = {}
    for seed in study.seeds:
        chosen[seed] = measure_selection(study, seed, kappa, pool, n_keep)
        tell(f"selection measured, seed {seed}")
    about = {
        "command": "make results-dose",
        "model": study.lm.identity.name,
        "axis": study.axis.name,
        "seeds": list(study.seeds),
        "samples": study.samples,
        "max_new_tokens": study.config.generate.max_new_tokens,
    }
    blocks = (
        comparison_words(found, about),
        knee_words(found.knees),
        search_words(searches),
        selection_words(chosen, kappa),
    )
    subject = f"axis {study.axis.name} on {study.lm.identity.name}"
    figure = dose_figure(found, techniques, subject)
    files = save_dose_figure(figure, options.docs / "results")
    values = {
        **about,
        "environment": describe_environment(study.lm),
        **values_of(found),
        "searches": searches,
        "selection": {
            "kappa": kappa,
            "by_seed": chosen,
            "trait_less_order": plain(compare_arms(list(chosen.values()))),
        },
    }
    write_text(options.docs / "results" / "dose.json", to_json(values))
    for name, block in zip(BLOCKS, blocks, strict=True):
        write_block(options.docs / "RESULTS.md", name, block)
    tell(f"written: {options.docs / 'RESULTS.md'}, {', '.join(map(str, files))}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the folders that follow from it."""
    names = [t.name for t in TECHNIQUES]
    parser = argparse.ArgumentParser(prog="python -m results.dose", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, metavar="TECHNIQUE")
    add_shared_flags(parser)
    options = parser.parse_args(arguments)
    find_places(options, "dose", aside=bool(options.tiny or options.only or options.config))
    return options


def choose_techniques(only: Sequence[str] | None) -> tuple[Technique, ...]:
    """Those that are named, and the constant dose, which all are held against."""
    wanted = {CONSTANT.name, *(only or [t.name for t in TECHNIQUES])}
    return tuple(t for t in TECHNIQUES if t.name in wanted)


def make_study(options: argparse.Namespace) -> Study:
    """The model, the axis and the settings as published; with --tiny a few short texts."""
    axis, contexts = load_axis(options.axis), load_contexts()
    config = load_config(options.config or SETTINGS)
    if options.tiny:
        config = shortened(config)
    lm = load_model(options.model)
    return Study(
        lm=lm,
        axis=axis,
        contexts=contexts,
        config=settled(lm, axis, training_prompts(axis, contexts, config.dose.min_prompts), config),
        seeds=SEEDS[:2] if options.tiny else SEEDS,
        samples=8 if options.tiny else SAMPLES,
        store=Store(options.store),
    )


def shortened(config: RunConfig) -> RunConfig:
    """Settings that are quick: short texts, one epoch, small probes."""
    shorter = {
        "generate": config.generate.model_copy(update={"max_new_tokens": 24}),
        "heal": config.heal.model_copy(update={"epochs": 1}),
        "dose": config.dose.model_copy(update={"probe_batch": 8}),
    }
    return config.model_copy(update=shorter)


def values_of(found: Comparison) -> dict[str, Any]:
    """Everything that the page rests on, as plain data."""
    return {
        "lines": {
            name: {
                "kappas": line.kappas,
                **{key: values[:, 0].tolist() for key, values in line.values.items()},
            }
            for name, line in found.lines.items()
        },
        "answer_pairs": {
            name: [{"kappa": kappa, **asdict(figure)} for kappa, figure in by_dose.items()]
            for name, by_dose in found.pairs.items()
        },
        "matched": [
            {
                "technique": m.name,
                "perplexity_factor": m.factor,
                **plain(m.figures),
                "against_constant": plain({"": m.against_constant})[""],
            }
            for m in found.matched
        ],
        "backtracking": [asdict(knee) for knee in found.knees],
    }


def plain(figures: Any) -> dict[str, Any]:
    """Intervals as plain data."""
    return {name: None if f is None else asdict(f) for name, f in figures.items()}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteerHealLoveError as error:
        sys.exit(f"results.dose: {error}")
