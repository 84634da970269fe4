"""`shl run`: the whole loop into a run directory."""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, getsignal, signal
from typing import Annotated, Any

import torch
import transformers
import tyro

from steer_heal_love.axes import load_axis, load_contexts
from steer_heal_love.commands.arguments import load_config, parse
from steer_heal_love.commands.screen import Screen
from steer_heal_love.environment import describe_environment
from steer_heal_love.errors import DivergedError, RunError, StarvedRound
from steer_heal_love.lm.load import LanguageModel, load_model
from steer_heal_love.loop import RunConfig, run_loop
from steer_heal_love.records import Axis, Baseline, RoundRecord
from steer_heal_love.report import write_report
from steer_heal_love.report.summary import round_table, summary_text
from steer_heal_love.runs import RunDirectory, read_run


@dataclass(frozen=True)
class RunArguments:
    """Steer, heal, love: from a persona pair to healed adapters, in a run directory of its own.

    Every setting is a flag here and a key of the --config TOML file; flags beat the file.
    """

    settings: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder to make for the run; by default runs/AXIS-MODEL-TIME."""
    config: Path | None = None
    """TOML file of settings; flags beat it."""
    resume: bool = False
    """Go on with the run in --out if it is there."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output, in place of tables and words."""


class Terminated(BaseException):
    """SIGTERM came."""


def main(arguments: list[str]) -> int:
    """Parse, run, and say how it went."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    from_file = load_config(early.parse_known_args(arguments)[0].config)
    given = parse(RunArguments, arguments, "shl run", RunArguments(from_file))
    out = given.out or _default_out(given.settings)
    if given.resume and (out / "config.toml").is_file():
        from steer_heal_love.commands.resume import resume

        return resume(out, rounds=None, quiet=given.quiet, as_json=given.json)
    if out.exists():
        raise RunError(
            f"out folder {out} exists already: choose another --out, or go on with that run by "
            f"`shl resume {out}`"
        )
    axis = load_axis(given.settings.axis)
    with Screen(given.settings.rounds, quiet=given.quiet, as_json=given.json) as screen:
        lm = load_for(given.settings, screen)
        environment = describe_environment(lm)
        run = RunDirectory.create(out, given.settings.model_dump(), axis, environment)
        return carry_out(run, lm, axis, given.settings, screen)


def load_for(settings: RunConfig, screen: Screen) -> LanguageModel:
    """The model of these settings, with words while it loads."""
    screen.say(f"loading {settings.model} …")
    if settings.trust_remote_code:
        screen.notes.print("warning: --trust-remote-code runs code that came with the model")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(settings.seed)
    return load_model(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )


def carry_out(
    run: RunDirectory, lm: LanguageModel, axis: Axis, settings: RunConfig, screen: Screen
) -> int:
    """Run the loop, write what it yields, end with the summary. Returns the exit code."""
    with run.locked(), _terminable():
        run.event("start", settings=settings.model_dump())
        try:
            return _carry_out(run, lm, axis, settings, screen)
        except (StarvedRound, DivergedError) as error:
            run.event("failed", kind=type(error).__name__, message=str(error))
            _write_pages(run, screen)
            screen.notes.print(f"shl: {error}", markup=False, soft_wrap=True)
            return 1
        except (KeyboardInterrupt, Terminated) as stop:
            run.event("interrupted", kind=type(stop).__name__)
            screen.notes.print(f"stopped; go on with: shl resume {run.path}", markup=False)
            return 143 if isinstance(stop, Terminated) else 130


def _carry_out(
    run: RunDirectory, lm: LanguageModel, axis: Axis, settings: RunConfig, screen: Screen
) -> int:
    contexts = load_contexts()
    for record in run_loop(lm, axis, contexts, settings, pieces=run, report=screen.report):
        match record:
            case Baseline():
                head = {"axis": axis.name, "model": lm.identity.name, "seed": settings.seed}
                run.record_baseline(record, {**head, "tau": settings.heal.tau})
                event: dict[str, Any] = {"event": "baseline"}
            case RoundRecord():
                run.record_round(record)
                screen.finish_round(dict(record.wall_s))
                event = {"event": "round", "round": record.round}
        run.event(**{"kind" if k == "event" else k: v for k, v in event.items()})
        screen.say(round_table(run.metrics()), **event, **_latest(run, record))
    files = _write_pages(run, screen)
    run.event("done")
    metrics = run.metrics()
    screen.say(
        summary_text(metrics, run.path), event="done", run=str(run.path), files=[*map(str, files)]
    )
    return 0


def _latest(run: RunDirectory, record: Baseline | RoundRecord) -> dict[str, Any]:
    metrics = run.metrics()
    if isinstance(record, Baseline):
        return {name: metrics[name] for name in ("base", "prompt_pos", "prompt_neg")}
    latest: dict[str, Any] = metrics["rounds"][-1]
    return latest


def _write_pages(run: RunDirectory, screen: Screen) -> list[Path]:
    """Diary and figures; a failure here must not lose the run, so it is told and passed over."""
    if not run.metrics():
        return []
    try:
        return write_report(run.path)
    except Exception as error:  # noqa: BLE001
        run.event("report-failed", message=str(error))
        screen.notes.print(f"the report could not be written: {error}", markup=False)
        return []


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the run as ctrl-C does: the current piece is dropped, the rest is kept."""
    before = getsignal(SIGTERM)

    def stop(_number: int, _frame: object) -> None:
        raise Terminated

    signal(SIGTERM, stop)
    try:
        yield
    finally:
        signal(SIGTERM, before)


def _default_out(settings: RunConfig) -> Path:
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{Path(settings.axis).stem}-{Path(settings.model).name}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{now}"


def read_settings(path: Path) -> tuple[RunConfig, Axis]:
    """Settings and axis of a run directory."""
    from steer_heal_love.commands.arguments import config_from

    view = read_run(path)
    return config_from(view.config, str(path / "config.toml")), view.axis
