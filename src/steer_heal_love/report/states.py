"""A run as records, read from plain JSON data that may be unfinished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import Interval, Measurement, Rival
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import Answer, Verdict

TRAIT = "trait_nats"
RAW = "trait_raw_nats"  # the trait at temperature 1; older runs hold it under the name `TRAIT`
PERPLEXITY = "perplexity"
LOOPS = "loop_share"

# The rivals of the first round's heal, with their places in the picture, beside the healed model.
RIVAL_PLACES = {"sft": 1.7, "arithmetic": 2.3}

# condition → instrument → one value per item, None where an item has none
Items = Mapping[str, Mapping[str, Sequence[float | None]]]


@dataclass(frozen=True)
class State:
    """One state of the model on its way: base, or a round's steered or healed model."""

    position: float  # 0 base, 1 + 2 r steered, 2 + 2 r healed
    condition: str  # base, prompt_pos, prompt_neg, steered or healed; a rival's name
    round: int | None  # from 0; None for base, prompted or not
    measured: Measurement

    @property
    def name(self) -> str:
        """The state in words."""
        return self.condition if self.round is None else f"round {self.round} {self.condition}"

    def figure(self, name: str) -> Interval | None:
        """A figure of this state, where it was measured."""
        return self.measured.figures.get(name)


@dataclass(frozen=True)
class Round:
    """What is known of a round; what is not is None or missing."""

    number: int
    dose: float | None
    kept: float | None
    total: float | None
    heal: Mapping[str, Any]  # its figures over the last quarter: nll, divergence, over_tau
    steered: State | None
    healed: State | None
    rivals: tuple[State, ...]  # other ways from the same texts to an adapter; of the first round
    front: tuple[tuple[Rival, Measurement], ...]  # without training, base among them; of the first
    costs: Mapping[str, Mapping[str, Any]]  # wall_s, tokens, peak_gib, by stage
    cosine_first: float
    notes: tuple[str, ...]
    stopped: object  # why the loop ended after it; empty where it did not


@dataclass(frozen=True)
class Run:
    """What is known of a run."""

    axis: object = None
    model: object = None
    seed: object = None
    tau: float | None = None
    wanted: float | None = None  # rounds that it was to have
    base: State | None = None
    prompt_pos: State | None = None
    prompt_neg: State | None = None
    rounds: tuple[Round, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def states(self) -> list[State]:
        """The measured states in the order of the method: base, then steered and healed."""
        every = [self.base, *(s for r in self.rounds for s in (r.steered, r.healed))]
        return [state for state in every if state is not None]

    @property
    def healed(self) -> State | None:
        """The newest healed state."""
        return next((r.healed for r in reversed(self.rounds) if r.healed), None)

    @property
    def rivals(self) -> tuple[State, ...]:
        """The rivals of the first round's heal; none in runs without them."""
        return self.rounds[0].rivals if self.rounds else ()

    @property
    def is_finished(self) -> bool:
        """Whether all its rounds are healed, or the coherence floor ended it early."""
        if not self.rounds or self.rounds[-1].healed is None:
            return False
        return bool(self.rounds[-1].stopped) or len(self.rounds) >= (self.wanted or 0)


def parse_run(view: RunView) -> Run:
    """The run of a directory, with the values per item that it holds.

    Raises:
        RunError: a file of the run is broken.
    """
    settings = {
        "axis": view.metrics.get("axis") or view.axis.name,
        "model": view.metrics.get("model") or view.config.get("model"),
        "seed": view.config.get("seed", view.metrics.get("seed")),
    }
    if read_number(view.metrics.get("tau")) is None:
        settings["tau"] = read_mapping(view.config.get("heal")).get("tau")
    wanted = read_number(view.config.get("rounds"))
    return parse_metrics({**view.metrics, **settings}, view.items, wanted=wanted)


def parse_metrics(
    metrics: Mapping[str, Any],
    items_of: Callable[[int | None], Items] = lambda _round: {},
    *,
    wanted: float | None = None,
) -> Run:
    """The run of a `metrics.json`; an unfinished one will do.

    Args:
        items_of: the values per item of the baseline and of a round, by its number; None: of the
            last.
        wanted: rounds that it was to have.
    """
    of_base = items_of(None)

    def prompted(condition: str) -> State | None:
        return _state(0, condition, None, metrics.get(condition), of_base)

    return Run(
        axis=metrics.get("axis"),
        model=metrics.get("model"),
        seed=metrics.get("seed"),
        tau=read_number(metrics.get("tau")),
        wanted=wanted,
        base=prompted("base"),
        prompt_pos=prompted("prompt_pos"),
        prompt_neg=prompted("prompt_neg"),
        rounds=tuple(_round(e, i, items_of) for i, e in enumerate(read_rounds(metrics))),
        verdicts=_verdicts(metrics.get("verdicts")),
    )


def _round(entry: Mapping[str, Any], index: int, items_of: Callable[[int | None], Items]) -> Round:
    number = int(read_number(entry.get("round")) or index)
    items, notes = items_of(number), entry.get("notes")
    rivals = read_mapping(entry.get("rivals")) if index == 0 else {}
    others = (_state(at, n, 0, rivals.get(n), items) for n, at in RIVAL_PLACES.items())
    return Round(
        number=number,
        dose=read_number(entry.get("dose")),
        kept=read_number(entry.get("kept")),
        total=read_number(entry.get("total")),
        heal=read_mapping(entry.get("heal")),
        steered=_state(2 * index + 1, "steered", index, entry.get("steered"), items),
        healed=_state(2 * index + 2, "healed", index, entry.get("healed"), items),
        rivals=tuple(state for state in others if state is not None),
        front=_front(entry.get("front")) if index == 0 else (),
        costs={name: read_mapping(entry.get(name)) for name in ("wall_s", "tokens", "peak_gib")},
        cosine_first=read_number(entry.get("cosine_first")) or 0.0,
        notes=tuple(map(str, notes)) if isinstance(notes, list) else (),
        stopped=entry.get("stopped"),
    )


def _state(
    position: float, condition: str, index: int | None, measurement: object, items: Items
) -> State | None:
    """A state with its values per item; None where it was not measured."""
    raw = read_mapping(measurement)
    if not raw:
        return None
    values = {k: tuple(map(read_number, v)) for k, v in items.get(condition, {}).items()}
    return State(position, condition, index, Measurement(_figures(raw), values))


def _figures(raw: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: f for name in raw if (f := read_figure(raw, name)) is not None}


def _front(entries: object) -> tuple[tuple[Rival, Measurement], ...]:
    """The rivals without training; none of older runs, which knew raw steering alone."""
    listed = [read_mapping(e) for e in entries] if isinstance(entries, list | tuple) else []
    return tuple(
        (
            Rival(
                e["method"],
                read_number(e.get("dose")) or 0.0,
                read_number(e.get("temperature")) or 1.0,
            ),
            Measurement(_figures(e), {}),
        )
        for e in listed
        if isinstance(e.get("method"), str)
    )


def _verdicts(judged: object) -> dict[str, Verdict]:
    """The verdicts that a run holds; without those that are none of the three answers."""
    known = {str(k): read_mapping(v) for k, v in read_mapping(judged).items()}
    return {
        name: Verdict(
            v["answer"],
            _numbers(v.get("figures")),
            _interval(*(read_mapping(v.get("interval")).get(n) for n in ("value", "low", "high"))),
            str(v.get("rule") or ""),
            str(v.get("words") or ""),
        )
        for name, v in known.items()
        if v.get("answer") in get_args(Answer)
    }


def _numbers(raw: object) -> dict[str, float]:
    known = {str(name): read_number(value) for name, value in read_mapping(raw).items()}
    return {name: value for name, value in known.items() if value is not None}


def _interval(*raw: object) -> Interval | None:
    """Of a value and its two bounds; None where there is no value."""
    value, low, high = map(read_number, raw)
    if value is None:
        return None
    return without_bounds(value) if low is None or high is None else Interval(value, low, high)


def read_number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_figure(measurement: object, name: str) -> Interval | None:
    """A figure of a measurement, without bounds where it has none; None: it was not measured."""
    figures = read_mapping(measurement)
    bounds = read_mapping(figures.get("intervals")).get(name)
    pair = bounds if isinstance(bounds, list | tuple) and len(bounds) == 2 else (None, None)
    return _interval(figures.get(name), *pair)


def without_bounds(value: float) -> Interval:
    """An estimate of which nobody knows how far it may be off."""
    return Interval(value, -math.inf, math.inf)


def read_mapping(value: object) -> Mapping[str, Any]:
    """The mapping, or an empty one where it is missing."""
    return value if isinstance(value, Mapping) else {}


def read_rounds(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rounds of a run in order, as far as it went."""
    rounds = metrics.get("rounds")
    return [read_mapping(r) for r in rounds] if isinstance(rounds, list | tuple) else []


def paired_shift(before: State | None, after: State | None, name: str = TRAIT) -> Interval | None:
    """The mean difference per item between two states, after − before, with its interval.

    None where the two do not hold the same items, or fewer than two have a value in both.
    """
    if before is None or after is None:
        return None
    now, then = (state.measured.items.get(name, ()) for state in (after, before))
    return paired_difference(now, then)


@dataclass(frozen=True)
class Grid:
    """A table of words: a heading per column, and rows as long."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
