"""The page: one HTML file that holds everything it shows, of one run or of several.

`headline` says what was found, `answers` holds the answers, `explorer` the completions, `setup` how
it was made, `several` sets runs side by side; `payload` packs data and scripts. `page.html`,
`page.css` and the scripts are what a browser gets to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from steer_heal_love._version import __version__
from steer_heal_love.records import Limits
from steer_heal_love.report.escape import make_visible
from steer_heal_love.report.figures.drawing import DARK, Plot
from steer_heal_love.report.page.answers import collect_answers
from steer_heal_love.report.page.explorer import explorer_rows, limits_words
from steer_heal_love.report.page.headline import headline_of
from steer_heal_love.report.page.payload import (
    as_json,
    own_file,
    pack_payload,
    script_hash,
    vega_script,
)
from steer_heal_love.report.page.setup import setup_of
from steer_heal_love.report.states import Run, parse_run
from steer_heal_love.runs.read import RunView

__all__ = ["render_page", "run_page"]

_SCRIPTS = ("unpack.js", "charts.js", "diary.js", "explorer.js")


def run_page(view: RunView, plots: Sequence[Plot]) -> str:
    """The page of one run, with as much as there is of it.

    Raises:
        RunError: a file of the run is broken.
    """
    run = parse_run(view)
    spoken = collect_answers(view, run)
    limits, missing = view.limits(), view.missing()
    rounds, parcels = _explorer(view, run, limits)
    if spoken.answers:
        parcels["spoken"] = pack_payload(spoken.as_data())
    return render_page(
        headline=headline_of(view, run),
        plots=plots,
        spoken=spoken if spoken.answers else None,
        explorer=rounds,
        limits=limits_words(limits),
        parcels=parcels,
        setups=[(None, setup_of(view, run))],
        missing=[(None, missing)] if missing else [],
        notes=_notes(run),
    )


def _explorer(
    view: RunView, run: Run, limits: Limits | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rounds that the explorer can show, and their completions as parcels."""
    rounds, parcels = [], {}
    for r in (round_.number for round_ in run.rounds):
        completions = view.completions(r)
        if completions:
            rows = explorer_rows(completions, limits)
            rounds.append({"round": r, "total": len(completions), "shown": len(rows)})
            parcels[f"completions-{r}"] = pack_payload(rows)
    return rounds, parcels


def _notes(run: Run) -> list[str]:
    """What a round could not measure, and why, and where the run stopped early."""
    said = []
    for round_ in run.rounds:
        said += [f"Round {round_.number}: {note}" for note in round_.notes]
        if round_.stopped:
            said.append(f"The loop stopped after round {round_.number}: {round_.stopped}")
    return said


def render_page(
    *, headline: Any, plots: Sequence[Plot], parcels: Mapping[str, str], **rest: Any
) -> str:
    """The template, filled in. Whatever comes in is escaped, but for our own files."""
    scripts = [vega_script(), *map(own_file, _SCRIPTS)]
    hashes = " ".join(script_hash(str(script)) for script in scripts)
    empty: dict[str, Any] = {
        "comparison": None, "spoken": None, "explorer": [], "limits": {}, "notes": [],
    }  # fmt: skip
    context = {
        **empty,
        **rest,
        "headline": headline,
        "plots": plots,
        "parcels": parcels,
        "policy": _policy(hashes),
        "style": own_file("page.css") + _dark_figures(),
        "scripts": scripts,
        "specs": as_json({plot.name: _bare(plot) for plot in plots}),
        "version": __version__,
    }
    return _templates().get_template("page.html").render(context)


def _policy(hashes: str) -> str:
    """Nothing is fetched, and no script runs but ours."""
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("steer_heal_love.report.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["json"] = as_json
    return environment


def _visible(value: Any) -> Any:
    """Text with its hidden characters shown; our own files and data as they are."""
    return (
        make_visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def _bare(plot: Plot) -> dict[str, Any]:
    """The figure without its title, which the page has as a heading."""
    return {**{k: v for k, v in plot.spec().items() if k != "title"}, "description": plot.alt}


def _dark_figures() -> Markup:
    """Rules that give the figures' colours their counterparts on a dark page."""
    rules = (
        f'.chart [{part}="{light}"]{{{part}:light-dark({light},{dark})}}\n'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    return Markup("".join(rules))  # noqa: S704  (our own colours)
