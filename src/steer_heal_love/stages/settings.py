"""What all stages' settings share: frozen, no unknown keys, checked bounds, one-line errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from steer_heal_love.errors import ConfigError


class StageConfig(BaseModel):
    """Base of the stages' configs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Config = TypeVar("Config", bound=StageConfig)


def check_settings(config: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """The settings that plain data, as of a TOML file, stands for.

    Raises:
        ConfigError: the first mistake on one line: `where`, the key, what is wrong with it; of an
            unknown key the nearest known one.
    """
    try:
        return config.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = nearest(str(problem["loc"][-1]), _known(config, problem["loc"][:-1]))
            raise ConfigError(f"{where}: unknown key {key!r}{near}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: key {key!r}: {message[:1].lower()}{message[1:]}") from None


def nearest(word: str, known: list[str]) -> str:
    """The known word that is nearest, as the end of a sentence; empty where none is known."""
    near = difflib.get_close_matches(word, known, 1, cutoff=0.0)
    return f": the nearest known one is {near[0]!r}" if near else ""


def _known(group: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the group at this place; none where no group is there."""
    for part in loc:
        field = group.model_fields.get(str(part)) if is_group(group) else None
        group = field.annotation if field is not None else None
    return list(group.model_fields) if is_group(group) else []


def is_group(annotation: Any) -> bool:
    """Whether a field of this type holds settings of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
