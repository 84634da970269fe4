"""How many rows at a time there is room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import psutil

from steer_heal_love.budget.shape import Shape
from steer_heal_love.lm.model import split
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.packed import applies

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


def rows_for(lm: LanguageModel, prompt: int, new_tokens: int, top_k: int) -> int:
    """Rows in flight that there is room for now, of prompts of at most so many tokens."""
    shape = Shape.of(lm)
    row = shape.row_bytes(prompt, new_tokens, top_k)
    return fit_rows(free_bytes(lm, shape), lambda rows: rows * row, most_rows(lm.device.type))
