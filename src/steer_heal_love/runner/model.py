"""The model that settings name, for every command that computes with one."""

from __future__ import annotations

import torch
import transformers

from steer_heal_love.budget.rows import choose_rows, most_rows
from steer_heal_love.errors import ConfigError, ModelError, RunError
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.model.split import devices_of
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.screen import Screen


def load_for(settings: RunConfig, screen: Screen) -> LanguageModel:
    """The model of these settings, with words while it loads."""
    screen.say(f"loading {settings.model} …")
    if settings.trust_remote_code:
        screen.notes.print(
            "warning: --trust-remote-code runs code that came with the model: it can read, change "
            "and send everything that you can on this machine"
        )
    return load_quietly(settings)


def load_quietly(settings: RunConfig) -> LanguageModel:
    """The model of these settings, without a word.

    Raises:
        ConfigError: the device cannot be used.
        ModelError: there is no such model, or it cannot be loaded.
    """
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(settings.seed)
    check_device(settings.device)
    return load_model(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        quantize=settings.quantize,
        trust_remote_code=settings.trust_remote_code,
    )


def settle_rows(
    lm: LanguageModel, axis: Axis, settings: RunConfig, screen: Screen | None = None
) -> RunConfig:
    """The settings with the rows in flight chosen, and a word where memory allows fewer than pay.

    Every process of a run calls it.
    """
    prompts = training_prompts(axis, load_contexts(), settings.dose.min_prompts)
    settled = choose_rows(lm, axis, prompts, settings)
    rows, most = settled.generate.rows, most_rows(lm.device.type, lm.team.shards)
    if screen is not None and settings.generate.batch_size is None and rows < most:
        screen.say(f"{most} rows do not fit into the memory that is free: {rows} at a time")
    return settled


def check_device(device: str) -> None:
    """Raises ConfigError where there is no such device, or torch cannot use it."""
    if device == "auto":
        return
    try:
        for one in devices_of(device):
            torch.empty(1, device=one)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"--device {device} cannot be used: {reason}: try cpu or auto") from None
    except ModelError as error:
        raise ConfigError(f"--{error}") from None


def check_model(run: RunDirectory, lm: LanguageModel) -> None:
    """Raises RunError where the model is not the one that the run was begun with."""
    begun = run.environment().get("model", {}).get("revision")
    revision = lm.identity.revision
    if begun is not None and begun != revision:
        raise RunError(
            f"model {lm.identity.name} is not the one that run {run.path} was begun with "
            f"({begun[:19]}, now {revision[:19]}): restore it, or begin another run"
        )
