"""Regular expressions out of a stranger's file: refused where a text could make them hang."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

FEW = 3  # copies that a group with repeats or alternatives in it may have
MAX_DEPTH = 2  # repeats inside one another
MAX_WILD = 3  # unbounded repeats of nearly anything, such as .*

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def explain_pattern(pattern: str) -> str | None:
    """Why a regular expression must not be used, and what to do about it; None where it may.

    Backtracking takes exponential time where a group that can match one text in several ways is
    repeated without a small bound: `(a+)+`, `(a|ab)*`. The bound here is `FEW`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern, re.IGNORECASE)
            tree = parser.parse(pattern, re.IGNORECASE)
            return _nested(tree, 0, inside_many=False) or _wild(tree)
    except (re.error, RecursionError, OverflowError, MemoryError, Warning) as error:
        return f"is not a regular expression: {str(error) or type(error).__name__}: mend it"


def _nested(tree: Any, depth: int, *, inside_many: bool) -> str | None:
    for op, argument in tree:
        if op in _REPEATS and argument[1] > 1:
            many = argument[1] > FEW
            varies = argument[0] != argument[1]
            if inside_many and varies:
                return "repeats a repetition, which can take for ever: simplify it"
            if depth == MAX_DEPTH:
                return f"nests repeats more than {MAX_DEPTH} deep: simplify it"
            found = _nested(argument[2], depth + 1, inside_many=inside_many or many)
        elif inside_many and op in (*_REPEATS, ops.BRANCH, ops.GROUPREF, ops.GROUPREF_EXISTS):
            return (
                "repeats a group that can match one text in several ways, which can take for "
                f"ever: simplify it, or repeat it {FEW} times at most"
            )
        else:
            found = next(
                filter(
                    None, (_nested(t, depth, inside_many=inside_many) for t in _parts(op, argument))
                ),
                None,
            )
        if found:
            return found
    return None


def _wild(tree: Any) -> str | None:
    count = sum(1 for _ in _wild_repeats(tree))
    if count > MAX_WILD:
        return f"has {count} repeats such as '.*', at most {MAX_WILD} are allowed: simplify it"
    return None


def _wild_repeats(tree: Any) -> Iterator[Any]:
    """Unbounded repeats of nearly anything, and of what a group matched."""
    for op, argument in tree:
        if op in _REPEATS and argument[1] > FEW and any(map(_is_wild, argument[2])):
            yield argument
        for part in _parts(op, argument):
            yield from _wild_repeats(part)


def _is_wild(node: Any) -> bool:
    op, argument = node
    return op in (ops.ANY, ops.NOT_LITERAL, ops.GROUPREF) or (
        op is ops.IN and argument[0] == (ops.NEGATE, None)
    )


def _parts(_op: Any, argument: Any) -> Iterator[Any]:
    """The patterns inside a node: of a group, an assertion, each branch of an alternative."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for item in argument:
            yield from _parts(None, item)
