"""Whether the instrument behind a figure can see the trait on this model, and the words for it.

A figure of an instrument that did not tell the two persona prompts apart is shown with a mark, so
that nobody rests anything on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from steer_heal_love.report.states import RAW
from steer_heal_love.verdicts import FORCED_CHOICE, INVALID, PERSONA, TRAIT, Verdict

Verdicts = Mapping[str, Verdict]

_ANSWERS = ("no", "cannot tell", "yes")  # the first of them that one foundation has is for all
UNCLEAR = "validity on this model not known"
_OF_THE_CHOICE = {"top1_accuracy", "informedness", "soft_nll"}
_UNJUDGED = {"p_ans_any", "capability_nats"}  # they watch coherence, not the trait
_MATCHING = ("entropy_", "kl_")


def instrument_of(figure: str) -> str | None:
    """The instrument whose validity a figure rests on; None where it needs none."""
    if figure in (TRAIT, PERSONA, FORCED_CHOICE):
        return figure
    if figure == RAW:
        return TRAIT
    if figure in _UNJUDGED or figure.startswith(_MATCHING):
        return None
    if figure in _OF_THE_CHOICE or figure.startswith("p_") or figure.endswith("_nats"):
        return FORCED_CHOICE
    return None


def mark_of(verdicts: Verdicts, figure: str) -> str:
    """What to write beside a figure: empty where its instrument is valid, needs no validity, or was
    never judged.
    """
    return {"no": INVALID, "cannot tell": UNCLEAR}.get(validity_answer(verdicts, figure), "")


def mark_words(words: str, verdicts: Verdicts, figure: str) -> str:
    """The words for a figure, with its mark in brackets where it has one."""
    mark = mark_of(verdicts, figure)
    return f"{words} ({mark})" if mark else words


def validity_answer(verdicts: Verdicts, figure: str) -> str:
    """The verdict on the instrument behind a figure: "yes", "no", "cannot tell", or "" for none."""
    instrument = instrument_of(figure)
    if instrument == FORCED_CHOICE and f"valid.{FORCED_CHOICE}" not in verdicts:
        return _all_foundations(verdicts)
    verdict = verdicts.get(f"valid.{instrument}")
    return "" if verdict is None else verdict.answer


def _all_foundations(verdicts: Verdicts) -> str:
    """The answer of a run that judged each foundation by itself, as older versions did."""
    each = [v.answer for k, v in verdicts.items() if k.startswith("valid.p_")]
    return next((answer for answer in _ANSWERS if answer in each), "")
