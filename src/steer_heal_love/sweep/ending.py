"""A sweep's end: its finished runs beside one another, in a table and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steer_heal_love.report.compare.compare import compare_runs, differences
from steer_heal_love.report.compare.comparison import write_comparison
from steer_heal_love.report.write import write_comparison_page
from steer_heal_love.runs.files import remove_tree
from steer_heal_love.runs.read import RunView, read_run
from steer_heal_love.sweep.naming import name_trials

TABLE, PAGE = "compare", "comparison.html"
OTHERS = "compare_"  # begins the folders of groups; no trial may be called so


def write_ending(folder: Path, names: Sequence[str]) -> list[Path]:
    """Write compare.md, compare.csv and comparison.html of the finished trials.

    Trials on other axes, models or instruments cannot be compared: each group of those that can
    has files of its own, in a folder compare_AXIS_MODEL of the sweep's.

    Raises:
        RunError: a run is broken, or the disk is full.
    """
    for old in folder.glob(f"{OTHERS}*"):
        remove_tree(old)
    for name in (f"{TABLE}.md", f"{TABLE}.csv", PAGE):
        (folder / name).unlink(missing_ok=True)
    if not names:
        return []
    groups = comparable([read_run(folder / name) for name in names])
    places = [folder]
    if len(groups) > 1:
        labels = name_trials([{"axis": g[0].axis.name, "model": _model(g[0])} for g in groups])
        places = [folder / f"{OTHERS}{label}" for label in labels]
    pairs = zip(places, groups, strict=True)
    return [file for place, group in pairs for file in _write(place, group)]


def comparable(views: Sequence[RunView]) -> list[list[RunView]]:
    """The runs in groups of those that were measured on the same items, in order."""
    groups: list[list[RunView]] = []
    for view in views:
        own = next((g for g in groups if not differences([g[0], view])), None)
        if own is None:
            groups.append([view])
        else:
            own.append(view)
    return groups


def _model(view: RunView) -> str:
    return str(view.metrics.get("model") or view.config.get("model"))


def _write(place: Path, views: Sequence[RunView]) -> list[Path]:
    files = write_comparison(compare_runs(views), place / TABLE)
    if len(views) > 1:
        files += write_comparison_page([view.path for view in views], place / PAGE)
    return files
