"""`shl audit-filter`: what the filter catches, on completions whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steer_heal_love.checks.filter_audit import FAR, Audit, KindReport, Variant, audit, build_cases
from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.records import Axis, Completion, Interval
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.model import load_for, settle
from steer_heal_love.runner.settings import read_settings
from steer_heal_love.runs.files import write_text
from steer_heal_love.stages.filter import (
    FilterConfig,
    Scored,
    judge,
    measure_limits,
    score_completions,
)
from steer_heal_love.stages.steer import extract_direction
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen

QUANTILES = (0.9, 0.95, 0.975, 0.99, 1.0)
FACTORS = (1.0, 1.25, 1.5, 2.0)
NOT_COHERENCE = {"trait", "irrelevant", "unfit"}  # a base sample with neither is still a sound one


@dataclass(frozen=True)
class AuditArguments:
    """Try the filter on base samples and on what is made from them: loops, shuffles, splices, …

    Constants are chosen on one half of the completions and reported on the other.
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """A run directory, for its model, axis and settings."""
    model: str | None = None
    """Hub id, local folder, .gguf file, or the alias smollm2; by default the run's."""
    axis: str | None = None
    """Built-in axis or path of an axis .toml; by default the run's, or love."""
    samples: int = 64
    """Base samples to make the completions from."""
    kappa: float = 5.0
    """Dose far above the knee."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    seed: int = 0
    """Seed of the samples and constructions."""
    out: Path | None = None
    """Write the audit to this JSON file."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, sample, construct, score, show."""
    options = parse(AuditArguments, arguments, "shl audit-filter")
    if options.samples < 8:
        raise ConfigError("--samples: an audit needs at least 8 base samples")
    if not 0 < options.kappa < 1e6:
        raise ConfigError("--kappa: the dose far above the knee is a number above 0")
    settings, axis = (
        read_settings(options.run, trust=options.trust_remote_code)
        if options.run
        else (RunConfig(), None)
    )
    settings = settings.model_copy(
        update={"seed": options.seed, "model": options.model or settings.model}
    )
    if options.axis is not None or axis is None:
        axis = load_axis(options.axis or settings.axis)
    with Screen(quiet=options.quiet) as screen:
        lm = load_for(settings, screen)
        settings = settle(lm, axis, settings, screen)
        screen.say("sampling and scoring …")
        result = audit_filter(lm, axis, settings, options.samples, options.kappa)
    if not options.quiet:
        show(result)
    if options.out is not None:
        head = {"model": lm.identity.name, "axis": axis.name, "seed": options.seed}
        about = {**head, "samples": options.samples, "kappa": options.kappa}
        text = json.dumps({**about, **asdict(result)}, indent=1, ensure_ascii=False)
        write_text(options.out, text + "\n")
    return 0


def audit_filter(
    lm: LanguageModel, axis: Axis, settings: RunConfig, samples: int, kappa: float
) -> Audit:
    """The filter on trial on this model and axis."""
    prompts = [axis.probes[i % len(axis.probes)] for i in range(samples)]
    with base(lm):
        direction = extract_direction(lm, axis, load_contexts(), settings.steer)
        cases = build_cases(lm, axis, _sample(lm, prompts, settings, 0.0), settings.seed)
        with steering(lm, direction, kappa):
            cases[FAR] = _sample(lm, prompts, settings, kappa)
    every = [(name, c) for name, rows in cases.items() for c in rows]
    scored = score_completions(lm, axis, [c for _, c in every], settings.filter)
    by_kind: dict[str, list[Scored]] = {name: [] for name in cases}
    for (name, _), row in zip(every, scored, strict=True):
        by_kind[name].append(row)
    return audit(by_kind, score_values, filter_variants(settings.filter))


def _sample(
    lm: LanguageModel, prompts: Sequence[str], settings: RunConfig, kappa: float
) -> list[Completion]:
    g = settings.generate
    how = Sampling(g.max_new_tokens, g.temperature, g.top_k, g.top_p)
    return sample_answers(
        lm, prompts, how, seed=settings.seed, kappa=kappa, batch_size=g.batch_size
    )


def score_values(scored: Scored) -> dict[str, float]:
    """Every coherence score of a completion, higher for worse texts."""
    s = scored.scores
    return {
        "perplexity": s.perplexity,
        "tail": s.tail_perplexity,
        "window": s.window_perplexity,
        "repetition": s.word_repetition,
        "char run": s.char_run,
        "compression": s.compression,
        "loop": float(is_loop(scored.completion.text)),
        "narrates": float(s.narrates),
        "refuses": float(s.refuses),
        "empty": float(s.empty),
    }


def filter_variants(config: FilterConfig) -> list[Variant[Scored]]:
    """The filter as it is set, and with other quantiles and factors for what is sound."""
    grid = {
        f"sound quantile {q:g}, factor {f:g}": config.model_copy(
            update={"sound_quantile": q, "sound_factor": f}
        )
        for q in QUANTILES
        for f in FACTORS
    }
    return [Variant(n, _fit(c)) for n, c in {"as configured": config, **grid}.items()]


def _fit(config: FilterConfig) -> Callable[[Sequence[Scored]], Callable[[Scored], bool]]:
    def fit(samples: Sequence[Scored]) -> Callable[[Scored], bool]:
        limits = measure_limits(samples, config)
        return lambda scored: bool(set(judge(scored, limits, config).reasons) - NOT_COHERENCE)

    return fit


def show(result: Audit) -> None:
    """The audit as two tables and a sentence."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, caption=f"{result.words} All on the held-out half, {_RULE}")
    for heading in ("kind", "n", "recall", "precision", "which score tells it"):
        table.add_column(heading)
    table.add_row("base (false drops)", "", Text(_share(result.false_drops)), "", "")
    for k in result.kinds:
        precision = _share(k.precision) if k.precision else "–"
        table.add_row(k.kind, str(k.count), _share(k.recall), precision, Text(k.words))
    console.print(table)
    console.print(_auroc_table(result.kinds))
    as_set, chosen = result.development["as configured"], result.development[result.chosen]
    console.print(
        f"chosen on the development half: {result.chosen} (false drops {chosen[0]:.0%}, mean "
        f"recall {chosen[1]:.0%}; as configured {as_set[0]:.0%}, {as_set[1]:.0%})"
    )


_RULE = "with 95 % intervals; constants chosen on the other half."


def _auroc_table(kinds: Sequence[KindReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption="AUROC of each score, kind against base")
    table.add_column("score", no_wrap=True)
    for k in kinds:
        table.add_column(k.kind, justify="right", min_width=4)
    for name in kinds[0].auroc:
        table.add_row(name, *(f"{k.auroc[name].value:.2f}" for k in kinds))
    return table


def _share(interval: Interval) -> str:
    return f"{interval.value:.0%} ({100 * interval.low:.0f}–{100 * interval.high:.0f})"
