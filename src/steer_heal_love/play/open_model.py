"""Opening what one talks to: its model, its adapters, and a word where they do not belong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.export.loading import Opened, holds_model, open_exported
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import DType, LanguageModel
from steer_heal_love.play.directions import find_direction
from steer_heal_love.play.loaded import Loaded, load_run
from steer_heal_love.records import Axis, Direction
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import describe_environment, same_model
from steer_heal_love.runner.model import load_for
from steer_heal_love.runner.settings import load_config, read_settings
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.stages.steer import SteerConfig
from steer_heal_love.terminal.screen import Screen

PERSONA_DOSE = 1.0  # the shift that the persona itself causes; an export names no other


def open_any(
    spec: str,
    *,
    axis: str | None = None,
    device: str | None = None,
    dtype: DType | None = None,
    trust: bool = False,
) -> Loaded:
    """A run, an export, a folder with a PEFT adapter, or any model.

    Raises:
        RunError, ConfigError, AxisError, ModelError: there is no such thing, or it is broken; or
            a run is given an axis.
    """
    path = Path(spec).expanduser()
    if (path / "config.toml").is_file():
        if axis is not None:
            raise ConfigError("--axis goes with an export or a model, and a run has its own")
        return open_run(path, device=device, dtype=dtype, trust=trust)
    if _is_nothing(path):
        raise RunError(
            f"{spec} is not a run directory (no config.toml), and holds no model: check the path"
        )
    return _open_model(spec, axis, device, dtype, trust)


def open_run(
    path: Path, *, device: str | None = None, dtype: DType | None = None, trust: bool = False
) -> Loaded:
    """The run's finished rounds with its model; warns where the model is not the run's own.

    Raises:
        RunError: it is no run directory, a broken one, or one without a finished round.
        ConfigError, ModelError: the model cannot be loaded.
    """
    view = read_run(path)
    settings, _ = read_settings(path, trust=trust)
    changed = {"device": device or settings.device, "dtype": dtype or settings.dtype}
    with Screen(1, quiet=True) as screen:
        lm = load_for(settings.model_copy(update=changed), screen)
        begun = RunDirectory(path).environment()
        if same_model(begun, describe_environment(lm)) is False:
            screen.notes.print(
                f"warning: the model is not the one of run {path}, so it will not answer as the "
                "run's did",
                markup=False,
            )
    return load_run(lm, view)


def read_with_words(
    lm: LanguageModel, axis: Axis, config: SteerConfig, notes: Console | None
) -> Direction:
    """The direction of an axis on this model; a terminal is told while it is read."""
    told = notes is not None and notes.is_terminal
    words = f"direction of {escape_terminal(axis.name)} …"
    with notes.status(words) if notes is not None and told else nullcontext():
        return find_direction(lm, axis, load_contexts(), config)[0]


def _is_nothing(path: Path) -> bool:
    """Whether it is a folder without a model, or names something in a folder where it is not."""
    if path.is_dir():
        return not holds_model(path)
    beside = len(path.parts) > 1 and path.parent.is_dir()
    return beside and not path.exists() and path.suffix.lower() != ".gguf"


def _open_model(
    spec: str, axis_name: str | None, device: str | None, dtype: DType | None, trust: bool
) -> Loaded:
    opened = open_exported(spec)
    axis = _axis_of(opened, axis_name)
    changed: dict[str, Any] = {"model": opened.model, "trust_remote_code": trust}
    changed["date"] = _date_of(opened)
    changed |= {"device": device or "auto", "dtype": dtype or "auto"}
    with Screen(1, quiet=True) as screen:
        lm = load_for(RunConfig().model_copy(update=changed), screen)
        if doubt := opened.doubt(lm.identity.revision):
            screen.notes.print(f"warning: {doubt}", markup=False)
    alone = "model" if opened.reproduce is None else "exported model"
    return Loaded(
        lm,
        axis,
        (),
        (PERSONA_DOSE,),
        opened.adapters,
        names=("base model", "with the adapter") if opened.adapters else (alone,),
        read=None if axis is None else _reader(lm, axis, opened, screen.notes),
    )


def _date_of(opened: Opened) -> str | None:
    """The day that the run's chats showed; None also where the settings are broken, which is told
    by what needs more of them.
    """
    try:
        return _settings_of(opened).date
    except ConfigError:
        return None


def _axis_of(opened: Opened, axis_name: str | None) -> Axis | None:
    """The axis that the user names, else the export's own copy."""
    if axis_name is not None:
        return load_axis(axis_name)
    own = None if opened.reproduce is None else opened.reproduce / "axis.toml"
    return load_axis(str(own)) if own is not None and own.is_file() else None


def _reader(
    lm: LanguageModel, axis: Axis, opened: Opened, notes: Console
) -> Callable[[], Direction]:
    """Reads the direction once, by the export's own settings where it has them."""

    @functools.cache
    def read() -> Direction:
        return read_with_words(lm, axis, _settings_of(opened).steer, notes)

    return read


def _settings_of(opened: Opened) -> RunConfig:
    """The export's own settings, else the defaults."""
    own = None if opened.reproduce is None else opened.reproduce / "config.toml"
    return load_config(own if own is not None and own.is_file() else None)
