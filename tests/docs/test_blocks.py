"""Every command and code block of README.md, CONTRIBUTING.md and docs/: it runs, or it parses.

Commands that answer at once are run on a tiny run, and on a tiny model that stands in for
`smollm2`. The others go through their own parser, with the files that they name in place. Blocks
marked `text` are for other programs, and a block without a mark is no code.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from example_place import finished_run, place
from said import Said, say
from steer_heal_love.cli import COMMANDS
from steer_heal_love.inputs.axes import parse_axis
from steer_heal_love.runner.settings import config_from
from steer_heal_love.sweep.file import read_sweep

__all__ = ["finished_run", "place", "say"]

ROOT = Path(__file__).parents[2]
IN_DOCS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *IN_DOCS]
RUN = {"verify", "axes", "presets", "compare", "report", "export"}  # the others are parsed
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
ELSEWHERE = ("git+https://github.com/wassname/moral-maps", "bitsandbytes")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
EXTRA = re.compile(r"steer-heal-love\[([a-z]+)\]")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages, in the order of the pages."""
    return [
        Block(page, token.info.strip(), token.content, token.map[0] + 1)
        for page in PAGES
        for token in MarkdownIt().parse((ROOT / page).read_text("utf-8"))
        if token.type == "fence" and token.map and token.info.strip() in languages
    ]


def lines() -> list[tuple[str, str]]:
    """Every command of the shell blocks, once, with where it is first."""
    found: dict[str, str] = {}
    for block in blocks("sh"):
        whole = block.text.replace("\\\n", " ")
        for line in whole.splitlines():
            words = " ".join(shlex.split(line, comments=True)) and line.partition(" #")[0].strip()
            if words:
                found.setdefault(words, str(block))
    return [(where, line) for line, where in found.items()]


def test_every_block_has_a_known_language() -> None:
    known = {"sh", "python", "toml", "json", "text", "markdown", ""}
    for page in PAGES:
        tokens = MarkdownIt().parse((ROOT / page).read_text("utf-8"))
        languages = {t.info.strip() for t in tokens if t.type == "fence"}
        assert languages <= known, page
    assert len(lines()) > 30
    assert len(blocks("python")) >= 3


class Parsed(Exception):  # noqa: N818
    """The arguments were understood."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a command go as far as its parser."""

    def patch(command: str) -> None:
        for name in {COMMANDS[command][0], "axes_check"}:
            module = importlib.import_module(f"steer_heal_love.commands.{name}")
            parse = getattr(module, "parse", None)
            if parse is not None:
                monkeypatch.setattr(module, "parse", stopping(parse))

    def stopping(parse: Any) -> Any:
        def stop(*arguments: Any) -> None:
            parse(*arguments)
            raise Parsed

        return stop

    return patch


@pytest.fixture
def inputs(place: Path) -> Path:
    """The place, with the files that the pages tell a reader to write."""
    for block in blocks("toml"):
        if "[[pairs]]" in block.text:
            (place / "curious.toml").write_text(block.text, encoding="utf-8")
    (place / "settings.toml").write_text("rounds = 2\n", encoding="utf-8")
    (place / "tuned").mkdir()
    (place / "tuned" / "tune.toml").write_text("[steer]\nband_low = 0.5\n", encoding="utf-8")
    return place


@pytest.mark.parametrize(("where", "line"), lines())
def test_a_command_runs_or_parses(
    where: str, line: str, inputs: Path, only_parse: Any, say: Callable[..., Said]
) -> None:
    words = [w for w in shlex.split(line, comments=True) if w != "…"]
    match words:
        case ["shl", command, *_] if command in RUN and not needs_model(words):
            said = say(*words[1:])
            judged = words[1:3] == ["axes", "check"]  # may rightly say no, by 1
            assert said.code == 0 or (judged and said.code == 1), f"{where}: {line}\n{said.err}"
            assert said.out
        case ["shl", command, *rest]:
            assert command in COMMANDS, f"{where}: no command {command}"
            only_parse(command)
            module = importlib.import_module(f"steer_heal_love.commands.{COMMANDS[command][0]}")
            with pytest.raises(Parsed):
                module.main(rest)
        case _:
            assert list(problems(words)) == [], f"{where}: {line}"


def needs_model(words: list[str]) -> bool:
    return words[1:3] == ["axes", "check"] and "--form-only" not in words


def problems(words: list[str]) -> Iterator[str]:
    """What is wrong with a command of another program, as far as it can be seen from here."""
    match words:
        case ["make", *targets]:
            wrong = {t for t in targets if "=" not in t} - TARGETS
            yield from (f"no target {t}" for t in wrong)
        case [".venv/bin/python", "-m", module, *rest]:
            if not (ROOT / module).is_dir() and find_spec(module) is None:
                yield f"no module {module}"
            yield from (f"no file {w}" for w in rest if "/" in w and not (ROOT / w).exists())
        case [".venv/bin/python" | "$EDITOR", file, *_]:
            if not (ROOT / file).is_file():
                yield f"no file {file}"
        case ["torchrun", "--nproc-per-node", _, "-m", "steer_heal_love", command, *_]:
            if command not in COMMANDS:
                yield f"no command {command}"
        case ["pip", "install", what]:
            extra = EXTRA.fullmatch(what)
            if extra[1] not in EXTRAS if extra else what not in ELSEWHERE:
                yield f"nothing is known of {what}"
        case ["^C"] | ["source", ".venv/bin/activate"]:
            pass
        case _:
            yield "a command that this test does not know"


@pytest.mark.parametrize("page", sorted({b.page for b in blocks("python")}))
def test_the_python_of_a_page_runs(
    page: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Block after block in one namespace, as a reader would type them."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks("python"):
        if block.page == page:
            code = compile("\n" * block.line + block.text, str(ROOT / page), "exec")
            exec(code, namespace)
    assert "shl" in namespace


@pytest.mark.parametrize("block", blocks("toml", "json"), ids=str)
def test_a_data_block_holds(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif {"grid", "search"} & set(tomllib.loads(block.text)):
        (tmp_path / "sweep.toml").write_text(block.text, encoding="utf-8")
        sweep = read_sweep(tmp_path / "sweep.toml")
        for trial in sweep.trials:
            config_from(dict(trial.values), str(block))
    elif "[[pairs]]" in block.text:
        assert parse_axis(block.text, str(block)).pairs
    else:
        config_from(tomllib.loads(block.text), str(block))


def test_a_wrong_flag_is_seen(only_parse: Any, say: Callable[..., Said], place: Path) -> None:
    """The check itself: it must be able to fail."""
    only_parse("run")
    assert say("run", "--no-such-flag").code == 2
    assert list(problems(["make", "no-such-target"]))
    assert list(problems([".venv/bin/python", "-m", "no_such_module"]))
    assert list(problems(["rm", "-rf", "runs"]))
    assert "steer_heal_love.commands.run" in sys.modules
