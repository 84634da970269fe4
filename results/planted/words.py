"""What was found, as Markdown: two tables, and the sentence that they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.dose.words import say
from results.page import table
from results.planted.findings import Found, Matched, Seen, Student, more_loops
from results.planted.study import ARMS, Arm
from results.runs.saying import points
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import number, percent, signed

SAMPLES_HEAD = ["barrier", "loops", "long loops", "all, by seed", "all − base, points"]
SAMPLES_HEAD += ["perplexity × base", "relevance × base"]
LEARNT_HEAD = ["barrier", "a loop begins", "goes on", "a fresh one begins", "goes on"]

MATCHED_HEAD = ["barrier", "τ", "median D (rmse): no loop", "loop inside", "loop to the end"]
MATCHED_HEAD += ["a loop goes on", "− rmse", "a fresh one goes on", "− rmse"]
MATCHED_HEAD += ["loops − rmse, points"]

AT = {"none": "without a barrier"}
NAMES = {"mean": "mean", "p95": "95th percentile", "max": "greatest"}
SORTS = {"clean": "no loop", "inside": "loop inside", "to the end": "loop to the end"}


def seen_words(rows: Sequence[Seen], about: Mapping[str, Any]) -> str:
    """What each aggregate makes of texts with and without a loop."""
    tau, default = about["tau"], about["default_tau"]
    head = ["D by", "texts", "median D", f"over τ = {tau:g}", f"over τ = {default:g}"]
    return "\n\n".join(
        [
            f"`{about['command']}`: model `{about['model']}`, {len(about['seeds'])} seeds. "
            f"{about['texts']} of the base model's own samples a seed, all of which pass the "
            f"filter; in {percent(about['share'])} of them a loop is planted after that: "
            f"{_kinds(about['kinds'])}. {_loops(about['loops'])} A student learns them without any "
            f"barrier. D is its divergence from the base model on these texts, by each aggregate, "
            f"in nats; the barrier of a heal acts on a text where D exceeds τ, which is "
            f"{default:g} by default. Brackets: 95 % intervals over texts.",
            table([*head, "told from no loop"], [_seen_row(row) for row in rows]),
            "Told from no loop: how often D is higher on a text with a loop than on one without "
            "(AUROC: 50 % is chance), whatever τ is.",
            tau_words(rows, tau),
        ]
    )


def _seen_row(row: Seen) -> list[str]:
    return [
        row.aggregate,
        SORTS[row.texts],
        say(row.divergence, number),
        say(row.over_tau, percent),
        say(row.over_default, percent),
        "" if row.told is None else say(row.told, percent),
    ]


def _kinds(kinds: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{k['where']}, {k['period']} tokens said {k['loop'] // k['period'] + 1} times in a text "
        f"of {k['at'] + k['loop'] + k['rest']}"
        for k in kinds
    )


def _loops(seen: Mapping[str, Sequence[bool]]) -> str:
    said = (f"{sum(flags)} of {len(flags)} {where}" for where, flags in seen.items())
    return f"The project's own definition finds a loop in {', '.join(said)}."


def tau_words(rows: Sequence[Seen], tau: float) -> str:
    """Which aggregates exceed τ on most of the texts of each sort."""
    said = []
    for sort in dict.fromkeys(row.texts for row in rows):
        over = [r.aggregate for r in rows if r.texts == sort and r.over_tau.value > 0.5]
        said.append(f"{SORTS[sort]}: {', '.join(over) or 'none'}")
    return f"Over τ = {tau:g} on more than half of the texts – {'; '.join(said)}."


def student_words(
    rows: Sequence[Student], base: Found, arms: Mapping[Arm, Found], about: Mapping[str, Any]
) -> str:
    """What each student writes itself, and what it has learnt of loops."""
    return "\n\n".join(
        [
            f"Healed on the same texts behind each barrier (λ = {about['lam']:g}, "
            f"τ = {about['tau']:g}, else defaults); {about['samples']} samples of "
            f"{about['tokens']} tokens and {about['long_samples']} of {about['long_tokens']} a "
            "seed:",
            table(SAMPLES_HEAD, [_samples_row(row) for row in rows]),
            "− base: loop share of all samples, short and long, on the same prompts. Brackets: "
            "95 % intervals over samples; the spread over trainings is in the shares by seed.",
            verdict_words(base, arms),
            "What was learnt of loops: log-probability of a repeat under the student less under "
            "base, nats per token. The first repeat is where a loop begins, and the second where "
            "it goes on; fresh loops stand in texts that no student has learnt from.",
            table(LEARNT_HEAD, [_learnt_row(row) for row in rows[1:]]),
            "![Divergence along a text with a loop, by barrier; D by aggregate; loop shares]"
            "(results/planted.svg)",
        ]
    )


def _samples_row(row: Student) -> list[str]:
    beside = [
        points(row.more_loops),
        say(row.perplexity_ratio, number),
        say(row.relevance_ratio, number),
    ]
    return [
        "base, not healed" if row.name == "base" else row.name,
        say(row.loops, percent),
        say(row.long_loops, percent),
        ", ".join(percent(share) for share in row.by_seed),
        *([""] * len(beside) if row.name == "base" else beside),
    ]


def _learnt_row(row: Student) -> list[str]:
    found = (row.begins, row.goes_on, row.begins_fresh, row.goes_on_fresh)
    return [row.name, *(say(figure, signed) for figure in found)]


def verdict_words(base: Found, arms: Mapping[Arm, Found]) -> str:
    """Whether the mean barrier lets loops through where the rmse one holds, by intervals."""
    asked = "Does the mean barrier let loops through where the rmse barrier holds?"
    if not {"mean", "rmse"} <= set(arms):
        return f"{asked} Not measured."
    difference = more_loops(arms["mean"], arms["rmse"])
    over_base = {arm: more_loops(arms[arm], base) for arm in ARMS if arm in arms}
    answer = verdict(difference, over_base["mean"], over_base["rmse"])
    looping = [
        AT.get(arm, arm) for arm, more in over_base.items() if more is not None and more.low > 0
    ]
    return (
        f"{asked} {answer} Mean − rmse, loop share of all samples: {points(difference)} "
        "points. More loops than base, by an interval above zero: "
        f"{', '.join(looping) or 'nowhere'}."
    )


def verdict(difference: Interval | None, mean: Interval | None, rmse: Interval | None) -> str:
    """The answer to that, in a sentence.

    Args:
        difference: loop share behind the mean barrier less behind the rmse one.
        mean: behind the mean barrier, less base's; `rmse` likewise.
    """
    if difference is None or mean is None or rmse is None:
        return "Not decided: too few samples."
    if difference.high < 0:
        return "No: the student behind the rmse barrier loops more."
    if difference.low <= 0:
        return "Not decided: the interval of the difference includes zero."
    if rmse.low > 0:
        return "In part: it lets more through, but behind the rmse barrier there are some, too."
    if mean.low <= 0:
        return "Not decided: it loops more than the other, but not clearly more than base."
    return "Yes."


def matched_words(rows: Sequence[Matched], about: Mapping[str, Any]) -> str:
    """What is learnt of loops behind barriers that are equally strong on texts without one."""
    return "\n\n".join(
        [
            "The same texts and seeds. The rmse has its τ, and every other barrier one at which it "
            "is as strong where there is no loop: under the student without a barrier, median D on "
            f"such texts is the same multiple of τ ({about['tau']:g} for the rmse).",
            table(MATCHED_HEAD, [_matched_row(row) for row in rows]),
            "Median D by the rmse under each student says how far it has moved from base. Goes on: "
            "log-probability of a loop's second repeat less that under base, nats per token; − "
            "rmse: the same less that of the student behind the rmse, on the same loops. Loops: of "
            "all samples, short and long, on the same prompts.",
            matched_verdict(rows),
        ]
    )


def _matched_row(row: Matched) -> list[str]:
    own = row.name == "rmse"
    return [
        row.name,
        f"{row.tau:g}",
        *(say(row.divergence[sort], number) for sort in SORTS),
        say(row.goes_on, signed),
        "" if own else say(row.less_rmse, signed),
        say(row.goes_on_fresh, signed),
        "" if own else say(row.fresh_less_rmse, signed),
        "" if own else points(row.loops_less_rmse),
    ]


def matched_verdict(rows: Sequence[Matched]) -> str:
    """Whether the form of a barrier matters once its strength does not differ, by intervals."""
    said = []
    for row in rows:
        found = row.less_rmse
        if found is None:
            continue
        answer = "no clear difference"
        if found.low > 0:
            answer = "more than behind the rmse"
        elif found.high < 0:
            answer = "less than behind the rmse"
        said.append(f"behind the {NAMES[row.name]} {answer}")
    return f"At equal strength, how likely a learnt loop is to go on: {'; '.join(said)}."
