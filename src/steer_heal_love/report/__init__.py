"""Figures, diary and summary of a run, built from its directory alone, never from a live run.

`love_loop` draws the picture, `diary` tells the story in the model's own words, `summary` says
what came of it (`findings`, `coherence`, `rivals` and `profile` write its sentences). `compare` and
`comparison` set runs beside one another (`run_row`, `over_seeds`). `states` reads figures out of
`metrics.json`, `ratios` and `shifts` judge how far they moved, `marks` says where an instrument is
not valid, `words` puts figures into words, and `escape` makes model text harmless wherever it is
shown.
"""

from __future__ import annotations

from pathlib import Path

from steer_heal_love import runs
from steer_heal_love.report.diary import write_diary
from steer_heal_love.report.love_loop import love_loop_chart, save_figure

__all__ = ["write_report"]


def write_report(path: Path) -> list[Path]:
    """Write `diary.md` and `figures/love_loop.{svg,png,html}` of a run into its directory.

    Works on an unfinished run, and again after each round: what is there is replaced.

    Returns:
        The files written.

    Raises:
        RunError: the path is no run directory, a file in it is broken, or the disk is full.
    """
    view = runs.read_run(path)
    diary = path / "diary.md"
    runs.write_text(diary, write_diary(view))
    return [diary, *save_figure(love_loop_chart(view.metrics), path / "figures", "love_loop")]
