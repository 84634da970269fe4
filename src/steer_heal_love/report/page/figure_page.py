"""One figure as an HTML document that holds everything it needs."""

from __future__ import annotations

from pathlib import Path

from steer_heal_love.report.escape import escape_html
from steer_heal_love.report.figures.drawing import (
    Plot,
    save_twins,
)
from steer_heal_love.report.page.payload import as_json, vega_script
from steer_heal_love.runs.files import write_text

# Nothing in the page may be fetched; Vega compiles its expressions, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ margin: 1rem; background: white; }} #figure {{ overflow-x: auto; }}
p {{ max-width: 50rem; font: 15px/1.5 sans-serif; color: #444; }}</style>
<script>{bundle}</script>
</head>
<body>
<div id="figure" role="img" aria-label="{alt}"></div>
<p>{caption}</p>
<script>
vegaEmbed("#figure", {spec}, {{"renderer": "svg", "actions": {{"export": true, "source": false,
  "compiled": false, "editor": false}}}}).catch(console.error);
</script>
</body>
</html>
"""


def figure_page(plot: Plot) -> str:
    """The figure with values on hover; nothing in it is fetched."""
    return _PAGE.format(
        policy=_POLICY,
        title=escape_html(plot.title),
        alt=escape_html(plot.alt),
        caption=escape_html(plot.caption),
        bundle=vega_script(),
        spec=as_json(plot.spec()),
    )


def save_dose_plot(plot: Plot, folder: Path) -> list[Path]:
    """Write it as SVG, PNG and one self-contained HTML page; no browser and no network takes part.

    Raises:
        RunError: a file cannot be written.
    """
    page = folder / f"{plot.name}.html"
    write_text(page, figure_page(plot))
    return [*save_twins([plot], folder), page]
