"""Memory of a run, moment by moment: what is held then, each part a term of its own, in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from steer_heal_love.budget.rehearsal import Passes, Sampled
from steer_heal_love.budget.shape import FLOAT, Shape
from steer_heal_love.budget.texts import Texts
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.healing.config import ANCHORS

# What goes with the layers where they are shared out; the rest is on the first device.
_WITH_LAYERS = ("history", "cache", "adapter and optimiser", "graph")

STAGES = ("load", "baseline", "steer", "generate", "heal", "evaluate")

# What stays where it was put when the model was loaded, or grows by a round's adapter: no holes.
_STILL = ("libraries", "weights", "packed copies", "history")

HOLES = "heap holes"
# Of the most that has come and gone so far, what a CPU's heap (glibc's) keeps and cannot use. Heals
# of the three models of `benchmarks/results/plan-*.json` have 0.20, 0.25 and 0.36.
HOLES_SHARE = 0.3

# Copies of the adapter's numbers while a heal's epoch is stored, to be resumed from: parameters,
# gradients and AdamW's two moments; the epoch's state and that of the one before, of three numbers
# each; and the state as it is made a file: cloned, as bytes, and as one string of them.
STORED_COPIES = 4 + 3 + 3 + 3 * 3


@dataclass(frozen=True)
class Device:
    """Where a run is to be."""

    device: Literal["cpu", "cuda"]
    libraries: int  # bytes that are taken before any tensor is: program and libraries, or driver
    packs: bool  # whether frozen weights are kept a second time, packed (`lm/patches/packed.py`)
    sharing: int = 1  # devices that the layers are shared out to; this is the first of them


@dataclass(frozen=True)
class MemoryPoint:
    """A point of a run at which much is held at once."""

    stage: str
    work: str
    terms: Mapping[str, int]  # part: bytes

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.terms.values())

    @property
    def alive(self) -> int:
        """Bytes in use: all parts but the heap's holes."""
        return self.total - self.terms.get(HOLES, 0)


@dataclass(frozen=True)
class Sizes:
    """What the moments are made of."""

    shape: Shape
    adapter: int  # numbers of one round's adapter
    adapted_from: int  # index of the lowest adapted layer
    passes: Passes


def list_memory_points(
    sizes: Sizes, config: RunConfig, texts: Texts, place: Device
) -> list[MemoryPoint]:
    """Every moment of the last round, and of what comes before the first one.

    Where devices share the layers evenly, what the first of them holds.
    """
    whole = _moments(sizes, config, texts, place)
    first = [replace(m, terms=_shared(m.terms, sizes, config, place)) for m in whole]
    return _with_holes(first) if place.device == "cpu" else first


def _with_holes(moments: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """The moments, in the order of a run, with the holes that the heap has by then."""
    moving = (sum(v for k, v in m.terms.items() if k not in _STILL) for m in moments)
    return [
        replace(m, terms={**m.terms, HOLES: int(HOLES_SHARE * most)})
        for m, most in zip(moments, accumulate(moving, max), strict=True)
    ]


def _shared(
    terms: Mapping[str, int], sizes: Sizes, config: RunConfig, place: Device
) -> dict[str, int]:
    """The parts of a moment on the first device."""
    own = {k: v // place.sharing if k in _WITH_LAYERS else v for k, v in terms.items()}
    return own | {"weights": first_weights(sizes.shape, config, place.sharing)}


def first_weights(shape: Shape, config: RunConfig, sharing: int) -> int:
    """Weights on the first of the devices that share the layers: its layers, and all the rest."""
    whole = shape.weight_bytes(config.quantize)
    linear = sum(shape.layer_linear) * shape.number_bytes
    layers = linear - (shape.weight_bytes("none") - whole)
    return whole - layers + layers // sharing


def _moments(sizes: Sizes, config: RunConfig, texts: Texts, place: Device) -> list[MemoryPoint]:
    weights = sizes.shape.weight_bytes(config.quantize)
    loaded = {"libraries": place.libraries, "weights": weights}
    fixed = loaded | ({"packed copies": sizes.shape.packed_bytes()} if place.packs else {})
    before = fixed | {"history": history_bytes(sizes, config.rounds - 1, place)}
    after = fixed | {"history": history_bytes(sizes, config.rounds, place)}
    passes = sizes.passes
    spare = _dequantised(sizes, config)
    return [
        MemoryPoint("load", "weights", loaded),
        *_measuring("baseline", fixed, passes, config, spare),
        _passing("steer", "reading hidden states", before, passes.reading, spare),
        _sampling("generate", "sampling", before, passes.generation, spare),
        _passing("generate", "judging", before, passes.judging, spare),
        *_heal(sizes, config, texts, place, before, spare),
        *_measuring("evaluate", after, passes, config, spare),
    ]


def history_bytes(sizes: Sizes, rounds: int, place: Device) -> int:
    """The adapters of so many rounds as they are applied; on a CPU also as they were trained."""
    applied = sizes.shape.number_bytes * (2 if place.packs else 1)
    kept = FLOAT if place.device == "cpu" else 0
    return rounds * sizes.adapter * (applied + kept)


def _dequantised(sizes: Sizes, config: RunConfig) -> int:
    """In 4 bits a matrix is unfolded whole while it is used."""
    return sizes.shape.largest_linear * sizes.shape.number_bytes * (config.quantize == "4bit")


def _passing(stage: str, work: str, held: dict[str, int], live: int, spare: int) -> MemoryPoint:
    return MemoryPoint(stage, work, held | {"activations": live + spare})


def _sampling(
    stage: str, work: str, held: dict[str, int], live: Sampled, spare: int
) -> MemoryPoint:
    terms = {"cache": live.cache, "activations": live.step + spare}
    return MemoryPoint(stage, work, held | terms)


def _measuring(
    stage: str, held: dict[str, int], passes: Passes, config: RunConfig, spare: int
) -> Iterator[MemoryPoint]:
    """An evaluation: answers, their scores, and the instruments with fixed texts."""
    yield _sampling(stage, "sampling", held, passes.evaluation, spare)
    yield _passing(stage, "judging", held, passes.judging, spare)
    if config.evaluate.long_samples:
        yield _sampling(stage, "long answers", held, passes.long, spare)
        yield _passing(stage, "judging long answers", held, passes.long_judging, spare)
    yield _passing(stage, "vignettes", held, passes.vignettes, spare)
    yield _passing(stage, "ordinary text", held, passes.paragraphs, spare)
    yield _passing(stage, "entropy", held, passes.entropy, spare)


def _heal(
    sizes: Sizes, config: RunConfig, texts: Texts, place: Device, held: dict[str, int], spare: int
) -> Iterator[MemoryPoint]:
    numbers, passes = sizes.adapter * FLOAT, sizes.passes
    states = {"stored states": stored_states(sizes, config, texts)}
    reading = passes.references + spare
    yield MemoryPoint("heal", "reading the reference", held | states | {"activations": reading})
    training = 1 + 2  # the parameters and AdamW's moments of them; gradients are in the step
    if place.device == "cpu":
        training += 2 if config.heal.epochs == 1 else 3  # the state that the epoch began from
    else:
        training += 1  # AdamW on a GPU updates all parameters at once, over one more copy
    step = {"adapter and optimiser": training * numbers, "graph": passes.healing.graph}
    step["logits and gradients"] = passes.healing.step - passes.healing.graph + spare
    yield MemoryPoint("heal", "training step", held | states | step)
    if place.device == "cpu":
        stored = {"adapter and optimiser": STORED_COPIES * numbers}
        yield MemoryPoint("heal", "storing an epoch", held | states | stored)


def stored_states(sizes: Sizes, config: RunConfig, texts: Texts) -> int:
    """Hidden states that a heal reads once, of its texts and its anchors: the reference's, and
    those under the lowest adapter.
    """
    row = sizes.shape.width * sizes.shape.number_bytes
    new, count = config.generate.max_new_tokens, config.dose.n_keep
    barrier = config.heal.divergence != "none" and config.heal.lam > 0
    reference = new if barrier else 0
    lower = texts.prompt + new - 1 if sizes.adapted_from else 0
    held = count * row * (reference + lower)
    if config.heal.anchor == 0:
        return held
    return held + ANCHORS * row * (new + (new - 1 if sizes.adapted_from else 0))
