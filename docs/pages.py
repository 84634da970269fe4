"""Pages of the site that are made at build time, and what the pages of the checkout need for it.

mkdocs calls these functions (`hooks` in mkdocs.yml). The home page is README.md, the pages on the
command line are what `shl … --help` prints, and formulas become MathML, which needs no script.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import latex2mathml.converter
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Page or file of the site: file of the checkout.
FROM_ROOT = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "LICENSE": "LICENSE",
    "CITATION.cff": "CITATION.cff",
}
WIDTH = 80

_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s]+)(?=\))")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.+?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the plain files, that docs/ does not hold."""
    made = {page: (ROOT / name).read_text("utf-8") for page, name in FROM_ROOT.items()}
    made["reference/cli.md"] = command_line()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between the checkout's files become links between pages."""
    return _LINK.sub(lambda link: moved(link[1], page.file.src_uri), markdown)


def moved(link: str, page: str) -> str:
    """A link of the checkout as one of the site, from this page of it."""
    target, mark, anchor = link.partition("#")
    pages = {file: made for made, file in FROM_ROOT.items()}
    if page in FROM_ROOT:
        target = pages.get(target, target.removeprefix("docs/"))
    elif target.startswith("../") and "/" not in page:
        target = target.removeprefix("../")
        target = pages.get(target, target)
    return f"{target}{mark}{anchor}"


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return str(latex2mathml.converter.convert(html.unescape(found[2]), display=display))


def command_line() -> str:
    """The page on every command: what it prints for --help."""
    from steer_heal_love.cli import COMMANDS

    parts = ["# Command line", "`shl COMMAND --help`, for each command, as this version prints it."]
    parts.append(f"```text\n{said(['--help'])}\n```")
    for name, (_, what) in COMMANDS.items():
        parts.append(f"## shl {name}\n\n{what[:1].upper()}{what[1:]}.")
        parts.append(f"```text\n{said([name, '--help'])}\n```")
    parts.append(f"## shl axes check\n\n```text\n{said(['axes', 'check', '--help'])}\n```")
    return "\n\n".join(parts) + "\n"


def said(arguments: list[str]) -> str:
    """What `shl` prints, without colour and in lines of one width."""
    from steer_heal_love.cli import main

    words = io.StringIO()
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with (
        patch.dict(os.environ, plain),
        contextlib.redirect_stdout(words),
        contextlib.suppress(SystemExit),
    ):
        main(arguments)
    return re.sub(r"\x1b\[[0-9;]*m", "", words.getvalue()).rstrip()
