"""How many tokens a model was put to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TokenCounter:
    """Tokens that were read, drawn, scored or trained on, each time anew.

    They are counted where the work is asked for, whole, before it is split: so batches, shared
    prefixes, shards and processes do not change the count, nor does a batch that is tried again.
    """

    tokens: int = 0

    def add(self, tokens: int) -> None:
        """Count some more."""
        self.tokens += tokens
