"""How many rows a run has in flight: chosen once, before it begins, and written in its settings.

Another number of rows is another rounding in bfloat16, and so other texts: a run that goes on, or
is repeated elsewhere, keeps the number that it was begun with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from steer_heal_love.budget.shape import Shape
from steer_heal_love.lm.model import split
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.packed import applies
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig

SHOWN = 3  # greedy answers of an evaluation
CPU_ROWS = 64  # of all processes; there the products are the limit, and more rows are no faster
GPU_ROWS = 1024  # of each process; what is read of the weights is shared by enough rows then
# Share of the free memory that is left alone: for adapters, for what allocators hold and cannot
# use, and for other programs.
RESERVE = 0.25


def most_rows(device: str, shards: int = 1) -> int:
    """Rows in flight beyond which more do not pay, on this kind of device."""
    return GPU_ROWS * shards if device == "cuda" else CPU_ROWS


def fit_rows(free: int, need: Callable[[int], int], most: int) -> int:
    """The largest power of two of rows, at most `most`, that the memory has room for; at least 1.

    Args:
        free: bytes, of which `RESERVE` is left alone.
        need: bytes that so many rows take.
    """
    rows = 1 << (most.bit_length() - 1)
    while rows > 1 and need(rows) > (1 - RESERVE) * free:
        rows //= 2
    return rows


def free_bytes(lm: LanguageModel, shape: Shape) -> int:
    """Memory of the model's devices that rows may take.

    A device with a part of the layers has that part of a row's cache to hold; the first, which has
    the logits too, is taken to hold all of it.

    On a CPU the weights are counted as if they were not there yet: those that are mapped from a
    file come in as they are read. Copies that are still to be packed are taken off too.
    """
    if lm.device.type == "cuda":
        layers = Counter(map(split.device_of, lm.layers))
        shares = {d: n / len(lm.layers) for d, n in layers.items()} | {lm.device: 1.0}
        return int(min(split.free_bytes(device) / share for device, share in shares.items()))
    copies = shape.packed_bytes() if applies(lm) and not lm.packs else 0
    available = psutil.virtual_memory().available - shape.weight_bytes("none") - copies
    return max(0, available)


def choose_rows(
    lm: LanguageModel,
    axis: Axis,
    prompts: Sequence[str],
    config: RunConfig,
    *,
    free: int | None = None,
) -> RunConfig:
    """The settings with the rows in flight chosen, where they leave that open.

    Every process of a run calls it, and all get the least of what they have room for.

    Args:
        prompts: what is generated on; it is also asked under either persona.
        free: bytes of memory in each process; what is free now unless given.
    """
    if config.generate.batch_size is not None:
        return config
    shape, team = Shape.of(lm), lm.team
    if free is None:
        together = team.processes if lm.device.type == "cpu" else 1
        free = free_bytes(lm, shape) // together
    systems = (None, axis.pos_system, axis.neg_system)
    longest = max(len(encode_chat(lm, p, s)) for p in prompts for s in systems)
    own = rows_in_flight(shape, config, longest, free, lm.device.type, team.shards)
    return with_rows(config, min(team.gather(own)))


def with_rows(config: RunConfig, rows: int) -> RunConfig:
    """The settings with this many rows in flight."""
    generate = config.generate.model_copy(update={"batch_size": rows})
    return config.model_copy(update={"generate": generate})


def rows_in_flight(
    shape: Shape, config: RunConfig, prompt: int, free: int, device: str, shards: int = 1
) -> int:
    """The most rows that pay, a power of two, whose part each process has memory for.

    Args:
        prompt: tokens of the longest prompt.
        free: bytes of memory in each process.
        device: that the run is on, as torch calls its type.
        shards: parts that the rows are computed in, one after the other or by as many processes.
    """

    def need(rows: int) -> int:
        return bytes_in_flight(shape, config, prompt, rows, shards)

    return fit_rows(free, need, most_rows(device, shards))


def bytes_in_flight(
    shape: Shape, config: RunConfig, prompt: int, rows: int, shards: int = 1
) -> int:
    """Memory that so many rows in flight take in a process, at most."""
    new, asked = config.generate, config.evaluate
    each, few = math.ceil(rows / shards), math.ceil(asked.long_samples / shards)
    longest = asked.long_tokens if asked.long_samples else 0
    width = max(new.max_new_tokens, asked.max_new_tokens)
    if rows < answers_of(config):  # those that join beside long answers are as wide as these
        width = max(width, longest)
    readers = 2 if config.dosing.backtrack else 1  # the base model has a cache of its own
    ordinary = readers * each * shape.row_bytes(prompt, width, new.top_k)
    return max(ordinary, min(each, few) * shape.row_bytes(prompt, longest, new.top_k))


def answers_of(config: RunConfig) -> int:
    """Rows that an evaluation samples at once: sampled, greedy and long answers."""
    return config.evaluate.samples + SHOWN + config.evaluate.long_samples


def rows_for(lm: LanguageModel, prompt: int, new_tokens: int, top_k: int) -> int:
    """Rows in flight that there is room for now, of prompts of at most so many tokens."""
    shape = Shape.of(lm)
    row = shape.row_bytes(prompt, new_tokens, top_k)
    return fit_rows(free_bytes(lm, shape), lambda rows: rows * row, most_rows(lm.device.type))
