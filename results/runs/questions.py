"""The questions that whole runs answer: their sweeps, what is kept of a run, words and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from results.runs.axes import axes_words
from results.runs.barrier import barrier_words
from results.runs.figures import (
    axes_figures,
    barrier_figures,
    heal_figures,
    unsteered_figures,
)
from results.runs.gather import Kept
from results.runs.heal import heal_words
from results.runs.loop import loop_words
from results.runs.loop_figure import loop_figures
from results.runs.records import SweepFigures
from results.runs.unsteered import unsteered_words
from steer_heal_love.report.figures.drawing import Plot

Found = Mapping[str, SweepFigures | None]  # by the name of the sweep


@dataclass(frozen=True)
class Question:
    """What is asked, by which sweeps, and how the answer is shown."""

    sweeps: tuple[str, ...]  # names of files in sweeps/
    words: Callable[[Found], Mapping[str, str]]  # block of the page → Markdown
    plots: Callable[[Found], Sequence[Plot]]
    kept: Kept
    beside: tuple[str, ...] = ()  # sweeps of other questions that are shown too
    diary: bool = False  # whether the diary of the first run is shown, as it is


QUESTIONS: Mapping[str, Question] = {
    "heal": Question(("heal",), heal_words, heal_figures, Kept()),
    "barrier": Question(
        ("barrier", "barrier-hard", "barrier-grid"),
        barrier_words,
        barrier_figures,
        Kept(items=("trait_nats",), steered=False),
    ),
    "loop": Question(
        ("loop",), loop_words, loop_figures, Kept(steered=False), ("heal",), diary=True
    ),
    "axes": Question(("axes",), axes_words, axes_figures, Kept()),
    "unsteered": Question(
        ("unsteered",),
        unsteered_words,
        unsteered_figures,
        Kept(items=("trait_nats",), steered=False),
        ("barrier",),
    ),
}
