"""Read axes and contexts from their data files, and refuse broken ones with file, place, remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from steer_heal_love.errors import AxisError, DataError, hint_at
from steer_heal_love.inputs.bundled import bundled_names, read_bundled
from steer_heal_love.inputs.patterns import explain_pattern
from steer_heal_love.inputs.toml_text import parse_toml
from steer_heal_love.records import AnswerPair, Axis, Context

MAX_AXIS_BYTES = 4_000_000
MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _PairFile(_Strict):
    question: _Text
    trait: _Text
    other: _Text


class _AxisFile(_Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
    description: _Text
    template: _Text = "You are {persona}."
    pos: _Text
    neg: _Text
    probes: list[_Text] = Field(min_length=1)
    pairs: list[_PairFile] = Field(min_length=2)
    narration: list[_Text] = []
    foundations: dict[str, int] = {}


def builtin_axes() -> list[str]:
    """Names of the axes that come with the package, sorted."""
    return bundled_names("axes")


def load_axis(spec: str) -> Axis:
    """The built-in axis of this name, or the axis in this TOML file.

    Raises:
        AxisError: no such axis, or a broken file; names the file, the line or key, the remedy.

    Examples:
        >>> import steer_heal_love as shl
        >>> shl.load_axis("love").pos_system
        'You are a loving person who cares deeply about whoever they talk to.'
    """
    if spec.endswith(".toml") or "/" in spec:
        return parse_axis(_read(Path(spec).expanduser()), str(spec))
    names = builtin_axes()
    if spec not in names:
        raise AxisError(
            f"unknown axis {spec!r}: {hint_at(spec, names)}the built-in ones are "
            f"{', '.join(names)}; for your own give the path of a .toml file"
        )
    return parse_axis(read_bundled("axes", spec), f"{spec}.toml")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_AXIS_BYTES:
            raise AxisError(f"axis file {path} is larger than {MAX_AXIS_BYTES:,} bytes: shorten it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AxisError(f"axis file {path} is not UTF-8 (byte {error.start}): re-save it") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise AxisError(f"axis file {path} cannot be read: {reason}: check the path") from None


def parse_axis(text: str, file: str) -> Axis:
    """An axis from the text of its TOML file; `file` is its name in error messages."""
    try:
        parsed = _AxisFile.model_validate(parse_toml(text))
    except ValidationError as error:
        raise AxisError(f"axis file {file}: {_first_problem(error)}") from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise AxisError(f"axis file {file} is not valid TOML: {error}: mend that line") from None
    _check(parsed, file)
    return Axis(
        name=parsed.name,
        description=parsed.description,
        template=parsed.template,
        pos=parsed.pos,
        neg=parsed.neg,
        probes=tuple(parsed.probes),
        pairs=tuple(AnswerPair(p.question, p.trait, p.other) for p in parsed.pairs),
        narration=tuple(parsed.narration),
        foundations=parsed.foundations,
    )


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        known = list(_AxisFile.model_fields) + list(_PairFile.model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"unknown key {where!r}{hint}: remove or rename it"
    if problem["type"] == "missing":
        return f"key {where!r} is missing: add it (see `shl axes show love` for the form)"
    return f"key {where!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}: mend it"


def _check(axis: _AxisFile, file: str) -> None:
    """What the types cannot say."""
    if not _NAME.fullmatch(axis.name):
        raise AxisError(
            f"axis file {file}: key 'name': {axis.name!r} must be letters, digits, '_', '-' or '.'"
        )
    if "{persona}" not in axis.template:
        raise AxisError(f"axis file {file}: key 'template' must contain {{persona}}: add it")
    if axis.pos == axis.neg:
        raise AxisError(f"axis file {file}: keys 'pos' and 'neg' are the same: make them opposites")
    if len(set(axis.probes)) != len(axis.probes):
        raise AxisError(f"axis file {file}: key 'probes' holds a prompt twice: remove one")
    for name, sign in axis.foundations.items():
        if sign not in (-1, 1):
            raise AxisError(f"axis file {file}: key 'foundations.{name}' must be 1 or -1")
    for i, pattern in enumerate(axis.narration):
        problem = explain_pattern(pattern)
        if problem:
            raise AxisError(f"axis file {file}: key 'narration.{i}' {problem}")


def axis_to_toml_data(axis: Axis) -> dict[str, Any]:
    """The axis as plain data, in the form of its TOML file."""
    return {
        "name": axis.name,
        "description": axis.description,
        "template": axis.template,
        "pos": axis.pos,
        "neg": axis.neg,
        "probes": list(axis.probes),
        "narration": list(axis.narration),
        "foundations": dict(axis.foundations),
        "pairs": [{"question": p.question, "trait": p.trait, "other": p.other} for p in axis.pairs],
    }


def load_contexts() -> list[Context]:
    """The contexts that come with the package: user messages of many kinds.

    Examples:
        >>> import steer_heal_love as shl
        >>> len(shl.load_contexts()) > 200
        True
    """
    return [
        Context(kind=line["kind"], text=line["text"]) for line in _bundled_lines("contexts.jsonl")
    ]


def _bundled_lines(name: str) -> Iterator[dict[str, Any]]:
    text = (resources.files("steer_heal_love") / "data" / name).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"bundled {name}, line {number}: {error}: reinstall") from None
