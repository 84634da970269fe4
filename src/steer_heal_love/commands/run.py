"""`shl run`: the whole loop into a run directory."""

from __future__ import annotations

import argparse
import datetime
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import tyro

from steer_heal_love.axes import load_axis, load_contexts
from steer_heal_love.baselines import with_baselines
from steer_heal_love.commands.arguments import config_from, load_config, parse
from steer_heal_love.commands.repeat import check_same, refuse_settings, tell_differences
from steer_heal_love.commands.screen import Screen
from steer_heal_love.commands.space import estimate_need, refuse_full_disk
from steer_heal_love.commands.stopping import Stopped, stoppable
from steer_heal_love.commands.trust import refuse_silent_trust, untrusting
from steer_heal_love.environment import describe_environment, differences
from steer_heal_love.errors import ConfigError, DivergedError, RunError, StarvedRound
from steer_heal_love.lm.load import LanguageModel, load_model
from steer_heal_love.loop import RunConfig, run_loop
from steer_heal_love.records import Axis, Baseline, RoundRecord
from steer_heal_love.report import write_report
from steer_heal_love.report.summary import round_table, summary_of
from steer_heal_love.runs import RunDirectory, read_foundations, read_run
from steer_heal_love.verdicts import all_verdicts, evidence_of, to_json


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
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Repeat the run in this folder as it was, its settings and its axis."""
    resume: bool = False
    """Go on with the run in --out if it is there."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output, in place of tables and words."""


def main(arguments: list[str]) -> int:
    """Parse, run, and say how it went."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, nargs="?")
    early.add_argument("--from", type=Path, nargs="?", dest="source")
    named = early.parse_known_args(arguments)[0]
    if named.source is not None:
        return _repeat(arguments, named.source)
    from_file = load_config(named.config)
    given = parse(RunArguments, arguments, "shl run", RunArguments(untrusting(from_file)))
    refuse_silent_trust(from_file, f"config file {named.config}", given.settings.trust_remote_code)
    out = given.out or _default_out(given.settings)
    if given.resume and (out / "config.toml").is_file():
        from steer_heal_love.commands.resume import resume

        trust = given.settings.trust_remote_code
        check_same(given.settings, read_settings(out, trust=trust)[0], out)
        rounds = given.settings.rounds
        return resume(out, rounds=rounds, quiet=given.quiet, as_json=given.json, trust=trust)
    return begin(out, load_axis(given.settings.axis), given.settings, given)


def _repeat(arguments: list[str], source: Path) -> int:
    """`shl run --from`: as that run was begun, in a folder of its own."""
    refuse_settings(arguments, source)
    trust = "--trust-remote-code" in arguments
    RunDirectory(source).check_foundations()
    settings, axis = read_settings(source, trust=trust)
    given = parse(RunArguments, arguments, "shl run", RunArguments(settings))
    return begin(given.out or _default_out(settings), axis, settings, given)


def begin(out: Path, axis: Axis, settings: RunConfig, given: RunArguments) -> int:
    """Make the run directory and carry the run out; returns the exit code.

    Raises:
        RunError: the path exists already, or there is no room for the run; nothing is left behind.
    """
    if out.exists():
        raise RunError(
            f"out folder {out} exists already: choose another --out, or go on with that run by "
            f"`shl resume {out}`"
        )
    refuse_full_disk(out)
    with Screen(settings.rounds, quiet=given.quiet, as_json=given.json) as screen:
        lm = load_for(settings, screen)
        refuse_full_disk(out, estimate_need(lm, axis, settings).peak)
        environment = describe_environment(lm)
        differ = []
        if given.source is not None:
            begun = RunDirectory(given.source).environment()
            differ = tell_differences(given.source, begun, environment, screen)
        run = RunDirectory.create(out, settings.model_dump(), axis, environment)
        if given.source is not None:
            run.event("repeat", of=given.source.name, differences=differ)
        return carry_out(run, lm, axis, settings, screen)


def load_for(settings: RunConfig, screen: Screen) -> LanguageModel:
    """The model of these settings, with words while it loads."""
    screen.say(f"loading {settings.model} …")
    if settings.trust_remote_code:
        screen.notes.print(
            "warning: --trust-remote-code runs code that came with the model: it can read, change "
            "and send everything that you can on this machine"
        )
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(settings.seed)
    check_device(settings.device)
    return load_model(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )


def check_device(device: str) -> None:
    """Raises ConfigError where there is no such device, or torch cannot use it."""
    if device == "auto":
        return
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"--device {device} cannot be used: {reason}: try cpu or auto") from None


def carry_out(
    run: RunDirectory, lm: LanguageModel, axis: Axis, settings: RunConfig, screen: Screen
) -> int:
    """Run the loop, write what it yields, end with the summary. Returns the exit code.

    Raises:
        StarvedRound, DivergedError: the run went wrong; its directory keeps what was found.
        RunError: another process holds the run, or it cannot be written.
    """
    with run.locked(), _quiet_libraries():
        run.write_config(settings.model_dump())
        environment = describe_environment(lm)
        differ = differences(run.environment(), environment)
        run.keep_environment(environment)
        run.release_pages()
        run.event("start", settings=settings.model_dump(), differences=differ)
        try:
            with stoppable() as check:
                return _carry_out(run, lm, axis, settings, screen, check)
        except (StarvedRound, DivergedError) as error:
            run.event("failed", kind=type(error).__name__, message=str(error))
            run.adopt_pages(_write_pages(run, screen))
            raise
        except RunError as error:
            raise RunError(f"{error}; then go on with: shl resume {run.path}") from error
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
) -> int:
    def report(stage: str, done: float, total: float) -> None:
        check()
        screen.report(stage, done, total)

    def found(piece: str) -> None:
        run.event("from-cache", piece=piece)

    contexts = load_contexts()
    rounds: list[RoundRecord] = []
    pieces = with_baselines(run, lm, axis, contexts, settings, on_hit=found)
    for record in run_loop(lm, axis, contexts, settings, pieces=pieces, report=report):
        match record:
            case Baseline():
                head = {"axis": axis.name, "model": lm.identity.name, "seed": settings.seed}
                run.record_baseline(record, {**head, "tau": settings.heal.tau})
                baseline, name = record, "baseline"
            case RoundRecord():
                run.record_round(record)
                for note in record.notes:
                    run.event("note", round=record.round, message=note)
                    screen.notes.print(f"note: {note}", markup=False)
                rounds.append(record)
                screen.finish_round(dict(record.wall_s))
                name = "round"
        run.record_verdicts(judge_run(baseline, rounds, axis))
        run.event(name, **({"round": record.round} if isinstance(record, RoundRecord) else {}))
        screen.say(round_table(run.metrics()), event=name, **_latest(run, record))
    files = _write_pages(run, screen)
    run.event("done")
    run.adopt_pages(files)
    screen.say(
        summary_of(read_run(run.path)),
        event="done",
        run=str(run.path),
        files=[*map(str, files)],
    )
    return 0


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


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """What libraries have to tell one another about their next versions is not for the screen."""
    with warnings.catch_warnings():
        for library in ("transformers", "peft", "accelerate"):
            warnings.filterwarnings("ignore", category=FutureWarning, module=rf"{library}\b")
        yield


def _default_out(settings: RunConfig) -> Path:
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{Path(settings.axis).stem}-{Path(settings.model).name}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{now}"


def read_settings(path: Path, *, trust: bool = False) -> tuple[RunConfig, Axis]:
    """Settings and axis of a run directory.

    Raises:
        RunError, AxisError: it is no run directory, or a broken one.
        ConfigError: a setting is none, or it would run a model's own code without `trust`.
    """
    values, axis = read_foundations(path)
    settings = config_from(values, str(path / "config.toml"))
    refuse_silent_trust(settings, f"run {path}", trust)
    return settings, axis
