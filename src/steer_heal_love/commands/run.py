"""`shl run`: the whole loop into a run directory."""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
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
from steer_heal_love.commands.arguments import config_from, load_config, parse
from steer_heal_love.commands.screen import Screen
from steer_heal_love.commands.stopping import Stopped, stoppable
from steer_heal_love.environment import describe_environment
from steer_heal_love.errors import ConfigError, DivergedError, RunError, StarvedRound
from steer_heal_love.lm.load import LanguageModel, load_model
from steer_heal_love.loop import RunConfig, run_loop
from steer_heal_love.records import Axis, Baseline, RoundRecord
from steer_heal_love.report import write_report
from steer_heal_love.report.summary import round_table, summary_text
from steer_heal_love.runs import RunDirectory, read_foundations, read_run
from steer_heal_love.verdicts import INSTRUMENTS, all_verdicts, evidence_of, to_json

MIN_FREE_BYTES = 64 << 20


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


def main(arguments: list[str]) -> int:
    """Parse, run, and say how it went."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, nargs="?")
    from_file = load_config(early.parse_known_args(arguments)[0].config)
    given = parse(RunArguments, arguments, "shl run", RunArguments(from_file))
    out = given.out or _default_out(given.settings)
    if given.resume and (out / "config.toml").is_file():
        from steer_heal_love.commands.resume import resume

        check_same(given.settings, read_settings(out)[0], out)
        rounds = given.settings.rounds
        return resume(out, rounds=rounds, quiet=given.quiet, as_json=given.json)
    if out.exists():
        raise RunError(
            f"out folder {out} exists already: choose another --out, or go on with that run by "
            f"`shl resume {out}`"
        )
    axis = load_axis(given.settings.axis)
    refuse_full_disk(out)
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
        run.keep_environment(describe_environment(lm))
        run.release_pages()
        run.event("start", settings=settings.model_dump())
        try:
            with stoppable() as check:
                return _carry_out(run, lm, axis, settings, screen, check)
        except (StarvedRound, DivergedError) as error:
            run.event("failed", kind=type(error).__name__, message=str(error))
            run.adopt_pages(_write_pages(run, screen))
            raise
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

    contexts = load_contexts()
    rounds: list[RoundRecord] = []
    for record in run_loop(lm, axis, contexts, settings, pieces=run, report=report):
        match record:
            case Baseline():
                head = {"axis": axis.name, "model": lm.identity.name, "seed": settings.seed}
                run.record_baseline(record, {**head, "tau": settings.heal.tau})
                baseline, name = record, "baseline"
            case RoundRecord():
                run.record_round(record)
                rounds.append(record)
                screen.finish_round(dict(record.wall_s))
                name = "round"
        run.record_verdicts(judge_run(baseline, rounds, axis))
        run.event(name, **({"round": record.round} if isinstance(record, RoundRecord) else {}))
        screen.say(round_table(run.metrics()), event=name, **_latest(run, record))
    files = _write_pages(run, screen)
    run.event("done")
    run.adopt_pages(files)
    metrics = run.metrics()
    screen.say(
        summary_text(metrics, run.path, read_run(run.path).items()),
        event="done",
        run=str(run.path),
        files=[*map(str, files)],
    )
    return 0


def judge_run(baseline: Baseline, rounds: Sequence[RoundRecord], axis: Axis) -> dict[str, Any]:
    """The verdicts so far, as plain data."""
    foundations = {f"p_{name}": sign for name, sign in axis.foundations.items()}
    front = rounds[0].front if rounds else ()
    evidence = [evidence_of(record) for record in rounds]
    return to_json(all_verdicts(baseline, evidence, front, INSTRUMENTS | foundations))


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


def refuse_full_disk(out: Path) -> None:
    """Raises RunError where there is no room for even a small run."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < MIN_FREE_BYTES:
        raise RunError(
            f"cannot write {out}: only {free / 2**20:.0f} MiB are free on that disk, a run needs "
            f"{MIN_FREE_BYTES / 2**20:.0f} at least: free some space"
        )


def check_same(asked: RunConfig, stored: RunConfig, out: Path) -> None:
    """Raises ConfigError where a run would have to go on with settings it was not begun with."""
    one, other = _flat(asked.model_dump()), _flat(stored.model_dump())
    differing = [k for k in one if one[k] != other[k] and k != "rounds"]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"run {out} was begun with {name} = {other[name]!r}, not {one[name]!r}: choose another "
            f"--out, or `shl resume {out}` to go on as it was begun"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
        flat |= inner
    return flat


def _default_out(settings: RunConfig) -> Path:
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{Path(settings.axis).stem}-{Path(settings.model).name}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{now}"


def read_settings(path: Path) -> tuple[RunConfig, Axis]:
    """Settings and axis of a run directory."""
    values, axis = read_foundations(path)
    return config_from(values, str(path / "config.toml")), axis
