"""Read axes and contexts from their data files, and refuse broken ones with file, place, remedy."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from steer_heal_love.errors import AxisError, DataError, hint_at
from steer_heal_love.inputs.bundled import bundled_names, read_bundled
from steer_heal_love.inputs.patterns import explain_pattern
from steer_heal_love.inputs.text_files import explain_first, number_lines, parse_json, read_text
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
    if spec.lower().endswith(".toml") or "/" in spec:
        text = read_text(Path(spec).expanduser(), f"axis file {spec}", MAX_AXIS_BYTES, AxisError)
        return parse_axis(text, spec)
    names = builtin_axes()
    if spec not in names:
        raise AxisError(
            f"unknown axis {spec!r}: {hint_at(spec, names)}the built-in ones are "
            f"{', '.join(names)}; for your own give the path of a .toml file"
        )
    return parse_axis(read_bundled("axes", spec), f"{spec}.toml")


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
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        hint = hint_at(str(problem["loc"][-1]), [*_AxisFile.model_fields, *_PairFile.model_fields])
        return f"unknown key {where!r}: {hint}remove or rename it"
    if problem["type"] == "missing":
        return f"key {where!r} is missing: add it (see `shl axes show love` for the form)"
    return explain_first(error)


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
    text = (resources.files("steer_heal_love") / "data/contexts.jsonl").read_text(encoding="utf-8")
    rows = (
        parse_json(line, f"bundled contexts.jsonl, line {number}", DataError)
        for number, line in number_lines(text)
    )
    return [Context(kind=row["kind"], text=row["text"]) for row in rows]
