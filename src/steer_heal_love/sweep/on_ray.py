"""The trials on a Ray cluster: each in a worker's own process, placed by what it needs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer_heal_love.errors import SteerHealLoveError
from steer_heal_love.sweep.cluster import claim, prepare
from steer_heal_love.sweep.ledger import Ledger, attempts
from steer_heal_love.sweep.settings import Resources
from steer_heal_love.sweep.trial import (
    FAILED,
    FILE,
    INTERRUPTED,
    RUNNING,
    Carry,
    Job,
    Outcome,
    Tick,
)

_LOOK_S = 0.5  # between two looks at what has ended
_GOODBYE_S = 60.0  # for workers to write down that they were stopped


def run_on_ray(
    ray: Any, jobs: Sequence[Job], carry: Carry, ledger: Ledger, tick: Tick, resources: Resources
) -> None:
    """Carry the trials out on the cluster.

    A trial whose worker is lost goes on in another from its run directory, `retries` times at
    most. When this process is stopped, so are the trials, and each can be gone on with.

    Raises:
        ConfigError: no node has room for a trial.
    """
    crew = _Crew(ray, carry, ledger, resources)
    options = [claim(ray, resources, str(job.settings["device"])) for job in jobs]
    ahead = deque(zip(jobs, options, strict=True))
    try:
        while ahead or crew.flying:
            while ahead and crew.has_room:
                crew.send(*ahead.popleft())
            ahead.extend(crew.land())
            tick()
    except BaseException:  # a signal, too
        crew.stop(tick)
        raise


class _Crew:
    """The trials that Ray has been handed."""

    def __init__(self, ray: Any, carry: Carry, ledger: Ledger, resources: Resources) -> None:
        self.ray, self.carry, self.ledger, self.resources = ray, carry, ledger, resources
        self.flying: dict[Any, tuple[Job, dict[str, Any]]] = {}
        self.lost: dict[str, int] = {}
        self.ahead: dict[str, int] = {}  # handed over and not begun: attempts until then

    @property
    def has_room(self) -> bool:
        """Whether one more may be handed over."""
        return self.resources.at_once is None or len(self.flying) < self.resources.at_once

    def send(self, job: Job, options: dict[str, Any]) -> None:
        """Hand a trial to Ray, which begins it when there is room."""
        threads = max(1, int(self.resources.cpus))
        # Lost workers are counted here, not by Ray: also those that ran out of memory.
        remote = self.ray.remote(attempt).options(max_retries=0, name=job.name, **options)
        self.ahead[job.name] = attempts(job.folder)
        ref = remote.remote(self.carry, replace(job, threads=threads), str(Path.cwd()))
        self.flying[ref] = (job, options)

    def land(self) -> list[tuple[Job, dict[str, Any]]]:
        """Note what has ended; returns the trials that have to go on in another worker."""
        ready, _ = self.ray.wait(list(self.flying), num_returns=1, timeout=_LOOK_S)
        self._see_beginnings()
        again = []
        for ref in ready:
            job, options = self.flying.pop(ref)
            outcome = self._outcome(ref)
            if outcome is None:
                outcome = self._lose(job)
                again += [(job, options)] if outcome.state == INTERRUPTED else []
            self.ledger.note(job.name, outcome.state, outcome.error)
        return again

    def _see_beginnings(self) -> None:
        """Note which trials Ray has found room for."""
        for job, _ in self.flying.values():
            if attempts(job.folder) > self.ahead.get(job.name, 1 << 30):
                del self.ahead[job.name]
                self.ledger.note(job.name, RUNNING)

    def _outcome(self, ref: Any) -> Outcome | None:
        """What came of a trial; None where its worker was lost."""
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(ref)
        except errors.TaskCancelledError:
            return Outcome(INTERRUPTED)
        except errors.RayTaskError as error:
            return Outcome(FAILED, " ".join(str(error.cause or error).split())[:300])
        except errors.RayError:
            return None
        return None if outcome.state == INTERRUPTED else outcome  # somebody ended the worker

    def _lose(self, job: Job) -> Outcome:
        self.lost[job.name] = self.lost.get(job.name, 0) + 1
        if self.lost[job.name] <= self.resources.retries:
            return Outcome(INTERRUPTED, "its worker was lost: it goes on in another")
        return Outcome(
            FAILED,
            f"its worker was lost {self.lost[job.name]} times (killed, or out of memory): ask for "
            "more memory_gib in [resources], then --resume",
        )

    def stop(self, tick: Tick) -> None:
        """Ask the trials to stop, and wait until they have written down how far they are."""
        for ref, (job, _) in self.flying.items():
            self.ray.cancel(ref, force=False)
            if job.name not in self.ahead:
                self.ledger.note(job.name, INTERRUPTED)
        end, left = time.monotonic() + _GOODBYE_S, list(self.flying)
        while left and time.monotonic() < end:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=_LOOK_S)
            tick()  # which raises when the user will not wait


def attempt(carry: Carry, job: Job, cwd: str) -> Outcome:
    """In a worker: begin the trial, or go on with it."""
    try:
        prepare(str(job.folder.parent / FILE), cwd)
    except SteerHealLoveError as error:
        return Outcome(FAILED, str(error))
    # A worker shows nothing: whoever started the sweep reads the run directories.
    return carry(job, lambda: None)
