"""The trials one after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.sweep.ledger import Ledger
from steer_heal_love.sweep.trial import INTERRUPTED, RUNNING, Carry, Job, Tick


def run_in_turn(jobs: Sequence[Job], carry: Carry, ledger: Ledger, tick: Tick) -> int:
    """Carry the trials out; one that fails is passed over. Returns 0, or 128 + a signal's number.

    Trials on the same model come one after the other, so that it is loaded once.
    """
    models = list(dict.fromkeys(map(model_of, jobs)))
    for job in sorted(jobs, key=lambda job: models.index(model_of(job))):
        ledger.note(job.name, RUNNING)
        tick()
        outcome = carry(job, tick)
        ledger.note(job.name, outcome.state, outcome.error)
        tick()
        if outcome.state == INTERRUPTED:
            return outcome.signal
    return 0


def model_of(job: Job) -> tuple[str, ...]:
    """What has to be loaded for a trial."""
    keys = ("model", "device", "dtype", "quantize")
    return tuple(str(job.settings[key]) for key in keys)
