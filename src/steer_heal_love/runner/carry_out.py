"""A run in its directory, from where it stands to its end: shared by `shl run` and `shl resume`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steer_heal_love.errors import DivergedError, OutOfMemory, RunError, StarvedRound
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.parallel.joined import Joined
from steer_heal_love.parallel.pieces import Led
from steer_heal_love.records import Axis, Baseline, Effort, RoundRecord
from steer_heal_love.report.text.summary import round_table, summary_of
from steer_heal_love.report.write import write_report
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.runner.environment import describe_environment, differences
from steer_heal_love.runner.signals import Stopped, catch_stop_signals
from steer_heal_love.runner.tracking import Tracker, Tracking
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.screen import Screen
from steer_heal_love.verdicts import all_verdicts, evidence_of, to_json


def carry_out(
    run: RunDirectory,
    lm: LanguageModel,
    axis: Axis,
    settings: RunConfig,
    screen: Screen,
    tracker: Tracker | None = None,
) -> int:
    """Run the loop, write what it yields, end with the summary. Returns the exit code.

    Args:
        tracker: is told the figures too, from the run's beginning, also where it goes on.

    Raises:
        StarvedRound, DivergedError: the run went wrong; its directory keeps what was found.
        RunError: another process holds the run, or it cannot be written.
    """
    with run.locked(), quiet_libraries(), _recorded(run, screen):
        run.write_config(settings.model_dump())
        environment = describe_environment(lm)
        differ = differences(run.environment(), environment)
        run.keep_environment(environment)
        run.release_pages()
        run.event("start", settings=settings.model_dump(), differences=differ)
        try:
            with _tracked(tracker, settings) as tell, catch_stop_signals() as check:
                return _carry_out(run, lm, axis, settings, screen, check, tell)
        except (StarvedRound, DivergedError, OutOfMemory) as error:
            run.event("failed", kind=type(error).__name__, message=str(error))
            run.adopt_pages(_write_pages(run, screen))
            raise
        except RunError as error:
            raise type(error)(f"{error}; then go on with: shl resume {run.path}") from error
        except Stopped as stop:
            run.event("interrupted", signal=str(stop))
            run.adopt_pages([])
            screen.notes.print(f"stopped; go on with: shl resume {run.path}", markup=False)
            return stop.exit_code


def _carry_out(
    run: RunDirectory,
    lm: LanguageModel,
    axis: Axis,
    settings: RunConfig,
    screen: Screen,
    check: Callable[[], None],
    tell: Callable[[Baseline | RoundRecord], None],
) -> int:
    def report(stage: str, done: float, total: float) -> None:
        check()
        screen.report(stage, done, total)

    def note_hit(piece: str) -> None:
        run.event("from-cache", piece=piece)

    contexts = load_contexts()
    rounds: list[RoundRecord] = []
    pieces = cache_baselines(run, lm, axis, contexts, settings, on_hit=note_hit)
    if isinstance(lm.team, Joined):
        pieces = Led(lm.team, pieces)
    for record in run_loop(lm, axis, contexts, settings, pieces=pieces, report=report):
        match record:
            case Baseline():
                head = {"axis": axis.name, "model": lm.identity.name, "seed": settings.seed}
                run.record_baseline(record, {**head, "tau": settings.tau})
                baseline, name = record, "baseline"
            case RoundRecord():
                run.record_round(record)
                for note in record.notes:
                    run.event("note", round=record.round, message=note)
                    screen.say(f"note: {note}", event="note", message=note)
                if record.effort is not None:
                    screen.say(effort_words(record.effort))
                rounds.append(record)
                screen.finish_round(dict(record.wall_s))
                name = "round"
        run.record_verdicts(judge_run(baseline, rounds, axis))
        tell(record)
        run.event(name, **({"round": record.round} if isinstance(record, RoundRecord) else {}))
        screen.say(round_table(run.metrics()), event=name, **_latest(run, record))
    files = _write_pages(run, screen)
    run.event("done")
    run.adopt_pages(files)
    screen.say(
        summary_of(read_run(run.path)), event="done", run=str(run.path), files=[*map(str, files)]
    )
    return 0


def effort_words(effort: Effort) -> str:
    """What the search for the dose has spent, of what the round's texts took in all."""
    doses = ", ".join(f"{kappa:.3g}" for kappa in effort.doses)
    return (
        f"dose: the {effort.search} tried κ = {doses} with {effort.search_tokens:,} tokens, "
        f"of {effort.tokens:,} that the round generated"
    )


def judge_run(baseline: Baseline, rounds: Sequence[RoundRecord], axis: Axis) -> dict[str, Any]:
    """The verdicts so far, as plain data."""
    front = rounds[0].front if rounds else ()
    evidence = [evidence_of(record) for record in rounds]
    return to_json(all_verdicts(baseline, evidence, front, foundations=axis.foundations))


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
    except Exception as error:
        run.event("report-failed", message=str(error))
        screen.notes.print(f"the report could not be written: {error}", markup=False)
        return []


class _ToRun(logging.Handler):
    """What the rooms have to warn of goes into the run's log and onto the screen."""

    def __init__(self, run: RunDirectory, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self.run, self.screen = run, screen

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.run.event("warning", message=message)
        self.screen.say(f"warning: {message}", event="warning", message=message)


@contextmanager
def _recorded(run: RunDirectory, screen: Screen) -> Iterator[None]:
    log, handler = logging.getLogger("steer_heal_love"), _ToRun(run, screen)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _tracked(
    tracker: Tracker | None, settings: RunConfig
) -> Iterator[Callable[[Baseline | RoundRecord], None]]:
    """What passes records on to the tracker; where there is none it does nothing."""
    tracking = Tracking(tracker, logging.getLogger(__name__).warning)
    tracking.begin(settings.model_dump())
    try:
        yield tracking.tell
    finally:
        tracking.end()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """What libraries have to tell one another about their next versions is not for the screen."""
    with warnings.catch_warnings():
        for library in ("transformers", "peft", "accelerate"):
            warnings.filterwarnings("ignore", category=FutureWarning, module=rf"{library}\b")
        yield
