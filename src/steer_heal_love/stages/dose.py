"""Stage 2, dose: walk κ down until enough of what is generated is fit to keep."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import Field, model_validator

from steer_heal_love.errors import StarvedRound
from steer_heal_love.maths.dose_search import Walk, WalkState
from steer_heal_love.records import Judged
from steer_heal_love.stages.settings import StageConfig

MIN_TOP_UP = 8  # a smaller batch costs nearly as much

# (κ, how many, index of the first) -> judged completions, of the probes in turn
Sample = Callable[[float, int, int], list[Judged]]


class DoseConfig(StageConfig):
    """How strong to steer, and how many completions to keep."""

    kappa_start: float = Field(1.0, gt=0)
    """Dose that the walk begins at; 1 is the shift that the persona itself causes."""
    kappa_min: float = Field(0.1, gt=0)
    """Smallest dose that the walk tries."""
    decay: float = Field(0.8, gt=0, lt=1)
    """Factor from one dose of the walk to the next."""
    target_keep: float = Field(0.5, gt=0, le=1)
    """Share of coherent completions that a dose must reach for the walk to settle on it."""
    probe_batch: int = Field(24, ge=1)
    """Completions of the cheap batch that is tried before a full one."""
    batch: int = Field(64, ge=1)
    """Completions of a full batch."""
    n_keep: int = Field(64, ge=2)
    """Completions to train on."""
    max_generated: int = Field(512, ge=1)
    """Hard cap on the completions generated in one round."""
    min_prompts: int = Field(96, ge=1)
    """Generate on this many different prompts at least: the axis's probes, then contexts."""
    min_kept: int = Field(16, ge=1)
    """Fewer kept completions than this starve the round."""

    @model_validator(mode="after")
    def _ordered(self) -> DoseConfig:
        if self.kappa_min > self.kappa_start:
            raise ValueError("kappa_min must not exceed kappa_start")
        if self.min_kept > self.n_keep:
            raise ValueError("min_kept must not exceed n_keep")
        return self


@dataclass(frozen=True)
class Harvest:
    """The settled dose and everything generated on the way; kept is at most `n_keep`."""

    kappa: float
    judged: tuple[Judged, ...]

    @property
    def kept(self) -> list[Judged]:
        """The completions to train on."""
        return [j for j in self.judged if j.kept]


def walk_dose(sample: Sample, config: DoseConfig, kappa_start: float | None = None) -> Harvest:
    """Lower κ until the coherent share of a probe batch reaches the target, then fill up.

    `while share < target and κ > κ_min: κ *= decay`; survivors of every dose are banked; at the
    settled dose full batches top up to `n_keep` under the cap `max_generated`.

    Raises:
        StarvedRound: fewer than `min_kept` survive; says which filter dropped how many.
    """
    start = config.kappa_start if kappa_start is None else kappa_start
    state = WalkState.begin(Walk(start, config.decay, config.kappa_min, config.target_keep))
    bank: list[Judged] = []
    while not state.settled and len(bank) < config.max_generated:
        count = min(config.probe_batch, config.max_generated - len(bank))
        probe = sample(state.kappa, count, len(bank))
        bank += probe
        state = state.update(coherent_share(probe))
    kappa = state.kappa
    while sum(j.kept for j in bank) < config.n_keep and len(bank) < config.max_generated:
        bank += sample(kappa, top_up(bank, kappa, config), len(bank))
    kept = sum(j.kept for j in bank)
    if kept < config.min_kept:
        raise StarvedRound(starved_message(bank, kept, kappa, config))
    return Harvest(kappa, tuple(select(bank, config.n_keep)))


def top_up(bank: Sequence[Judged], kappa: float, config: DoseConfig) -> int:
    """How many more to generate: what is missing over the kept share so far, and a tenth more."""
    here = [j for j in bank if j.completion.kappa == kappa]
    share = max(sum(j.kept for j in here) / max(1, len(here)), 0.05)
    missing = config.n_keep - sum(j.kept for j in bank)
    wanted = max(MIN_TOP_UP, math.ceil(1.1 * missing / share))
    return min(wanted, config.batch, config.max_generated - len(bank))


def coherent_share(judged: Sequence[Judged]) -> float:
    """Share that no filter but the trait floor dropped: the dose is about coherence."""
    return sum(not set(j.reasons) - {"trait"} for j in judged) / max(1, len(judged))


def select(judged: Sequence[Judged], n_keep: int) -> list[Judged]:
    """Of the survivors the `n_keep` that carry the most trait, balanced over prompts.

    Each prompt gives its best survivor before any gives its second, so that a few easy prompts
    do not own the training set. Near-duplicates and the rest are marked with the reason.
    """
    judged = _mark_duplicates(judged)
    by_prompt: dict[str, list[int]] = defaultdict(list)
    order = sorted(
        (i for i, j in enumerate(judged) if j.kept),
        key=lambda i: (-(judged[i].scores.trait_nats or 0.0), i),
    )
    for i in order:
        by_prompt[judged[i].completion.prompt].append(i)
    turns = [(turn, i) for rows in by_prompt.values() for turn, i in enumerate(rows)]
    trait = {i: judged[i].scores.trait_nats or 0.0 for i in order}
    chosen = {i for _, i in sorted(turns, key=lambda t: (t[0], -trait[t[1]], t[1]))[:n_keep]}
    return [
        replace(j, reasons=("surplus",)) if j.kept and i not in chosen else j
        for i, j in enumerate(judged)
    ]


def _mark_duplicates(judged: Sequence[Judged]) -> list[Judged]:
    seen: set[frozenset[tuple[str, ...]]] = set()
    opened: list[tuple[str, frozenset[tuple[str, ...]]]] = []
    marked = []
    for j in judged:
        grams = _trigrams(j.completion.text)
        twin = grams in seen or any(
            prompt == j.completion.prompt and _jaccard(grams, other) > 0.6
            for prompt, other in opened
        )
        if j.kept and twin:
            j = replace(j, reasons=("duplicate",))
        elif j.kept:
            seen.add(grams)
            opened.append((j.completion.prompt, grams))
        marked.append(j)
    return marked


def _trigrams(text: str) -> frozenset[tuple[str, ...]]:
    words = text.lower().split()
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / max(1, len(a | b))


def starved_message(bank: Sequence[Judged], kept: int, kappa: float, config: DoseConfig) -> str:
    """One line: how few were kept, at which dose, and which filter dropped how many."""
    counts: dict[str, int] = defaultdict(int)
    for j in bank:
        for reason in j.reasons:
            counts[reason] += 1
    dropped = ", ".join(f"{k} {v}" for k, v in sorted(counts.items(), key=lambda kv: -kv[1]))
    return (
        f"starved: {kept} of {len(bank)} completions kept (at least {config.min_kept} "
        f"wanted) down to dose {kappa:.3g}; dropped by {dropped or 'none'}: loosen the first of "
        "these filters, lower --dose.kappa-min, or raise --dose.max-generated"
    )
