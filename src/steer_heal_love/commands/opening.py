"""Opening a run to talk to it: its model, its adapters, and a word where they do not belong."""

from __future__ import annotations

from pathlib import Path

from steer_heal_love.commands.run import load_for, read_settings
from steer_heal_love.commands.screen import Screen
from steer_heal_love.environment import describe_environment, same_model
from steer_heal_love.lm.load import DType
from steer_heal_love.play.loaded import Loaded, load_run
from steer_heal_love.runs import RunDirectory, read_run


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
