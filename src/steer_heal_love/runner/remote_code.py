"""A model's own code runs only where the user says so by a flag, never because a file does."""

from __future__ import annotations

from steer_heal_love.errors import ConfigError
from steer_heal_love.run_config import RunConfig


def drop_trust(settings: RunConfig) -> RunConfig:
    """The settings of a file as defaults for the flags: trust is not among what it can give."""
    return settings.model_copy(update={"trust_remote_code": False})


def refuse_silent_trust(settings: RunConfig, where: str, trust: bool) -> None:
    """Raises ConfigError where a file, not the user, asks to run code that came with a model."""
    if settings.trust_remote_code and not trust:
        raise ConfigError(
            f"{where} asks for trust_remote_code: code that came with the model could read, change "
            "and send everything that you can on this machine: read that code, and give "
            "--trust-remote-code as a flag if you trust it"
        )
