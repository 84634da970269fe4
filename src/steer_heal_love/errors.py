"""One hierarchy of errors; each says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def hint_at(word: str, known: Iterable[str]) -> str:
    """Which of the known words was probably meant, for the message of an error; "" if none is."""
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


class SteerHealLoveError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with a code."""

    exit_code = 2  # bad input, or a machine that cannot do it; 1: the run itself went wrong


class ConfigError(SteerHealLoveError):
    """A setting is unknown, missing or out of its bounds."""


class AxisError(SteerHealLoveError):
    """An axis file is missing or broken."""


class DataError(SteerHealLoveError):
    """A data file (contexts, vignettes, text) is missing or broken."""


class ModelError(SteerHealLoveError):
    """A model cannot be found, loaded or used."""


class HookError(SteerHealLoveError):
    """A hook that had to fire did not, or fired on something it does not know."""


class StarvedRound(SteerHealLoveError):  # noqa: N818  (the method's own name for it)
    """Even the smallest dose left too few completions to train on."""

    exit_code = 1


class DivergedError(SteerHealLoveError):
    """A number went bad: NaN, infinity, a vector of norm zero, an exploding gradient."""

    exit_code = 1


class OutOfMemory(SteerHealLoveError):  # noqa: N818
    """Even the smallest batch does not fit in memory."""

    exit_code = 1


class RunError(SteerHealLoveError):
    """A run directory exists already, is broken, is in use, or cannot be written."""


class RunInUse(RunError):  # noqa: N818
    """Another process is writing the run."""


class LostProcess(RunError):  # noqa: N818
    """One of the processes that carry a run out together has ended before its time."""

    exit_code = 1
