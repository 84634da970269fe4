"""One trial of a sweep in this process: an ordinary run, begun or gone on with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from steer_heal_love.errors import RunInUse, SteerHealLoveError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.model import load_quietly
from steer_heal_love.runner.repeat import check_same
from steer_heal_love.runner.settings import config_from, read_settings
from steer_heal_love.runner.signals import Stopped
from steer_heal_love.runner.start import Host, begin, resume
from steer_heal_love.runs.progress import ENDINGS, Follower
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.sweep.trial import DONE, FAILED, INTERRUPTED, Job, Outcome, Tick
from steer_heal_love.terminal.screen import Screen

_POLL_S = 0.5  # between two tries to get a run that another process holds
_SIGINT = 130

_loaded: dict[tuple[str | None, ...], LanguageModel] = {}  # the newest model, for the next trial


class TrialScreen(Screen):
    """Says nothing, but tells the sweep that a moment has passed."""

    def __init__(self, tick: Tick) -> None:
        super().__init__(quiet=True)
        self.notes = Console(quiet=True)
        self.tick = tick

    def report(self, stage: str, done: float, total: float) -> None:
        """A stage has advanced."""
        super().report(stage, done, total)
        self.tick()


def carry_trial(job: Job, tick: Tick) -> Outcome:
    """Begin the trial, or go on with it, and say how it ended. Raises nothing.

    Whatever goes wrong is this trial's alone: the others of the sweep go on.
    """
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    try:
        code = _patiently(lambda: _carry(job, tick), job.patience_s)
    except (KeyboardInterrupt, Stopped) as stop:  # Ray interrupts past our handlers, too
        _close(job, "interrupted", signal="SIGINT")
        return Outcome(INTERRUPTED, signal=getattr(stop, "exit_code", _SIGINT))
    except SteerHealLoveError as error:
        return _failed(job, error, str(error))
    except Exception as error:
        logging.getLogger(__name__).debug("trial %s", job.name, exc_info=True)
        return _failed(job, error, f"{type(error).__name__}: {error}")
    return Outcome(INTERRUPTED, signal=code) if code else Outcome(DONE)


def _failed(job: Job, error: Exception, message: str) -> Outcome:
    line = " ".join(message.split())
    if not isinstance(error, RunInUse):  # then the log is another's
        _close(job, "failed", kind=type(error).__name__, message=line)
    return Outcome(FAILED, line)


def _close(job: Job, event: str, **fields: str) -> None:
    """Also the run's own log must say how it ended, where it does not yet."""
    try:
        log = [entry.get("event") for entry in read_run(job.folder).events()]
        marks = [name for name in log if name in ("start", *ENDINGS)]
        if marks and marks[-1] == "start":
            RunDirectory(job.folder).event(event, **fields)
    except SteerHealLoveError:
        pass  # it did not get that far


def _patiently(carry: Callable[[], int], patience_s: float) -> int:
    """Try again while another process holds the run: that of a lost worker may still be dying."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return carry()
        except RunInUse:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_S)


def _carry(job: Job, tick: Tick) -> int:
    settings, path = config_from(dict(job.settings), "settings"), job.folder
    host = Host(TrialScreen(tick), Team(), load=_model_for)
    if not (path / "config.toml").is_file():
        return begin(path, settings, host)
    RunDirectory(path).check_foundations()
    stored, _ = read_settings(path, trust=job.trust)
    check_same(settings, stored, path)
    if _ended_well(path, settings.rounds):
        return 0
    return resume(path, host, rounds=max(settings.rounds, stored.rounds), trust=job.trust)


def is_done(job: Job) -> bool:
    """Whether the trial's run is there and has ended well: nothing is left to be carried out."""
    try:
        stored, _ = read_settings(job.folder, trust=job.trust)
        check_same(config_from(dict(job.settings), "settings"), stored, job.folder)
    except SteerHealLoveError:
        return False
    return _ended_well(job.folder, int(job.settings["rounds"]))


def _ended_well(path: Path, rounds: int) -> bool:
    """Whether a run is done, with so many rounds or because its model was incoherent."""
    try:
        progress = Follower(path).look()
    except SteerHealLoveError:
        return False
    ended = progress.view.metrics.get("rounds", [])
    stopped = bool(ended) and bool(ended[-1].get("stopped"))
    return progress.state == DONE and (progress.finished >= rounds or stopped)


def _model_for(settings: RunConfig, _screen: Screen) -> LanguageModel:
    """The model of these settings; that of the trial before, where it is the same."""
    key = (settings.model, settings.device, settings.dtype, settings.quantize, settings.date)
    if key not in _loaded:
        _loaded.clear()  # before the next takes its memory
        _loaded[key] = load_quietly(settings)
    torch.manual_seed(settings.seed)  # as where it is loaded
    return _loaded[key]
