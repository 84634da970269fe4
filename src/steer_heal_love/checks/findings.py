"""What a check has to say of an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is amiss: a problem spoils the measure, a note is worth a look."""

    level: Literal["problem", "note"]
    where: str  # the part of the axis: pos, probes 3 and 9, pairs, pair 12, … counted from 1
    words: str  # what is amiss, and what to do
