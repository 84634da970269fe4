"""Runs of older versions, read as if this one had written them; newer ones are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from steer_heal_love.errors import RunError

SCHEMA = 2  # of config.toml, metrics.json and manifest.json

Step = Callable[[dict[str, Any]], None]


def refuse_newer(schema: object, where: object) -> None:
    """Raises RunError where this schema is one that only a newer version can read."""
    if type(schema) is int and schema > SCHEMA:
        raise RunError(
            f"run {where} was written by a newer version (schema {schema}, this one reads up to "
            f"{SCHEMA}): upgrade steer-heal-love"
        )


def known_schema(schema: object) -> int | None:
    """The number of a schema that is or was; None for anything else."""
    return schema if type(schema) is int and 1 <= schema <= SCHEMA else None


def migrate(file: str, content: Mapping[str, Any], schema: int) -> dict[str, Any]:
    """What `file` of a run would hold if this version had written it; files are left as they are.

    Each step may meet content that is of its own schema already, since a kill can come between the
    files of a run, and leaves that as it is.
    """
    found = copy.deepcopy(dict(content))
    for older in range(schema, SCHEMA):
        step = STEPS[older].get(file)
        if step is not None:
            step(found)
    if "schema" in found:
        found["schema"] = SCHEMA
    return found


def _mfv_is_own(config: dict[str, Any]) -> None:
    """The vignettes' protocol got rivals: what was "bundled" is called "own"."""
    evaluate = config.get("evaluate")
    if isinstance(evaluate, dict) and evaluate.get("mfv") == "bundled":
        evaluate["mfv"] = "own"


# From this schema to the next one, by file.
STEPS: Mapping[int, Mapping[str, Step]] = {1: {"config.toml": _mfv_is_own}}
