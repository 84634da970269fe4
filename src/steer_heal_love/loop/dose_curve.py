"""What a dose does: steered answers, how much trait they carry, and what is left of coherence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.contrast import contrasting
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.loop.collect import base_limits, sample, sample_steered, steer_as_set
from steer_heal_love.loop.context import RunContext, extract
from steer_heal_love.loop.measure import get_reference
from steer_heal_love.maths.paired import known
from steer_heal_love.maths.statistics import bootstrap_mean, proportion_interval
from steer_heal_love.piece_names import BASELINE
from steer_heal_love.records import (
    Axis,
    Context,
    Direction,
    Interval,
    Judged,
    Limits,
    Measurement,
    Pieces,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.evaluate import join
from steer_heal_love.stages.instruments.answer_pairs import measure_trait
from steer_heal_love.stages.instruments.coherence import measure_coherence

COHERENCE = ("perplexity", "tail_perplexity", "perplexity_p90", "loop_share", "distinct_2")
PERSONA_SAMPLES = 48  # of the two persona prompts together, to see whether the ratio is valid


@dataclass(frozen=True)
class Personas:
    """The base model under each persona prompt, on the same items: can an instrument tell them?"""

    pos: Measurement
    neg: Measurement


def measure_curve(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    kappas: Sequence[float],
    samples: int,
    *,
    contrast: bool = False,
    pieces: Pieces,
    report: Callable[[str, float, float], None] = lambda _stage, _done, _total: None,
) -> tuple[Personas, Iterator[tuple[float, Measurement]]]:
    """Of the base model under its personas, and then of each dose as it is asked for.

    The answers of all doses have the same prompts and the same noise.

    Args:
        contrast: the doses are amplifications γ of the personas' contrast, and nothing is steered.

    Raises:
        DivergedError: a hidden state or a logit is not finite.
    """
    run = RunContext(lm, axis, contexts, config, pieces, report)
    limits = base_limits(run)
    prompts = spread_prompts(run.prompts, samples)
    personas = measure_personas(run, config.seed)
    if contrast:
        return personas, (
            (gamma, measure_contrast(run, prompts, gamma, limits, config.seed)) for gamma in kappas
        )
    direction = extract(run, 0)
    points = (
        (kappa, measure_dose(run, prompts, direction, kappa, limits, config.seed))
        for kappa in kappas
    )
    return personas, points


def spread_prompts(prompts: Sequence[str], count: int) -> list[str]:
    """This many of the prompts, evenly over the list; in turn where there are fewer."""
    if count >= len(prompts):
        return [prompts[i % len(prompts)] for i in range(count)]
    return spread(prompts, count)


def sample_dose(
    run: RunContext,
    prompts: Sequence[str],
    direction: Direction,
    kappa: float,
    limits: Limits,
    seed: int,
) -> list[Judged]:
    """Answers at this dose, given as the settings have it, each with its scores and its fate."""
    completions = sample_steered(run, prompts, direction, kappa, limits, seed, 0)
    return filtering.judge_all(run.lm, run.axis, completions, limits, run.config.filter)


def measure_dose(
    run: RunContext,
    prompts: Sequence[str],
    direction: Direction,
    kappa: float,
    limits: Limits,
    seed: int,
) -> Measurement:
    """Trait and coherence at this dose, with 95 % intervals; an item is an answer, or a pair.

    Figures: `persona_nats`, those of `measure_trait` (where the dose is the same throughout),
    `perplexity`, the median `tail_perplexity`, `perplexity_p90`, `loop_share`, `distinct_2`,
    `coherent_share` (dropped by no filter but the trait floor) and `kept_share`. Answers that were
    given up while they were generated count in the last two alone.
    """
    judged = sample_dose(run, prompts, direction, kappa, limits, seed)
    pairs = []
    if not run.config.dosing.follows:
        steered = steer_as_set(run, direction, kappa) if kappa else nullcontext()
        with steered:
            pairs.append(measure_trait(run.lm, run.axis, get_reference(run)))
    return join([_persona(judged), _coherence(judged), _shares(judged), *pairs])


def measure_contrast(
    run: RunContext, prompts: Sequence[str], gamma: float, limits: Limits, seed: int
) -> Measurement:
    """The same for the base model under the contrast of its personas, amplified by γ."""
    with base(run.lm), contrasting(run.lm, run.axis, gamma) if gamma else nullcontext():
        completions = sample(run, prompts, 0.0, seed, 0)
        pairs = measure_trait(run.lm, run.axis, get_reference(run))
    judged = filtering.judge_all(run.lm, run.axis, completions, limits, run.config.filter)
    return join([_persona(judged), _coherence(judged), _shares(judged), pairs])


def _persona(judged: Sequence[Judged]) -> Measurement:
    values = tuple(j.scores.trait_nats for j in judged)
    there = known(values)
    return Measurement(
        {"persona_nats": bootstrap_mean(there)} if there else {}, {"persona_nats": values}
    )


def _coherence(judged: Sequence[Judged]) -> Measurement:
    whole = [j for j in judged if not j.completion.dropped]
    if not whole:
        return Measurement({}, {})
    figures = measure_coherence(whole).figures
    return Measurement({n: figures[n] for n in COHERENCE if n in figures}, {})


def _shares(judged: Sequence[Judged]) -> Measurement:
    items: dict[str, tuple[float | None, ...]] = {
        "coherent_share": tuple(float(j.coherent) for j in judged),
        "kept_share": tuple(float(j.kept) for j in judged),
    }
    figures: dict[str, Interval] = {
        name: proportion_interval(round(sum(map(float, known(values)))), len(values))
        for name, values in items.items()
    }
    return Measurement(figures, items)


def measure_personas(run: RunContext, seed: int) -> Personas:
    """Items `trait_nats`, of answer pairs, and `persona_nats`, of sampled answers, under each."""
    reference = get_reference(run)

    def compute() -> tuple[Measurement, Measurement]:
        systems = (run.axis.pos_system, run.axis.neg_system)
        prompts = spread_prompts(run.prompts, PERSONA_SAMPLES // 2)
        with base(run.lm):
            pairs = [measure_trait(run.lm, run.axis, reference, s) for s in systems]
            texts = [
                sample_answers(run.lm, prompts, run.sampling, seed=seed, system=system)
                for system in systems
            ]
        config = run.config.filter
        ratios = [
            [s.scores.trait_nats for s in filtering.score_completions(run.lm, run.axis, t, config)]
            for t in texts
        ]
        pos, neg = (
            Measurement({}, {"trait_nats": p.items["trait_nats"], "persona_nats": tuple(r)})
            for p, r in zip(pairs, ratios, strict=True)
        )
        return pos, neg

    return Personas(*run.do(BASELINE / f"personas-{seed}", compute))
