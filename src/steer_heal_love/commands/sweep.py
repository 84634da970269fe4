"""`shl sweep`: many runs from one file, in this process or on a Ray cluster."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.runner.remote_code import refuse_silent_trust
from steer_heal_love.runner.settings import config_from
from steer_heal_love.runner.signals import Stopped, stoppable_between
from steer_heal_love.runner.trial import carry_trial, is_done
from steer_heal_love.runs.files import hold_lock, write_text
from steer_heal_love.sweep.cluster import LOCAL, connect
from steer_heal_love.sweep.ending import write_ending
from steer_heal_love.sweep.file import Sweep, nest, read_sweep
from steer_heal_love.sweep.ledger import Ledger
from steer_heal_love.sweep.naming import canonical, name_sample
from steer_heal_love.sweep.objective import best_of
from steer_heal_love.sweep.on_ray import run_on_ray
from steer_heal_love.sweep.screen import SweepScreen
from steer_heal_love.sweep.search import STUDY, SearchPlan, judge_all, require_search, search_on_ray
from steer_heal_love.sweep.serial import run_in_turn
from steer_heal_love.sweep.settings import Resources
from steer_heal_love.sweep.table import Standing
from steer_heal_love.sweep.trial import (
    DONE,
    FAILED,
    FILE,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Job,
    Tick,
    Trial,
)
from steer_heal_love.terminal.flags import parse


@dataclass(frozen=True)
class SweepArguments:
    """Carry out many runs that differ in some settings, and set them beside one another.

    One after the other in this process, or on Ray; each trial is an ordinary run directory.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """TOML file: [base], [grid], [[list]], [resources], [search]."""
    out: Path | None = None
    """Folder for the runs; by default runs/NAME-OF-FILE."""
    ray: str | None = None
    """Run on Ray: local (this machine), auto (a running cluster), or its address."""
    search: bool = False
    """Let Optuna choose the settings of [search], on Ray Tune; without --ray on this machine."""
    resume: bool = False
    """Go on with the sweep in --out if it is there: what is done stays, the rest goes on."""
    trust_remote_code: bool = False
    """Run code that comes with a model, where the file asks for it."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output, in place of tables and words."""


def main(arguments: list[str]) -> int:
    """Parse, carry out, compare. 0: all done; 1: some trial failed; 130: stopped."""
    options = parse(SweepArguments, arguments, "shl sweep")
    sweep = read_sweep(options.file)
    if options.search and sweep.search is None:
        raise ConfigError(f"sweep file {options.file} has no [search]: write one, or drop --search")
    if not options.search and not sweep.trials:
        raise ConfigError(f"sweep file {options.file} has only a [search]: add --search")
    out = (options.out or _default_out(options)).absolute()
    planned = (
        _plan_search(sweep, out, options) if options.search else _plan_trials(sweep, out, options)
    )
    check_folder(out, sweep, resume=options.resume, search=options.search)
    with ExitStack() as stack:
        ray = None
        if options.search:
            require_search()
        if options.search or options.ray is not None:
            ray = stack.enter_context(connect(options.ray or LOCAL))
        if not (out / FILE).is_file():
            write_text(out / FILE, sweep.text)
        stack.enter_context(hold_lock(out / "lock", f"sweep {out}"))
        return _sweep(planned, Ledger.read(out), ray, options)


def _default_out(options: SweepArguments) -> Path:
    return Path("runs") / (f"{options.file.stem}-search" if options.search else options.file.stem)


@dataclass(frozen=True)
class Planned:
    """The trials of a file: those that can be begun, and why the others cannot."""

    trials: tuple[Trial, ...]
    jobs: tuple[Job, ...]
    problems: Mapping[str, str]
    resources: Resources


def _plan_trials(sweep: Sweep, out: Path, options: SweepArguments) -> Planned:
    """The trials that can be begun, and why the others cannot, by name.

    Raises:
        ConfigError: none can be, or two are the same.
    """
    jobs: list[Job] = []
    problems: dict[str, str] = {}
    seen: dict[str, str] = {}
    for trial in sweep.trials:
        try:
            job = job_of(trial.name, trial.values, out, options.trust_remote_code)
        except ConfigError as error:
            problems[trial.name] = str(error)
            continue
        same = seen.setdefault(canonical(job.settings), trial.name)
        if same != trial.name:
            raise ConfigError(
                f"sweep file {sweep.path}: trials {same} and {trial.name} are the same: drop one"
            )
        jobs.append(job)
    if not jobs:
        why = next(iter(problems.values()))
        raise ConfigError(f"sweep file {sweep.path}: no trial can be begun: {why}")
    return Planned(sweep.trials, tuple(jobs), problems, sweep.resources)


def _plan_search(sweep: Sweep, out: Path, options: SweepArguments) -> SearchPlan:
    """What a search needs. Raises ConfigError where its [base] alone is impossible."""
    assert sweep.search is not None
    where, trust = f"sweep file {sweep.path}", options.trust_remote_code
    base = config_from(nest(sweep.base), f"{where}: [base]")
    return SearchPlan(
        folder=out,
        search=sweep.search,
        resources=sweep.resources,
        rounds=base.rounds,
        device=base.device,
        propose=functools.partial(propose, sweep.base, out, trust),
        carry=carry_trial,
    )


def job_of(name: str, values: Mapping[str, Any], out: Path, trust: bool) -> Job:
    """A trial with sound settings. Raises ConfigError where they are none, or need more trust."""
    settings = config_from(dict(values), "settings")
    refuse_silent_trust(settings, "the sweep", trust)
    return Job(name, out / name, settings.model_dump(), trust)


def propose(base: Mapping[str, Any], out: Path, trust: bool, values: Mapping[str, Any]) -> Job:
    """The trial with these values of a search. Raises ConfigError as `job_of`."""
    return job_of(name_sample(values), nest({**base, **values}), out, trust)


def check_folder(out: Path, sweep: Sweep, *, resume: bool, search: bool) -> None:
    """Raises RunError where the sweep's folder is there already, or holds another sweep."""
    kept = out / FILE
    if not kept.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"out folder {out} is there and holds no sweep: choose another --out")
        return
    if not resume:
        raise RunError(
            f"out folder {out} holds a sweep already: add --resume to go on with it, or choose "
            "another --out"
        )
    if read_sweep(kept).design != sweep.design:
        raise RunError(
            f"out folder {out} was begun with another file than {sweep.path} (see {kept}): choose "
            "another --out"
        )
    if (out / STUDY).exists() != search:
        raise RunError(
            f"out folder {out} holds {'trials of a grid' if search else 'a search'}: "
            "choose another --out"
        )


def _sweep(planned: Planned | SearchPlan, ledger: Ledger, ray: Any, options: SweepArguments) -> int:
    """Carry out what is not done yet, and set what is done side by side. Returns the exit code."""
    for name in ledger.names(RUNNING):  # in another life
        ledger.note(name, INTERRUPTED)
    out, code = ledger.path.parent, 0
    screen = SweepScreen(Standing(out, ledger), quiet=options.quiet, as_json=options.json)
    try:
        with stoppable_between() as check, screen:

            def tick() -> None:
                check()
                screen.tick()

            if isinstance(planned, SearchPlan):
                search_on_ray(ray, planned, ledger, tick)
            else:
                ahead = _enter(planned, ledger)
                code = _carry_out(ahead, planned.resources, ledger, ray, tick)
    except Stopped as stop:
        code = stop.exit_code
    for name in ledger.names(RUNNING):
        ledger.note(name, INTERRUPTED)
    screen.end()
    if isinstance(planned, SearchPlan):
        _tell_best(planned, ledger, screen)
    _compare(out, ledger, screen)
    return code or int(ledger.count(FAILED) > 0)


def _enter(planned: Planned, ledger: Ledger) -> list[Job]:
    """Write all trials down before any begins; those that have to be begun or gone on with."""
    ledger.enter({trial.name: trial.varied for trial in planned.trials})
    for name, problem in planned.problems.items():
        ledger.note(name, FAILED, problem)
    ahead = []
    for job in planned.jobs:
        if is_done(job):
            ledger.note(job.name, DONE)
        else:
            ledger.note(job.name, INTERRUPTED if job.folder.exists() else WAITING)
            ahead.append(job)
    return ahead


def _carry_out(jobs: list[Job], resources: Resources, ledger: Ledger, ray: Any, tick: Tick) -> int:
    if not jobs:
        return 0
    if ray is None:
        return run_in_turn(jobs, carry_trial, ledger, tick)
    run_on_ray(ray, jobs, carry_trial, ledger, tick, resources)
    return 0


def _compare(out: Path, ledger: Ledger, screen: SweepScreen) -> None:
    """Comparison and page of what is done, and how to go on with what is not."""
    files = write_ending(out, ledger.names(DONE))
    for path in files:
        screen.say(str(path))
    left = ledger.names(WAITING, INTERRUPTED)
    if left:
        screen.say(f"not finished: {len(left)}; go on with the same command and --resume")
    states = {state: ledger.count(state) for state in (DONE, FAILED, INTERRUPTED, WAITING)}
    screen.say("", event="ended", **states, files=[*map(str, files)])


def _tell_best(plan: SearchPlan, ledger: Ledger, screen: SweepScreen) -> None:
    """The trials that a search found best."""
    outcomes = judge_all(plan, ledger.names(DONE))
    best = best_of(outcomes, plan.search)
    words = "the front" if plan.search.objective == "front" else "best"
    if not best:
        screen.say("no trial keeps the bounds on coherence", event="best", trials=[])
        return
    lines = [
        f"{words}: {name}: trait {outcomes[name].trait_nats:.2f} nats, perplexity "
        f"{outcomes[name].perplexity_ratio:.2f} × base after {outcomes[name].rounds} rounds"
        for name in best
    ]
    screen.say("\n".join(lines), event="best", trials=best)
