"""A run's page, diary and figures, written into its directory; a page of several runs.

What draws is imported where something is drawn: it takes longer to load than most that only
want `escape` or `words` take to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steer_heal_love.runs.files import write_text
from steer_heal_love.runs.read import RunView, read_run

if TYPE_CHECKING:
    from steer_heal_love.report.figures.drawing import Plot

__all__ = ["write_comparison_page", "write_report"]


def write_report(path: Path) -> list[Path]:
    """Write `report.html`, `diary.md` and `figures/*.{svg,png}` of a run into its directory.

    Works on an unfinished run, on one with files missing, and again after each round: what is
    there is replaced.

    Returns:
        The files written.

    Raises:
        RunError: the path is no run directory, a file in it is broken, or the disk is full.
    """
    from steer_heal_love.report.figures.drawing import save_twins
    from steer_heal_love.report.page.document import run_page
    from steer_heal_love.report.text.diary import write_diary

    view = read_run(path, damaged_ok=True)
    plots = plots_of(view)
    page, diary = path / "report.html", path / "diary.md"
    write_text(page, run_page(view, plots))
    write_text(diary, write_diary(view))
    return [page, diary, *save_twins(plots, path / "figures")]


def plots_of(view: RunView) -> list[Plot]:
    """The figures of a run, as many as it got to."""
    from steer_heal_love.report.figures.axis_map import axis_map_plot
    from steer_heal_love.report.figures.doses import doses_plot
    from steer_heal_love.report.figures.heal_curves import heal_plot
    from steer_heal_love.report.figures.love_loop import love_loop_plot
    from steer_heal_love.report.states import parse_run

    run = parse_run(view)
    plots = (axis_map_plot(run), doses_plot(run), heal_plot(view, run))
    return [love_loop_plot(run), *(plot for plot in plots if plot is not None)]


def write_comparison_page(paths: Sequence[Path], out: Path, *, force: bool = False) -> list[Path]:
    """Write a page of several runs to `out`, and its figure beside it as SVG and PNG.

    Returns:
        The files written.

    Raises:
        RunError: a path is no run directory, the runs were measured on different items (unless
            `force`), a file is broken, or the disk is full.
    """
    from steer_heal_love.report.figures.drawing import save_twins
    from steer_heal_love.report.figures.trajectories import trajectories_plot
    from steer_heal_love.report.page.several import comparison_page

    views = [read_run(path, damaged_ok=True) for path in paths]
    plots = [trajectories_plot(views)]
    write_text(out, comparison_page(views, plots, force=force))
    return [out, *save_twins(plots, out.parent)]
