"""One batched sampler for everything in the project."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from steer_heal_love.errors import HookError
from steer_heal_love.lm.memory import halve, is_out_of_memory
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import run_in_shards
from steer_heal_love.lm.patches.contrast import current_contrast
from steer_heal_love.lm.patches.packed import pack_weights
from steer_heal_love.lm.reading.chat import ChatIds, refuse_too_long, under_personas
from steer_heal_love.lm.sampler.engine import Engine
from steer_heal_love.lm.sampler.request import Request, with_personas
from steer_heal_love.lm.sampler.sampling import Dosing, Generated, Sampling, Spent
from steer_heal_love.lm.tokens import Ids

__all__ = ["Dosing", "Generated", "Sampling", "Spent", "generate"]


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    sampling: Sampling | Sequence[Sampling],
    *,
    seed: int = 0,
    first_index: int = 0,
    batch_size: int | None = None,
    dosing: Dosing | None = None,
    on_finished: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Complete every prompt, in batches whose finished rows are replaced by waiting prompts.

    Row i draws from `noise(seed, first_index + i)`, so a row's randomness does not depend on the
    batch that it runs in, and neither does its dose. On out-of-memory the batch is halved and its
    rows start again. Under a contrast each row has two more beside it: see `patches/contrast.py`.

    Args:
        prompts: token ids, each at least one token.
        batch_size: rows in flight at a time; the model's own number unless given.
        sampling: of all rows, or one per row, which may differ in temperature and length alone.
        dosing: how the dose of a steering that is on follows each row. Left alone without one.
        on_finished: called with the number of rows that have just finished.

    Raises:
        ModelError: a prompt with its answer exceeds the model's context.
        DivergedError: the logits hold NaN or infinity.
        HookError: the dosing's steering is not on, or a contrast is and cannot be drawn by.
        OutOfMemory: one row alone does not fit.
    """
    if not prompts:
        return []
    how = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    request = _request(Request(lm, prompts, how, seed, first_index, dosing))
    rows = zip(request.prompts, request.how, strict=True)
    refuse_too_long(lm, max(len(p) + h.max_new_tokens for p, h in rows), "a prompt")
    longest = [(-h.max_new_tokens, -len(p)) for h, p in zip(how, prompts, strict=True)]
    ways = 3 if request.personas else 1
    most = max(1, (batch_size or lm.rows) // ways)
    size = math.ceil(min(most, len(prompts)) / lm.team.shards)

    def complete(rows: list[int]) -> list[dict[str, Any]]:
        waiting = sorted(rows, key=lambda i: (longest[i], i))
        with _dose_restored(dosing), pack_weights(lm):
            results = _complete(request, waiting, size, on_finished)
        return [asdict(results[i]) for i in rows]

    results = [_generated(row) for row in run_in_shards(lm, len(prompts), complete)]
    drawn = ways * sum(g.drawn_tokens for g in results)
    lm.token_counter.add(sum(map(len, request.prompts)) + drawn)
    return results


def _request(request: Request) -> Request:
    """With two more rows for each of its own where a contrast is on."""
    contrast = current_contrast(request.lm)
    if contrast is None:
        return request
    if not all(isinstance(p, ChatIds) for p in request.prompts):
        raise HookError("a contrast is of conversations: give prompts as `encode_chat` makes them")
    pairs = [under_personas(request.lm, p, contrast.systems) for p in request.prompts]
    return with_personas(request, {i: (a, b) for i, (a, b) in enumerate(pairs)}, contrast.tilt)


def _complete(
    request: Request, pending: list[int], size: int, on_finished: Callable[[int], None] | None
) -> dict[int, Generated]:
    """What comes of the rows `pending`, begun in that order, `size` of them in flight."""
    results: dict[int, Generated] = {}
    while pending:
        engine = Engine(request, size)
        fits = True
        try:
            for index, generated in engine.run(pending):
                results[index] = generated
                if on_finished is not None:
                    on_finished(1)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:
            del engine  # with its cache, before the next one is made
            size = halve(size, "generation", "use fewer new tokens")
        pending = [i for i in pending if i not in results]
    return results


def _generated(row: dict[str, Any]) -> Generated:
    """The row again, from the plain data that processes pass to one another."""
    spent = row["spent"]
    return Generated(**{**row, "spent": None if spent is None else Spent(**spent)})


@contextmanager
def _dose_restored(dosing: Dosing | None) -> Iterator[None]:
    """The steering has its dose back afterwards."""
    before = None if dosing is None else dosing.steering.kappa
    try:
        yield
    finally:
        if dosing is not None and before is not None:
            dosing.steering.kappa = before
