"""What the playground shows besides its controls: columns, heading, the key to the shades."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.shading import shade_html, shade_style
from steer_heal_love.play.turn import Column, Setting
from steer_heal_love.report.text.words import one_line

_STYLE = """
.column { border-top: 4px solid var(--hue); padding: .6rem .2rem; min-width: 0 }
.column h3 { margin: 0 0 .1rem; font-size: 1.05rem; color: var(--hue) }
.column .what, .column .figures { margin: 0; font-size: .8rem; opacity: .75 }
.column .answer { margin: .6rem 0; min-height: 7rem; line-height: 1.55 }
.column .cursor { opacity: .5 }
.base { --hue: #5b6470 } .prompted { --hue: #3b5b92 }
.steered { --hue: #cc3311 } .healed { --hue: #007a5a }
.dark .base { --hue: #a5adb8 } .dark .prompted { --hue: #92b4f4 }
.dark .steered { --hue: #ff7a5c } .dark .healed { --hue: #35c79c }
.key { font-size: .8rem } .key .answer { display: inline } .key span { padding: 0 .35em }
"""


def page_style() -> str:
    """The page's style sheet."""
    return f"{_STYLE}\n{shade_style()}"


def column_html(loaded: Loaded, setting: Setting | None, column: Column) -> str:
    """One column: what it is, the answer shaded by surprise, its figures."""
    figures = ""
    if column.perplexity is not None:
        figures = f"{len(column.pieces)} tokens · perplexity under base {column.perplexity:.1f}"
    answer = shade_html(column) if setting is not None else Markup('<div class="answer"></div>')
    return str(
        Markup(
            '<div class="column {name}"><h3>{name}</h3><p class="what">{what}</p>{answer}'
            '<p class="figures">{figures}</p></div>'
        ).format(
            name=column.condition,
            what=_describe(loaded, setting, column.condition),
            answer=answer,
            figures=figures,
        )
    )


def _describe(loaded: Loaded, setting: Setting | None, condition: str) -> str:
    """What is on in a column, in a few words."""
    n = loaded.rounds if setting is None else setting.round
    match condition:
        case "base":
            return "the untouched model"
        case "prompted":
            return "the untouched model, persona as system prompt"
        case "steered":
            kappa = loaded.dose(n) if setting is None else setting.kappa
            return f"{_rounds(max(0, n - 1))} and κ {kappa:.2f} along v of round {max(0, n - 1)}"
        case _:
            return _rounds(n)


def _rounds(count: int) -> str:
    """So many adapters, by the numbers of their rounds."""
    if count == 0:
        return "no adapter"
    return "the adapter of round 0" if count == 1 else f"the adapters of rounds 0 to {count - 1}"


def heading_html(loaded: Loaded, path: Path) -> str:
    """Which run this is."""
    return str(
        Markup("<h1>Steer Heal Love</h1><p>{axis} on {model}, {n} rounds, from {path}</p>").format(
            axis=one_line(loaded.known_axis().name),
            model=one_line(loaded.lm.identity.name),
            n=loaded.rounds,
            path=one_line(path),
        )
    )


def key_html() -> str:
    """What the shades mean."""
    steps = Markup("").join(
        Markup('<span class="s{level}">{level}</span>').format(level=level)
        for level in (0, 2, 4, 6, 8, 10)
    )
    return str(
        Markup(
            '<p class="key">Shade: surprise of a token under the base model, in nats '
            '<span class="answer">{}</span> or more. The same noise draws every column.</p>'
        ).format(steps)
    )
