"""In a real browser: nothing that a model or a stranger wrote runs, or is fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from markdown_it import MarkdownIt

import processes
from processes import shl
from steer_heal_love.inputs.axes import parse_axis
from steer_heal_love.report.write import write_report
from steer_heal_love.runs.write import RunDirectory
from tiny_run import axis_data, write_inputs

# Each way in sets window.owned if it works.
OWN = (
    "Hi [click](http://evil.example/c) ![x](http://evil.example/x.png) "
    "<script>window.owned = 1</script>"
    "</script><script>window.owned = 2</script>"
    '<img src="x" onerror="window.owned = 3">'
    '"><svg onload="window.owned = 4">'
    "'});window.owned = 5;//"
    "[click](javascript:window.owned=6) "
    '<a href="javascript:window.owned=7">a</a> '
    '<iframe srcdoc="<script>parent.owned = 8</script>"></iframe> '
    "{{constructor.constructor('window.owned=9')()}} \u2028window.owned=10\n"
)


@dataclass
class Seen:
    """What a page did."""

    owned: object = None
    asked: list[str] = field(default_factory=list)  # addresses beyond the page itself
    dialogs: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    text: str = ""


@pytest.fixture
def look(browser: Any) -> Callable[[Path], Seen]:
    """Open a page as a user would, from its file, and hover over all of it."""

    def call(file: Path) -> Seen:
        seen, page = Seen(), browser.new_page()
        page.on("dialog", lambda d: (seen.dialogs.append(d.message), d.dismiss()))
        page.on("request", lambda r: seen.asked.append(r.url))
        page.goto(file.as_uri())
        if page.locator(".chart").count():
            page.wait_for_selector(".chart[data-drawn]", timeout=60_000)
            for mark in page.locator("#figure-love_loop path[aria-roledescription=point]").all():
                mark.hover(force=True)
        page.wait_for_timeout(300)
        seen.owned = page.evaluate("window.owned")
        seen.text = page.evaluate("(document.body || document.documentElement).textContent")
        links = page.evaluate("[...document.links].map(a => a.href)")
        seen.links = [a for a in links if not a.startswith(f"{file.as_uri()}#")]
        seen.asked = [u for u in seen.asked if u != file.as_uri() and not u.startswith("data:")]
        page.close()
        return seen

    return call


def as_page(diary: Path, **options: Any) -> Path:
    """A diary as HTML, as lax as Markdown gets: HTML of its own is let through."""
    reader = MarkdownIt("commonmark", {"html": True, **options}).enable("table")
    page = diary.with_suffix(".html")
    page.write_text(f"<meta charset=utf-8>{reader.render(diary.read_text('utf-8'))}", "utf-8")
    return page


def harmless(seen: Seen) -> None:
    assert seen.owned is None
    assert seen.dialogs == []
    assert seen.asked == []
    assert seen.links == []


def test_the_page_would_be_owned_if_nothing_were_escaped(
    look: Callable[[Path], Seen], tmp_path: Path
) -> None:
    """The test can see what it looks for."""
    (tmp_path / "x.md").write_text(OWN, "utf-8")
    seen = look(as_page(tmp_path / "x.md"))
    assert seen.owned is not None
    assert any("evil.example" in url for url in seen.asked)
    assert seen.links


def test_what_a_model_says_runs_nowhere(look: Callable[[Path], Seen], tmp_path: Path) -> None:
    flags = write_inputs(tmp_path, rounds=1)
    # The model's folder is a name that the figure shows.
    evil = tmp_path / '<img src=x onerror="window.owned=11">'
    shutil.move(tmp_path / "tiny", evil)
    flags[flags.index("--model") + 1] = str(evil)
    run = tmp_path / "run"
    said = shl(
        ["run", *flags, "--out", str(run)],
        tmp_path / "said",
        full=True,
        before=processes.answer_with,
        given=(OWN,),
    )
    assert (said.code, said.err) == (0, ""), said
    rows = (run / "baseline/answers.jsonl").read_text("utf-8").split("\n")
    assert OWN in json.loads(rows[0])["text"]  # kept as it was said
    seen = look(run / "report.html")
    harmless(seen)
    assert "onerror" in seen.text
    assert "window.owned = 1" in seen.text  # unpacked, and there to be read
    seen = look(as_page(run / "diary.md"))
    harmless(seen)
    assert "<script>window.owned = 1</script>" in seen.text  # it is there to be read


def test_a_strangers_run_directory_runs_nothing(
    look: Callable[[Path], Seen], tmp_path: Path
) -> None:
    """Whatever its metrics say that axis and model are called, or why it stopped."""
    axis = parse_axis(
        tomli_w.dumps(axis_data(pos=OWN, description=OWN, probes=[OWN, "x"])), "kind.toml"
    )
    run = RunDirectory.create(tmp_path / "run", {"rounds": 1}, axis, {})
    figures = {"trait_nats": 0.1, "perplexity": 3.0, "loop_share": 0.0, OWN: 1.0}
    figures["intervals"] = {k: [0.0, 5.0] for k in figures}  # type: ignore[assignment]
    entry = {"round": 0, "dose": 1.0, "stopped": OWN, "steered": figures, "healed": figures}
    head = {"schema": 2, "axis": OWN, "model": OWN, "seed": OWN}
    measured = dict.fromkeys(("base", "prompt_pos", "prompt_neg"), figures)
    run.write_json("metrics.json", {**head, **measured, "rounds": [entry]})
    answer = {
        **{"condition": "base", "mode": "greedy", "prompt": OWN, "text": OWN, "tokens": [OWN]},
        **{"surprise_nats": [1.0], "loops": True, "ended": True, "reasons": [OWN]},
    }
    run.write_lines("baseline/answers.jsonl", [answer])
    write_report(run.path)
    harmless(look(run.path / "report.html"))
    harmless(look(run.path / "figures/love_loop.svg"))
    harmless(look(as_page(run.path / "diary.md")))
