"""Regular expressions out of a stranger's file: none can make a search hang."""

from __future__ import annotations

import math
import re
import warnings

import regex

from steer_heal_love.errors import AxisError

SEARCH_S = 10.0  # of the processor's time that a search may take
TRIAL_S = 0.1  # that one of a new pattern may, on a text of so many characters:
TRIED = 500
MOST_COPIES = 10_000  # by the counts of a pattern together: {100} inside {100}

_COUNTS = re.compile(r"\{(\d*),?(\d*)\}")


def matches(pattern: str, text: str, limit_s: float = SEARCH_S) -> bool:
    """Whether the pattern matches somewhere in the text; upper and lower case are the same.

    Raises:
        AxisError: the search takes longer than the limit.
    """
    try:
        return regex.search(pattern, text, regex.IGNORECASE, timeout=limit_s) is not None
    except TimeoutError:
        raise AxisError(
            f"narration pattern {pattern!r} takes more than {limit_s:g} s to search a text of "
            f"{len(text)} characters: simplify it"
        ) from None


def explain_pattern(pattern: str) -> str | None:
    """Why a regular expression must not be used, and what to do about it; None where it may.

    It is tried on its own words and a few others, over and over: that is the text on which a
    repeated group that can match in several ways, as in `(a+)+$`, would take for ever.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern, re.IGNORECASE)  # what only `regex` knows, such as (?R), is refused
        # `regex` writes counts out before any search begins, where no limit of time helps.
        counts = [max(map(int, filter(None, c)), default=1) for c in _COUNTS.findall(pattern)]
        if math.prod(max(1, count) for count in counts) > MOST_COPIES:
            return f"repeats more than {MOST_COPIES} times by its counts: simplify it"
        for unit in ("a", "0", " ", "a ", *sorted(set(re.findall(r"\w+", pattern)))[:20]):
            matches(pattern, unit * (TRIED // len(unit)) + "\0", TRIAL_S)
    except AxisError:
        return f"takes more than {TRIAL_S:g} s to search {TRIED} characters: simplify it"
    except (re.error, regex.error, RecursionError, OverflowError, MemoryError, Warning) as error:
        return f"is not a regular expression: {str(error) or type(error).__name__}: mend it"
    return None
