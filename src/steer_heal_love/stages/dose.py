"""Stage 2, dose: search for κ until enough of what is generated is fit to keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from steer_heal_love.errors import StarvedRound
from steer_heal_love.maths.dose_search import Bisection, Bracket, Walk, WalkState
from steer_heal_love.records import Effort, Judged
from steer_heal_love.stages.dosing.selection import SelectBy, mark_duplicates, select
from steer_heal_love.stages.settings import StageConfig

MIN_TOP_UP = 8  # a smaller batch costs nearly as much

# (κ, how many, index of the first) -> judged completions, of the probes in turn
Sample = Callable[[float, int, int], list[Judged]]


class DoseConfig(StageConfig):
    """How strong to steer, and how many completions to keep."""

    kappa_start: float = Field(0.64, gt=0)
    """Dose that the search begins at, and the highest it tries; 1 is the persona's own shift."""
    kappa_min: float = Field(0.1, gt=0)
    """Smallest dose that the search tries."""
    search: Literal["walk", "bisect"] = "walk"
    """Walk κ down by a factor, or bisect it in log κ from the last round's dose."""
    decay: float = Field(0.8, gt=0, lt=1)
    """Factor from one dose of the walk to the next."""
    bisect_step: float = Field(1.6, gt=1)
    """Factor from one dose of the bisection to the next, until it has one above and one below."""
    bisect_tolerance: float = Field(0.25, gt=0)
    """How close the bisection comes, in log κ."""
    target_keep: float = Field(0.5, gt=0, le=1)
    """Share of coherent and relevant completions that a dose must reach for the search to settle
    on it."""
    probe_batch: int = Field(24, ge=1)
    """Completions of the cheap batch that is tried before a full one."""
    batch: int = Field(64, ge=1)
    """Completions of a full batch."""
    n_keep: int = Field(72, ge=2)
    """Completions to train on."""
    select: SelectBy = "trait"
    """Train on the survivors that carry the most trait, balanced over prompts, or on the first."""
    top_share: float = Field(0.75, gt=0, le=1)
    """Share of the survivors to train on: less than 1 generates more to choose from."""
    steered_rounds: Annotated[int, Field(ge=0)] | Literal["all"] = "all"
    """Rounds, from the first, whose completions are steered; later ones learn the best of what the
    student says by itself."""
    max_generated: int = Field(512, ge=1)
    """Hard cap on the completions generated in one round."""
    min_prompts: int = Field(192, ge=1)
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

    def steers(self, r: int) -> bool:
        """Whether the completions of round `r`, from 0, are steered."""
        return self.steered_rounds == "all" or r < self.steered_rounds

    @property
    def n_survivors(self) -> int:
        """Survivors to collect, of which `n_keep` are trained on."""
        return math.ceil(self.n_keep / self.top_share - 1e-9)


@dataclass(frozen=True)
class Collected:
    """The settled dose and everything generated on the way; kept is at most `n_keep`."""

    kappa: float
    judged: tuple[Judged, ...]
    effort: Effort

    @property
    def kept(self) -> list[Judged]:
        """The completions to train on."""
        return [j for j in self.judged if j.kept]


def search_dose(sample: Sample, config: DoseConfig, kappa_start: float | None = None) -> Collected:
    """Search the dose by probe batches, then fill up at the dose that it settles on.

    From κ₀ = 0, where nothing is steered, there is no dose to search for.

    `walk`: while share < target and κ > κ_min: κ *= decay. `bisect`: the highest dose up to κ₀
    whose share reaches the target. Survivors of every dose are pooled; at the settled dose full
    batches top up until there are enough to choose `n_keep` from, under the cap `max_generated`.

    Raises:
        StarvedRound: fewer than `min_kept` survive; says which filter dropped how many.
    """
    kappa = config.kappa_start if kappa_start is None else kappa_start
    pool: list[Judged] = []
    doses: list[float] = []
    if kappa > 0:
        search = begin_search(config, kappa)
        while not search.settled and len(pool) < config.max_generated:
            count = min(config.probe_batch, config.max_generated - len(pool))
            probe = sample(search.kappa, count, len(pool))
            doses.append(search.kappa)
            pool += probe
            search = search.update(coherent_share(probe))
        kappa = search.kappa
    searched = len(pool)
    while survivors(pool) < config.n_survivors and len(pool) < config.max_generated:
        pool += sample(kappa, top_up(pool, kappa, config), len(pool))
    kept = survivors(pool)
    if kept < config.min_kept:
        raise StarvedRound(starved_message(pool, kept, kappa, config))
    effort = Effort(config.search, tuple(doses), _drawn(pool[:searched]), _drawn(pool))
    return Collected(kappa, tuple(select(pool, config.n_keep, config.select)), effort)


def begin_search(config: DoseConfig, start: float) -> WalkState | Bisection:
    """The search that the settings ask for, with nothing probed."""
    match config.search:
        case "walk":
            return WalkState.begin(Walk(start, config.decay, config.kappa_min, config.target_keep))
        case "bisect":
            bracket = Bracket(
                config.kappa_min,
                max(start, config.kappa_start),
                config.target_keep,
                config.bisect_step,
                config.bisect_tolerance,
            )
            return Bisection.begin(bracket, start)


def warm_start(settled: float, config: DoseConfig) -> float:
    """Where the next round's search begins, by the dose that this one's settled on.

    The walk only goes down, so it begins a step above; the bisection goes either way.
    """
    above = settled / config.decay if config.search == "walk" else settled
    return min(config.kappa_start, above)


def survivors(pool: Sequence[Judged]) -> int:
    """How many can be trained on: kept by the filter, and no near-duplicate of another."""
    return sum(j.kept for j in mark_duplicates(pool))


def _drawn(pool: Sequence[Judged]) -> int:
    """Tokens that were drawn for these completions, those that were rewound too."""
    return sum(j.completion.drawn_tokens for j in pool)


def top_up(pool: Sequence[Judged], kappa: float, config: DoseConfig) -> int:
    """How many more to generate: what is missing over the kept share so far, and a tenth more."""
    here = [j for j in pool if j.completion.kappa == kappa]
    share = max(sum(j.kept for j in here) / max(1, len(here)), 0.05)
    missing = config.n_survivors - survivors(pool)
    wanted = max(MIN_TOP_UP, math.ceil(1.1 * missing / share))
    return min(wanted, config.batch, config.max_generated - len(pool))


def coherent_share(judged: Sequence[Judged]) -> float:
    """Share that no filter but the trait floor dropped; relevance counts, where it was asked."""
    return sum(j.answers for j in judged) / max(1, len(judged))


def starved_message(pool: Sequence[Judged], kept: int, kappa: float, config: DoseConfig) -> str:
    """One line: how few were kept, at which dose, and which filter dropped how many."""
    counts = Counter(reason for j in pool for reason in j.reasons)
    dropped = ", ".join(f"{k} {v}" for k, v in sorted(counts.items(), key=lambda kv: -kv[1]))
    where, also = (
        (f"down to dose {kappa:.3g}", ", lower --dose.kappa-min,")
        if kappa > 0
        else ("without steering", "")
    )
    return (
        f"starved: {kept} of {len(pool)} completions kept (at least {config.min_kept} "
        f"wanted) {where}; dropped by {dropped or 'none'}: loosen the first of "
        f"these filters{also} or raise --dose.max-generated"
    )
