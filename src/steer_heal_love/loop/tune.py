"""Where to steer and how to read the direction: bands and extractions by what they give for what
they cost, on fixed texts, without an answer sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.loop.context import RunContext, fixed_seed
from steer_heal_love.loop.measure import reference_answers
from steer_heal_love.maths.direction import Extraction, extract_vectors, layer_band, random_like
from steer_heal_love.maths.paired import per_root_difference
from steer_heal_love.records import Axis, Context, Interval, Measurement, Pieces
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.instruments.answer_pairs import measure_trait
from steer_heal_love.stages.instruments.entropy import Reference
from steer_heal_love.stages.instruments.ratios import with_ratios
from steer_heal_love.stages.steer import SteerConfig, read_personas, to_direction

DOSE = 1.0  # the shift that the persona itself causes
BANDS = (
    *((0.2, 0.4), (0.3, 0.5), (0.4, 0.6), (0.5, 0.7), (0.6, 0.8), (0.7, 0.9)),
    *((0.3, 0.7), (0.3, 0.8)),
)
TRIED = 2  # of the best bands, in which the other extractions are tried
# So that a scan is short: contexts that directions are read from, at most, and what a candidate is
# measured on, which is half of what the conditions of a run are.
CONTEXTS, ANSWERS, PARAGRAPHS, PAIRS = 48, 12, 4, 24
EXTRACTIONS: tuple[Extraction, ...] = ("mean_difference", "principal", "separating")
EFFICIENCY = "trait_per_sqrt_kl"


@dataclass(frozen=True)
class Candidate:
    """A way to read the direction, and what the base model steered along it measures at."""

    steer: SteerConfig
    measured: Measurement
    random: bool = False  # its layers' norms, in directions drawn at random: no trait is in them

    @property
    def efficiency(self) -> Interval | None:
        """Trait at equal entropy over √KL, nats a token over √nats; None where no T* matches."""
        return self.measured.figures.get(EFFICIENCY)


@dataclass(frozen=True)
class Scan:
    """All candidates, that of the settings first, and the base model they are held against."""

    base: Measurement
    candidates: tuple[Candidate, ...]

    @property
    def own(self) -> Candidate:
        """The settings' own band and extraction."""
        return self.candidates[0]

    @property
    def best(self) -> Candidate:
        """The most trait for its divergence; the settings' own where none can be measured."""
        able = [c for c in self.candidates if c.efficiency is not None and not c.random]
        return max(able, key=lambda c: c.efficiency.value if c.efficiency else 0, default=self.own)

    def against_own(self, candidate: Candidate) -> Interval | None:
        """Its efficiency less that of the settings' own, on the same pairs and texts, 95 %."""
        one, other = ((c.measured.items["trait_nats"], _cost(c)) for c in (candidate, self.own))
        return per_root_difference(one, other, self.base.items["trait_nats"])


def _cost(candidate: Candidate) -> Sequence[float | None]:
    return candidate.measured.items.get("kl_matched_nats", ())


def scan(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    *,
    pieces: Pieces,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scan:
    """Measure the base model at dose 1 along each candidate, and along a random direction.

    All bands with the settings' own extraction, and then the others in the best of the bands. The
    hidden states of all layers are read once. A candidate takes one pass over the reference texts
    and one over answer pairs.

    Args:
        pieces: of the base model: the reference texts are sampled from it where they lack them.
        report: told how many candidates of how many are measured.

    Raises:
        DivergedError: a hidden state or a logit is not finite, or the personas do not differ.
    """
    run = RunContext(lm, axis, contexts, config, pieces, lambda _stage, _done, _total: None)
    reference = Reference(lm, spread(reference_answers(run), ANSWERS), PARAGRAPHS)
    asked, own = replace(axis, pairs=tuple(spread(axis.pairs, PAIRS))), config.steer
    with base(lm):
        bare = measure_trait(lm, asked, reference)
        read = spread(contexts, min(CONTEXTS, own.contexts))
        pos, neg = read_personas(lm, axis, read, range(len(lm.layers)))
    vectors = {extraction: extract_vectors(pos, neg, extraction) for extraction in EXTRACTIONS}

    candidates: list[Candidate] = []
    bands = list_bands(own)
    total = len(bands) + min(TRIED, len(bands)) * (len(EXTRACTIONS) - 1) + 1

    def measure(steer: SteerConfig, every_layer: Tensor, random: bool = False) -> None:
        layers = layer_band(len(lm.layers), steer.band_low, steer.band_high)
        direction = to_direction(layers, every_layer[layers.start : layers.stop])
        with base(lm), steering(lm, direction, DOSE):
            measured = with_ratios(measure_trait(lm, asked, reference), bare)
        candidates.append(Candidate(steer, measured, random))
        report(len(candidates), total)

    for steer in bands:
        measure(steer, vectors[steer.extraction])
    for steer in list_others(candidates):
        measure(steer, vectors[steer.extraction])
    drawn = random_like(vectors[own.extraction], seed=fixed_seed(run, "random direction"))
    measure(own, drawn, random=True)
    return Scan(bare, tuple(candidates))


def list_bands(own: SteerConfig) -> list[SteerConfig]:
    """The settings' own first, then every other band with the settings' own extraction."""
    bands = [own.model_copy(update={"band_low": low, "band_high": high}) for low, high in BANDS]
    return list(dict.fromkeys([own, *bands]))


def list_others(candidates: Sequence[Candidate]) -> list[SteerConfig]:
    """The best of these, with each extraction that they do not have."""

    def efficiency(candidate: Candidate) -> float:
        return -math.inf if candidate.efficiency is None else candidate.efficiency.value

    best = sorted(candidates, key=efficiency, reverse=True)[:TRIED]
    return [
        candidate.steer.model_copy(update={"extraction": extraction})
        for candidate in best
        for extraction in EXTRACTIONS
        if extraction != candidate.steer.extraction
    ]
