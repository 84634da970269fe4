"""`shl watch`: follow a run from another terminal, by its directory alone."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from steer_heal_love.errors import ConfigError
from steer_heal_love.report.states import PERPLEXITY, TRAIT
from steer_heal_love.report.text.summary import round_table
from steer_heal_love.report.text.words import number, one_line, percent
from steer_heal_love.runs.progress import STAGES, Follower, Progress
from steer_heal_love.terminal.flags import parse

WORDS = {
    "running": "running",
    "done": "done",
    "failed": "failed",
    "interrupted": "interrupted",
    "died": "stopped without a word (killed?)",
}


@dataclass(frozen=True)
class WatchArguments:
    """Follow a running run until it ends: stage, rates, trait and coherence so far, time left.

    Reads the run directory and nothing else. Without a terminal it prints a line per event.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    once: bool = False
    """Show how the run stands and leave."""
    every: float = 1.0
    """Seconds between two looks."""


def main(arguments: list[str]) -> int:
    """Parse and follow; 1 where the run failed or died."""
    options = parse(WatchArguments, arguments, "shl watch")
    if not 0.1 <= options.every <= 3600:
        raise ConfigError("--every must lie between 0.1 and 3600 seconds")
    follower = Follower(options.run)
    console = Console(file=sys.stdout, highlight=False)
    if options.once:
        progress = follower.look()
        console.print(picture(progress))
    elif console.is_terminal:
        progress = _live(console, follower, options.every)
    else:
        progress = _lines(follower, options.every)
    return int(progress.state in ("failed", "died"))


def _live(console: Console, follower: Follower, every: float) -> Progress:
    progress = follower.look()
    with Live(picture(progress), console=console, transient=True, auto_refresh=False) as screen:
        while not progress.ended:
            time.sleep(every)
            progress = follower.look()
            screen.update(picture(progress), refresh=True)
    console.print(picture(progress))
    return progress


def _lines(follower: Follower, every: float) -> Progress:
    """A line per event as it comes, and one where a stage begins."""
    told, stage = 0, ""
    while True:
        progress = follower.look()
        for event in progress.events[told:]:
            print(event_line(event, progress), flush=True)  # noqa: T201
        told = len(progress.events)
        if progress.stage and progress.stage != stage:
            print(f"{_clock(time.time())} {where(progress)}", flush=True)  # noqa: T201
        stage = progress.stage
        if progress.ended:
            if progress.state == "died":
                print(f"{_clock(time.time())} {WORDS['died']}", flush=True)  # noqa: T201
            return progress
        time.sleep(every)


def picture(progress: Progress) -> Group:
    """The run as it stands: a heading, where it is, the rounds so far, the last word of its log."""
    metrics = progress.view.metrics
    name = one_line(metrics.get("axis") or progress.view.axis.name)
    model = one_line(metrics.get("model") or progress.view.config.get("model"))
    head = f"{name} on {model}: {WORDS[progress.state]}, {progress.finished} of {progress.rounds} "
    parts: list[Any] = [Text(f"{head}rounds finished", style="bold")]
    if not progress.ended:
        parts += [Text(where(progress)), _bar(progress)]
    if "base" in metrics:
        parts.append(round_table(metrics))
    notes = [e for e in progress.events if e.get("event") in ("note", "failed")]
    parts += [Text(event_line(event, progress), style="yellow") for event in notes[-3:]]
    return Group(*parts)


def where(progress: Progress) -> str:
    """Stage, round, kept share, rate and time left on one line."""
    if progress.stage == "baseline":
        return f"baseline, {percent(progress.share)}"
    harvested = progress.generated
    words = [f"round {progress.finished}, {progress.stage} ({percent(progress.share)})"]
    if harvested.total:
        share = percent(harvested.kept / harvested.total)
        words.append(f"kept {harvested.kept} of {harvested.total} ({share}), dose κ ")
        words[-1] += number(harvested.dose)
    if harvested.tokens_per_s is not None:
        words.append(f"{harvested.tokens_per_s:.0f} tokens/s generated and judged")
    words.append("time left known after a round" if progress.eta_s is None else _left(progress))
    return "; ".join(words)


def _left(progress: Progress) -> str:
    assert progress.eta_s is not None
    minutes = progress.eta_s / 60
    return "under a minute left" if minutes < 1 else f"about {minutes:.0f} min left"


def _bar(progress: Progress) -> Table:
    """A bar per stage of the round."""
    here = STAGES.index(progress.stage) if progress.stage in STAGES else -1
    row = Table.grid(padding=(0, 2))
    cells: list[Any] = []
    for i, name in enumerate(STAGES):
        share = 1.0 if i < here else progress.share if i == here else 0.0
        cells += [Text(name, style="bold" if i == here else "dim")]
        cells += [ProgressBar(total=1.0, completed=share, width=10)]
    row.add_row(*cells)
    return row


def event_line(event: Mapping[str, Any], progress: Progress) -> str:
    """An event of the log on one line."""
    name = one_line(event.get("event"))
    words = [_clock(event.get("time")), name]
    if name == "round":
        words.append(_round_words(event.get("round"), progress))
    elif name == "start":
        words.append(f"{progress.rounds} rounds")
    else:
        known = ("round", "kind", "message", "signal", "piece", "problem")
        words += [one_line(str(event[key])) for key in known if key in event]
    return " ".join(words)


def _round_words(index: object, progress: Progress) -> str:
    entries = [e for e in progress.view.metrics.get("rounds", []) if e.get("round") == index]
    if not entries:
        return one_line(index, missing="0")
    entry = entries[0]
    healed, base = entry.get("healed") or {}, progress.view.metrics.get("base") or {}
    trait = f"trait {number(base.get(TRAIT))} → {number(healed.get(TRAIT))}"
    fluent = f"perplexity {number(base.get(PERPLEXITY), 1)} → {number(healed.get(PERPLEXITY), 1)}"
    kept = f"kept {entry.get('kept')} of {entry.get('total')} at κ {number(entry.get('dose'))}"
    return one_line(f"{index}: {kept}; {trait}; {fluent}")


def _clock(seconds: object) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return "--:--:--"
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "--:--:--"
