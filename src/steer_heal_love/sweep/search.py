"""A search: Optuna chooses settings, Ray Tune places the trials and gives hopeless ones up.

A trial is an ordinary run directory that grows by a round a step. One that is given up is a
finished run of fewer rounds, and `shl resume --rounds N` goes on with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steer_heal_love.errors import AxisError, RunError, SteerHealLoveError
from steer_heal_love.runs.read import read_run
from steer_heal_love.sweep.cluster import claim, prepare, require
from steer_heal_love.sweep.ledger import Ledger
from steer_heal_love.sweep.naming import name_sample
from steer_heal_love.sweep.objective import HOPELESS, Judgement, judge_round
from steer_heal_love.sweep.settings import Range, Resources, Search
from steer_heal_love.sweep.trial import DONE, FAILED, FILE, INTERRUPTED, RUNNING, Carry, Job, Tick

STUDY = "optuna.jsonl"  # what Optuna has seen so far, a line each: no pickle

_SCORE, _FRONT = "score", ("trait_nats", "perplexity_ratio")
_WORST = {"score": HOPELESS, "trait_nats": HOPELESS, "perplexity_ratio": -HOPELESS}

Propose = Callable[[Mapping[str, Any]], Job]  # chosen settings → a trial; ConfigError: impossible


@dataclass(frozen=True)
class SearchPlan:
    """Everything that a search needs."""

    folder: Path
    search: Search
    resources: Resources
    rounds: int
    device: str
    propose: Propose
    carry: Carry


def require_search() -> None:
    """Raises ConfigError where Ray Tune or Optuna is not installed."""
    require("ray", "optuna", "pyarrow", asked="--search")


def judge_all(plan: SearchPlan, names: Sequence[str]) -> dict[str, Judgement]:
    """What the finished trials are worth, by name."""
    read = {name: _read(plan.folder / name, plan.rounds, plan.search) for name in names}
    return {name: result for name, result in read.items() if result is not None}


def search_on_ray(ray: Any, plan: SearchPlan, ledger: Ledger, tick: Tick) -> None:
    """Carry out what is left of a search.

    Raises:
        ConfigError: no node has room for a trial.
    """
    (plan.folder / STUDY).touch()
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1"}
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0"}
    from ray import tune

    left = plan.search.samples - ledger.count(DONE) - ledger.count(FAILED)
    if left < 1:
        return
    options = claim(ray, plan.resources, plan.device)
    needs = {"cpu": options["num_cpus"], "gpu": options["num_gpus"]}
    needs |= {"memory": options["memory"]} if "memory" in options else {}
    scratch = tempfile.mkdtemp(prefix="shl-tune-")  # Tune's own notes: the runs are ours
    tuner = tune.Tuner(
        tune.with_resources(_steps(tune, plan), needs),
        tune_config=tune.TuneConfig(
            num_samples=left,
            search_alg=_searcher(plan, ledger),
            scheduler=_scheduler(plan.search, plan.rounds),
            max_concurrent_trials=plan.resources.at_once,
        ),
        run_config=tune.RunConfig(
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=plan.resources.retries),
            callbacks=[_watcher(tune, ledger, tick)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        for name in ledger.names(RUNNING):
            ledger.note(name, INTERRUPTED)
        shutil.rmtree(scratch, ignore_errors=True)


def _searcher(plan: SearchPlan, ledger: Ledger) -> Any:
    """Optuna's TPE over the fields; what was begun and not finished comes first."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    front = plan.search.objective == "front"
    seen = len(ledger.entries)
    return OptunaSearch(
        space={name: _distribution(where) for name, where in plan.search.fields.items()},
        metric=list(_FRONT) if front else _SCORE,
        mode=["max", "min"] if front else "max",
        sampler=optuna.samplers.TPESampler(seed=plan.search.seed + seen),
        storage=JournalStorage(JournalFileBackend(str(plan.folder / STUDY))),
        points_to_evaluate=[dict(ledger.entries[n].varied) for n in ledger.names(INTERRUPTED)],
    )


def _distribution(where: Range | tuple[Any, ...]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(where, Range):
        return CategoricalDistribution(list(where))
    if where.whole:
        return IntDistribution(int(where.low), int(where.high), where.log, int(where.step or 1))
    return FloatDistribution(where.low, where.high, where.log, where.step)


def _scheduler(search: Search, rounds: int) -> Any:
    """What gives trials up between rounds, by their score so far."""
    from ray.tune import schedulers

    grace = min(search.grace_rounds, rounds)
    by = {"metric": _SCORE, "mode": "max"}
    match search.stop:
        case "asha":
            return schedulers.ASHAScheduler(max_t=rounds, grace_period=grace, **by)
        case "median":
            return schedulers.MedianStoppingRule(grace_period=grace, **by)
        case "off":
            return schedulers.FIFOScheduler()


def _steps(tune: Any, plan: SearchPlan) -> Any:
    """A trial to Tune: each step is one more round of its run directory."""

    class Steps(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.values = config

        def step(self) -> dict[str, Any]:
            return take_step(plan, self.values, self.iteration + 1, cwd)

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing: the run directory is the checkpoint."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing: see `save_checkpoint`."""

    cwd = str(Path.cwd())
    return Steps


def take_step(plan: SearchPlan, values: Mapping[str, Any], rounds: int, cwd: str) -> dict[str, Any]:
    """Bring the trial with these values to so many rounds; what a finished one found is read."""
    try:
        prepare(str(plan.folder / FILE), cwd)
        job = plan.propose(values)
    except SteerHealLoveError as error:
        return {**_WORST, "done": True, "failed": str(error)}
    threads = max(1, int(plan.resources.cpus))
    settings = {**job.settings, "rounds": rounds}
    # Another trial of the same values may hold the run: then its results are this one's, too.
    job = replace(job, settings=settings, threads=threads, patience_s=float("inf"))
    outcome = plan.carry(job, lambda: None)
    if outcome.state == INTERRUPTED:
        raise RuntimeError("the worker is being ended")  # Tune goes on in another
    result = None if outcome.state == FAILED else _read(job.folder, rounds, plan.search)
    if result is None:
        return {**_WORST, "done": True, "failed": outcome.error or "a figure is missing"}
    return {**asdict(result), "done": result.stopped or rounds >= plan.rounds, "failed": ""}


def _read(folder: Path, rounds: int, search: Search) -> Judgement | None:
    try:
        return judge_round(read_run(folder).metrics, rounds, search)
    except (RunError, AxisError):
        return None


def _watcher(tune: Any, ledger: Ledger, tick: Tick) -> Any:
    """Enters in the ledger what becomes of Tune's trials."""

    class Watcher(tune.Callback):  # type: ignore[misc]
        def on_trial_start(self, **info: Any) -> None:
            name = name_sample(info["trial"].config)
            ledger.enter({name: info["trial"].config})
            ledger.note(name, RUNNING)

        def on_trial_complete(self, **info: Any) -> None:
            failed = (info["trial"].last_result or {}).get("failed", "")
            ledger.note(name_sample(info["trial"].config), FAILED if failed else DONE, failed)

        def on_trial_error(self, **info: Any) -> None:
            words = "its worker was lost again and again: ask for more memory_gib in [resources]"
            ledger.note(name_sample(info["trial"].config), FAILED, words)

        def on_step_end(self, **_info: Any) -> None:
            tick()

        def __reduce__(self) -> Any:  # Tune keeps copies of its notes, which nobody reads
            return tune.Callback, ()

    return Watcher()
