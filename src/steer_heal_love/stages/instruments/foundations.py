"""Moral foundations: which vignettes are asked, and by whose protocol, ours or tiny-mfv's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from steer_heal_love.inputs.vignettes import Vignette, load_bundled, load_tinymfv
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.records import Measurement
from steer_heal_love.stages.instruments.forced_choice import (
    ForcedChoiceConfig,
    measure_forced_choice,
)
from steer_heal_love.stages.instruments.mfv_package import (
    MfvPackage,
    find_package,
    measure_with_package,
)
from steer_heal_love.stages.settings import StageConfig


class FoundationsConfig(StageConfig):
    """The settings of the moral-foundations forced choice, a part of `EvaluateConfig`."""

    mfv: Literal["own", "package", "off"] = "own"
    """Moral-foundations forced choice: built in, by tiny-mfv's own package, or not at all."""
    mfv_set: Literal["bundled", "classic", "scifi", "ai-actor"] = "bundled"
    """Vignettes: the bundled ones, or one of tiny-mfv's sets."""
    mfv_kind: Literal["other_violate", "self_violate"] = "other_violate"
    """Of tiny-mfv's sets: acts of others, or of oneself."""
    mfv_folder: str | None = None
    """Folder with tiny-mfv's .jsonl files; without one they come from the hub."""
    mfv_think_tokens: Literal[0, 64, 128] = 0
    """Tokens that the model may think before it must answer."""
    mfv_batch_size: int = Field(8, ge=1)
    """Prompts that tiny-mfv's own package runs at a time."""


class Foundations:
    """The vignettes and the protocol that a run asks them by, read before any work begins."""

    def __init__(self, config: FoundationsConfig) -> None:
        """Read the vignettes and look for the package where it is asked for.

        Raises:
            DataError: the vignettes cannot be read or fetched.
            ConfigError: tiny-mfv's package is asked for and not installed.
        """
        self.config = config
        self.package: MfvPackage | None = find_package() if config.mfv == "package" else None
        self.vignettes: list[Vignette] = [] if config.mfv == "off" else _vignettes(config)

    def measure(self, lm: LanguageModel, *, system: str | None, seed: int) -> Measurement:
        """Profile of the model as it is patched now; nothing where the instrument is off."""
        if self.config.mfv == "off":
            return Measurement({}, {})
        think = self.config.mfv_think_tokens
        if self.package is None:
            how = ForcedChoiceConfig(think_tokens=think)
            return measure_forced_choice(lm, self.vignettes, how, system=system, seed=seed)
        return measure_with_package(
            lm,
            self.vignettes,
            think_tokens=think,
            batch_size=self.config.mfv_batch_size,
            package=self.package,
            system=system,
        )


def _vignettes(config: FoundationsConfig) -> list[Vignette]:
    if config.mfv_set == "bundled":
        return load_bundled()
    return load_tinymfv(config.mfv_folder, config.mfv_set, config.mfv_kind)
