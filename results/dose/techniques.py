"""The techniques that are compared, and the doses that each is tried at.

The doses of a technique span the same perplexities as the constant dose does, from about base's to
twice that, so that lines can be compared between their points. Gates scale κ by a cosine, which is
far below 1 at most positions: their doses are larger.
"""

from __future__ import annotations

from dataclasses import dataclass

from steer_heal_love.stages.dosing.application import DosingConfig


@dataclass(frozen=True)
class Technique:
    """A way of giving a dose."""

    name: str
    family: str  # the panel of the figure
    dosing: DosingConfig
    kappas: tuple[float, ...]


CONSTANT = Technique("constant", "all", DosingConfig(), (0.5, 0.75, 1.0, 1.25))
BACKTRACK = Technique("backtrack", "others", DosingConfig(backtrack=True), (0.75, 1.0, 1.25, 1.5))

TECHNIQUES = (
    CONSTANT,
    Technique(
        "linear",
        "schedules",
        DosingConfig(schedule="linear", schedule_length=64, schedule_floor=0.25),
        (0.75, 1.0, 1.5, 2.0),
    ),
    Technique(
        "exponential",
        "schedules",
        DosingConfig(schedule="exponential", schedule_length=64, schedule_floor=0.25),
        (0.75, 1.0, 1.5, 2.0),
    ),
    Technique(
        "prefix",
        "schedules",
        DosingConfig(schedule="prefix", schedule_length=32, schedule_floor=0.25),
        (0.75, 1.0, 1.5, 2.0),
    ),
    Technique("gate relu", "gates", DosingConfig(gate="relu"), (12.0, 20.0, 26.0, 32.0)),
    Technique("gate absolute", "gates", DosingConfig(gate="absolute"), (8.0, 12.0, 16.0, 20.0)),
    Technique("gate complement", "gates", DosingConfig(gate="complement"), (0.5, 0.75, 1.0, 1.25)),
    Technique("rotate", "others", DosingConfig(operator="rotate"), (0.5, 0.75, 1.0, 1.25)),
    BACKTRACK,
)
