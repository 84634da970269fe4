"""Which attention runs: the fused kernel, or a few plain products where these are quicker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steer_heal_love.lm.model.load import LanguageModel

LONGEST = 256  # tokens; above it the plain products' memory and time grow past the fused kernel's


@contextmanager
def use_quick_attention(lm: LanguageModel, longest: int) -> Iterator[None]:
    """Train with plain matrix products for short texts in bfloat16 on a CPU.

    The fused CPU kernel's backward takes 2 to 3 times theirs there (`docs/performance.md`). Both
    compute the same, but for rounding. Elsewhere nothing changes.

    Args:
        longest: tokens of the longest sequence that will be read inside.
    """
    config = lm.model.config
    before = config._attn_implementation
    applies = (
        before == "sdpa"
        and lm.device.type == "cpu"
        and lm.dtype == torch.bfloat16
        and longest <= LONGEST
    )
    if applies:
        lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if applies:
            lm.model.set_attn_implementation(before)
