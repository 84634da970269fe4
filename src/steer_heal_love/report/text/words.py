"""Figures in words: signs, units, intervals, and the distance to base."""

from __future__ import annotations

from steer_heal_love.records import Interval
from steer_heal_love.report.escape import make_visible
from steer_heal_love.report.states import LOOPS, PERPLEXITY, TRAIT, State, read_number

INTERVAL = "95 % interval"


def one_line(value: object, missing: str = "unknown") -> str:
    """A name or reason from a run as one line without hidden characters."""
    return " ".join(make_visible(str(value)).split()) if value else missing


def signed(value: float) -> str:
    """Nats with their sign, two decimals."""
    return _true_minus(f"{value:+.2f}")


def plain(value: float) -> str:
    """A positive quantity, in three figures or so."""
    return _true_minus(f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}")


def percent(share: float) -> str:
    """A share as a percentage."""
    return _true_minus(f"{100 * share:.0f} %")


def number(value: object, digits: int = 2, missing: str = "–") -> str:
    """A number from a run with so many decimals, or a dash."""
    known = read_number(value)
    return missing if known is None else _true_minus(f"{known:.{digits}f}")


def trait_words(figure: Interval | None, base: Interval | None = None, mark: str = "") -> str:
    """The trait with unit, interval, difference to base, and first of all the instrument's mark."""
    if figure is None:
        return "trait not measured"
    notes = [f"**{mark}**"] if mark else []
    notes += [f"{INTERVAL} {signed(low)} to {signed(high)}" for low, high in _bounds(figure)]
    if base is not None:
        notes.append(f"{signed(figure.value - base.value)} against base")
    return f"trait {signed(figure.value)} nats per token{_bracket(notes)}"


def perplexity_words(
    figure: Interval | None, base: Interval | None = None, ratio: Interval | None = None
) -> str:
    """The perplexity with interval and ratio to base, which has one too where `ratio` is given."""
    if figure is None:
        return "perplexity not measured"
    notes = [f"{plain(low)} to {plain(high)}" for low, high in _bounds(figure)]
    if ratio is not None and base is not None:
        bounds = [f" ({low:.2f} to {high:.2f})" for low, high in _bounds(ratio)]
        notes.append(f"×{ratio.value:.2f}{''.join(bounds)} of base")
    elif base is not None and base.value > 0:
        notes.append(f"×{figure.value / base.value:.2f} of base")
    return f"perplexity {plain(figure.value)}{_bracket(notes)}"


def loops_words(figure: Interval | None, base: Interval | None = None) -> str:
    """The share of looping answers with interval and difference to base."""
    if figure is None:
        return "loops not measured"
    notes = [f"{percent(low)} to {percent(high)}" for low, high in _bounds(figure)]
    if base is not None:
        notes.append(f"{points(figure.value - base.value)} against base")
    return f"loops {percent(figure.value)}{_bracket(notes)}"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points."""
    return _true_minus(f"{100 * difference:+.0f} points")


def state_words(state: State, base: State | None, mark: str = "") -> str:
    """One line on a state, in Markdown: trait with its mark, perplexity and loops."""

    def pair(name: str) -> tuple[Interval | None, Interval | None]:
        return state.figure(name), base.figure(name) if base else None

    ratio = state.figure(f"{PERPLEXITY}_ratio")
    said = (
        trait_words(*pair(TRAIT), mark),
        perplexity_words(*pair(PERPLEXITY), ratio),
        loops_words(*pair(LOOPS)),
    )
    return "; ".join(said)


def _bounds(figure: Interval) -> list[tuple[float, float]]:
    return [] if figure.bounds is None else [figure.bounds]


def _bracket(notes: list[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def _true_minus(text: str) -> str:
    """A minus sign in place of the hyphen, and no sign on a zero."""
    if not any(c in "123456789" for c in text):
        text = text.replace("-", "+" if "+" in text else "")
    return text.replace("-", "−")
