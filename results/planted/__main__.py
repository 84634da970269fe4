"""Measure what is missing, compare, and write docs/RESULTS.md: `make results-planted`.

    python -m results.planted [--share SHARE] [--tau TAU] [--tiny] [--fresh] [--model …] [--axis …]

An interrupted command goes on where it stopped. With --tiny, --share, --tau or --config the page
and the figure go to a temporary folder: what the project shows is at this command's defaults.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from results.command import add_shared_flags, find_places, teller
from results.page import write_block
from results.planted.figure import planted_figure
from results.planted.findings import (
    Found,
    matched_students,
    matched_taus,
    seen_by,
    shown_text,
    students,
)
from results.planted.planting import INSIDE, KINDS, TO_THE_END, Kind
from results.planted.students import measure_arm, measure_base
from results.planted.study import ARMS, Arm, Study
from results.planted.texts import loops_seen, texts_of
from results.planted.words import matched_words, seen_words, student_words
from results.store import Store
from steer_heal_love.budget.rows import settled
from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.reading.chat import decode_text
from steer_heal_love.maths.divergence import Aggregate
from steer_heal_love.report.figures.drawing import save_twins
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.settings import load_config
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text

SEEDS = (0, 1, 2)
SHARE = 0.25
# One heal on the model's own samples is a small step: at the default τ of a run neither the mean
# nor the rmse would say anything of them. At this one they differ in what they see of a loop.
TAU = 0.2
FRESH = 16  # planted texts that no student learns from
BLOCKS = ("planted-seen", "planted-students", "planted-matched")
TINY_KINDS = (
    Kind(INSIDE.where, at=8, period=2, loop=8, rest=4),
    Kind(TO_THE_END.where, at=8, period=2, loop=10),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(arguments)
    if options.fresh:
        shutil.rmtree(options.store, ignore_errors=True)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tell = teller()
    study = make_study(options)
    base, arms = measure_all(study, tell)
    tau, default = study.tau, study.config.heal.tau
    seen, rows = seen_by(arms["none"], tau, default), students(base, arms)
    about = about_of(study)
    taus = matched_taus(arms["none"], tau)
    matched = measure_matched(study, taus, tell)
    beside = matched_students(base, arms["rmse"], matched, {**taus, "rmse": tau})
    blocks = (
        seen_words(seen, about),
        student_words(rows, base, arms, about),
        matched_words(beside, about),
    )
    text = shown(study, arms)
    subject = f"{study.lm.identity.name}, {len(study.seeds)} seeds"
    files = save_twins([planted_figure(seen, rows, text, tau, subject)], options.docs / "results")
    values = {
        **about,
        "environment": describe_environment(study.lm),
        "seen": [asdict(row) for row in seen],
        "students": [asdict(row) for row in rows],
        "shown": text,
        "by_seed": by_seed({"base": base, **arms}),
        "matched": [asdict(row) for row in beside],
        "matched_by_seed": by_seed(matched),
    }
    write_text(options.docs / "results" / "planted.json", to_json(values))
    for name, block in zip(BLOCKS, blocks, strict=True):
        write_block(options.docs / "RESULTS.md", name, block)
    tell(f"written: {options.docs / 'RESULTS.md'}, {', '.join(map(str, files))}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the folders that follow from it."""
    parser = argparse.ArgumentParser(prog="python -m results.planted", description=__doc__)
    parser.add_argument("--share", type=_share, default=SHARE, help="of texts with a loop, 0 to 1")
    parser.add_argument("--tau", type=_tau, default=TAU, help="of every barrier, nats")
    add_shared_flags(parser)
    options = parser.parse_args(arguments)
    changed = options.share != SHARE or options.tau != TAU
    find_places(options, "planted", aside=bool(options.tiny or options.config or changed))
    return options


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _tau(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no divergence: give 0 or more")
    return value


def make_study(options: argparse.Namespace) -> Study:
    """The model, the axis and the default settings of a run; with --tiny a few short texts."""
    config = load_config(options.config)
    no_vignettes = config.evaluate.model_copy(update={"mfv": "off"})
    config = config.model_copy(update={"evaluate": no_vignettes})
    if options.tiny:
        config = shortened(config)
    lm, axis, contexts = load_model(options.model), load_axis(options.axis), load_contexts()
    return Study(
        lm=lm,
        axis=axis,
        contexts=contexts,
        config=settled(lm, axis, training_prompts(axis, contexts, config.dose.min_prompts), config),
        seeds=SEEDS[:2] if options.tiny else SEEDS,
        kinds=TINY_KINDS if options.tiny else KINDS,
        share=options.share,
        tau=options.tau,
        texts=8 if options.tiny else config.dose.n_keep,
        fresh=4 if options.tiny else FRESH,
        store=Store(options.store),
    )


def shortened(config: RunConfig) -> RunConfig:
    """Settings that are quick: short texts, one epoch, few samples."""
    few = {"samples": 8, "max_new_tokens": 16, "long_samples": 2, "long_tokens": 24}
    shorter = {
        "generate": config.generate.model_copy(update={"max_new_tokens": 24}),
        "heal": config.heal.model_copy(update={"epochs": 1, "batch_size": 2}),
        "evaluate": config.evaluate.model_copy(update=few),
    }
    return config.model_copy(update=shorter)


def measure_all(study: Study, tell: Callable[[str], None]) -> tuple[Found, dict[Arm, Found]]:
    """Every piece that is missing, seed by seed: of the base model, and of each arm."""
    base: dict[int, Any] = {}
    arms: dict[Arm, dict[int, Any]] = {arm: {} for arm in ARMS}
    for seed in study.seeds:
        base[seed] = measure_base(study, seed)
        tell(f"seed {seed}, base")
        for arm in ARMS:
            arms[arm][seed] = measure_arm(study, arm, seed)
            tell(f"seed {seed}, {arm}")
    return base, dict(arms)


def measure_matched(
    study: Study, taus: Mapping[Aggregate, float], tell: Callable[[str], None]
) -> dict[Arm, Found]:
    """Every piece that is missing of the students behind barriers of equal strength."""
    arms: dict[Arm, dict[int, Any]] = {name: {} for name in taus}
    for seed in study.seeds:
        for name, tau in taus.items():
            arms[name][seed] = measure_arm(study, name, seed, tau)
            tell(f"seed {seed}, {name} at τ = {tau:g}")
    return dict(arms)


def about_of(study: Study) -> dict[str, Any]:
    """What was measured, in the words and numbers that the page begins with."""
    seen = [loops_seen(study, seed) for seed in study.seeds]
    evaluate = study.config.evaluate
    return {
        "command": "make results-planted",
        "model": study.lm.identity.name,
        "axis": study.axis.name,
        "seeds": list(study.seeds),
        "texts": study.texts,
        "share": study.share,
        "kinds": [asdict(kind) for kind in study.kinds],
        "loops": {kind.where: [f for s in seen for f in s[kind.where]] for kind in study.kinds},
        "tau": study.tau,
        "default_tau": study.config.heal.tau,
        "lam": study.config.heal.lam,
        "samples": evaluate.samples,
        "tokens": evaluate.max_new_tokens,
        "long_samples": evaluate.long_samples,
        "long_tokens": evaluate.long_tokens,
    }


def shown(study: Study, arms: Mapping[Arm, Found]) -> dict[str, Any]:
    """The text that the figure shows: its tokens, its loop, and each student's KL along it."""
    seed = study.seeds[0]
    loops = texts_of(study, seed).loops
    inside = [i for i, (_, text) in enumerate(loops) if text.kind.where == INSIDE.where]
    place = inside[shown_text(arms["none"][seed])]
    prompt, text = loops[place]
    return {
        "seed": seed,
        "prompt": prompt,
        "text": decode_text(study.lm, text.token_ids),
        "tokens": [decode_text(study.lm, [token]) for token in text.token_ids],
        "loop": [text.loop.start, text.loop.stop],
        "period": text.kind.period,
        "kl": {arm: found[seed]["kl"][place] for arm, found in arms.items()},
    }


def by_seed(found: Mapping[str, Found]) -> dict[str, Any]:
    """Samples, loops and divergences of each seed, without the positions."""
    return {name: _without_kl(rows) for name, rows in found.items()}


def _without_kl(found: Found) -> dict[str, Any]:
    return {
        str(seed): {name: _rounded(v) for name, v in values.items() if name != "kl"}
        for seed, values in found.items()
    }


def _rounded(value: Any) -> Any:
    """Plain data with four decimals."""
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {name: _rounded(v) for name, v in value.items()}
        case list():
            return [_rounded(v) for v in value]
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteerHealLoveError as error:
        print(f"results.planted: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
