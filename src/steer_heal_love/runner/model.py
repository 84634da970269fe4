"""The model that settings name, for every command that computes with one."""

from __future__ import annotations

import torch
import transformers

from steer_heal_love.budget.positions import check_positions
from steer_heal_love.budget.rows import choose_rows, most_rows
from steer_heal_love.errors import ConfigError, ModelError, RunError
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.model.split import devices_of
from steer_heal_love.lm.reading.self_check import refuse_other_logits
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
    lm = load_quietly(settings)
    for note in lm.template.notes:
        screen.notes.print(f"note: {settings.model}: {note}", markup=False)
    return lm


def load_quietly(settings: RunConfig) -> LanguageModel:
    """The model of these settings, without a word.

    Raises:
        ConfigError: the device cannot be used.
        ModelError: there is no such model, or it cannot be loaded.
    """
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(settings.seed)
    check_device(settings.device)
    lm = load_model(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        quantize=settings.quantize,
        trust_remote_code=settings.trust_remote_code,
        date=settings.day,
    )
    refuse_other_logits(lm)
    return lm


def settle(
    lm: LanguageModel,
    axis: Axis,
    settings: RunConfig,
    screen: Screen | None = None,
    *,
    direction: bool = True,
    battery: bool = False,
) -> RunConfig:
    """The settings with what depends on the model: the rows in flight, and the date of its chats.

    Says so where memory allows fewer rows than pay. A model whose chats show no date has none in
    its settings. Every process of a run calls it.

    Args:
        direction, battery: as `check_positions` takes them.

    Raises:
        ModelError: something that is read or sampled does not fit the model's context.
    """
    contexts = load_contexts()
    check_positions(lm, axis, contexts, settings, direction=direction, battery=battery)
    prompts = training_prompts(axis, contexts, settings.dose.min_prompts)
    settled = choose_rows(lm, axis, prompts, settings)
    rows, most = settled.generate.rows, most_rows(lm.device.type, lm.team.shards)
    if screen is not None and settings.generate.batch_size is None and rows < most:
        screen.say(f"{most} rows do not fit into the memory that is free: {rows} at a time")
    date = lm.template.date.isoformat() if lm.template.dated else None
    return settled.model_copy(update={"date": date})


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
    begun = run.environment().get("model", {})
    for name, what in (("revision", "model"), ("template", "the chat template of model")):
        before, now = begun.get(name), getattr(lm.identity, name)
        if before is not None and before != now:
            raise RunError(
                f"{what} {lm.identity.name} is not the one that run {run.path} was begun with "
                f"({before[:19]}, now {now[:19]}): restore it, or begin another run"
            )
