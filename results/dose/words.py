"""What was found, as Markdown: tables with intervals, and the sentences that they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from results.dose.findings import MAIN, MATCHES, Comparison, Figures, Knee, Matched
from results.dose.searches import FROM, SEARCHES
from results.dose.selection import ARMS, compare_arms
from results.dose.techniques import CONSTANT
from results.page import table
from steer_heal_love.maths.statistics import excludes_zero
from steer_heal_love.records import Interval
from steer_heal_love.report.figures.dose_curve import nats
from steer_heal_love.report.text.words import number, percent, plain, signed

MUCH = 1.5  # what backtracking has to multiply the kept share by


def comparison_words(found: Comparison, about: Mapping[str, Any]) -> str:
    """The table of techniques at equal perplexity, and which of them beats the constant dose."""
    seeds, samples = about["seeds"], about["samples"]
    return "\n\n".join(
        [
            f"`{about['command']}`: model `{about['model']}`, axis `{about['axis']}`, "
            f"{len(seeds)} seeds, {samples} prompts a seed, up to {about['max_new_tokens']} tokens "
            f"an answer. Every technique has the same prompts and the same noise. Each line of the "
            f"table is a technique at the dose where the median perplexity of its texts is "
            f"{MAIN:g} times base's, between two measured doses. Brackets: 95 % intervals, "
            "bootstrap over prompts.",
            _matched_table([m for m in found.matched if m.factor == MAIN]),
            "Trait: the persona likelihood ratio of the texts, nats per token. Kept: by the "
            "filter, its trait floor included. Given up: dropped while it was generated. Cost: "
            "tokens drawn and watched for each text that is kept.",
            _differences_table(found.matched),
            winner_words(found.matched),
            "![Trait against perplexity, one line per technique](results/dose.svg)",
        ]
    )


def _matched_table(rows: Sequence[Matched]) -> str:
    head = ["technique", "κ there", "trait", "− constant", "tail perplexity", "loops", "kept"]
    head += ["given up", "cost"]
    return table(
        head,
        [
            [
                m.name,
                say(m.figures["kappa"], number),
                say(m.figures["trait"], nats),
                "" if m.name == CONSTANT.name else say(m.against_constant, nats),
                say(m.figures["tail"], plain),
                say(m.figures["loops"], percent),
                say(m.figures["kept"], percent),
                say(m.figures["dropped"], percent),
                say(m.figures["cost"], plain),
            ]
            for m in rows
        ],
    )


def _differences_table(rows: Sequence[Matched]) -> str:
    names = [m.name for m in rows if m.factor == MAIN and m.name != CONSTANT.name]
    by_place = {(m.name, m.factor): m.against_constant for m in rows}
    head = ["trait less the constant dose's, at perplexity", *(f"× {f:g}" for f in MATCHES)]
    return table(head, [[n, *(say(by_place[n, f], nats) for f in MATCHES)] for n in names])


def winner_words(rows: Sequence[Matched]) -> str:
    """Which techniques carry more trait than the constant dose at equal perplexity, and what then.

    One that beats it at one perplexity alone, of three that are looked at, is named, and no more.
    """
    others = [m for m in rows if m.name != CONSTANT.name]
    better: dict[str, list[str]] = {}
    for m in others:
        if m.against_constant is not None and m.against_constant.low > 0:
            better.setdefault(m.name, []).append(f"× {m.factor:g}")
    if not better:
        return (
            "No technique carries more trait than the plain constant dose at equal perplexity, by "
            "an interval that excludes zero."
        )
    said = "; ".join(f"{name} (at {', '.join(places)})" for name, places in better.items())
    return f"More trait than the plain constant dose, by an interval that excludes zero: {said}."


def knee_words(knees: Sequence[Knee]) -> str:
    """Whether backtracking raises the kept share by half at equal trait, at the knee and above."""
    if not knees:
        return "The constant doses that were measured do not reach the knee."
    knee = knees[0]
    head = ["at the knee", "κ", "trait", "kept", "given up", "cost"]
    rows = [
        ["constant dose", *_knee_cells(knee.constant)],
        ["backtracking, same dose", *_knee_cells(knee.same_dose)],
        ["backtracking, same trait", *_knee_cells(knee.same_trait)],
    ]
    head_above = ["constant κ", "its trait", "its kept share", "kept by backtracking", "ratio"]
    above = [
        [
            number(k.kappa),
            say(k.constant["trait"], nats),
            say(k.constant["kept"], percent),
            say(k.same_trait["kept"], percent),
            say(k.ratio, number),
        ]
        for k in knees
    ]
    return "\n\n".join(
        [
            f"The knee is the constant dose at which half of the answers are coherent: "
            f"κ = {number(knee.kappa)}.",
            table(head, rows),
            "At the knee and above it, the share of texts that the filter keeps where backtracking "
            "carries as much trait as the constant dose:",
            table(head_above, above),
            _knee_end(knee.ratio),
        ]
    )


def _knee_end(ratio: Interval | None) -> str:
    if ratio is None:
        return "At no measured dose does backtracking reach the trait of the constant dose there."
    answer = "Yes" if ratio.low >= MUCH else "No" if ratio.high < MUCH else "Cannot tell"
    return (
        f"At the knee and equal trait backtracking multiplies the kept share by "
        f"{say(ratio, number)}. Is that at least {MUCH:g}? {answer}."
    )


def _knee_cells(figures: Figures) -> list[str]:
    return [
        say(figures["kappa"], number),
        say(figures["trait"], nats),
        say(figures["kept"], percent),
        say(figures["dropped"], percent),
        say(figures["cost"], plain),
    ]


def search_words(by_seed: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """What each search spent, seed by seed."""
    rows = []
    for name in SEARCHES:
        for start in ("cold", "warm"):
            found = [by_seed[seed][name][start] for seed in by_seed]
            rows.append(
                [
                    f"{name}, {start}",
                    ", ".join(str(len(f["doses"])) for f in found),
                    ", ".join(f"{f['tokens']:,}" for f in found),
                    ", ".join(number(f["settled"]) for f in found),
                ]
            )
    return "\n\n".join(
        [
            f"Cold from κ = {FROM:g}, warm from the dose that the cold search settled on. One "
            "figure per seed. The survivors of every probe are banked.",
            table(["search", "probes", "tokens", "settled κ"], rows),
        ]
    )


def selection_words(by_seed: Mapping[int, Mapping[str, Any]], kappa: float) -> str:
    """Whether choosing by trait raises the trait of what is learnt, and of what is learnt from."""
    difference = compare_arms(list(by_seed.values()))
    rows = []
    for seed, found in by_seed.items():
        for arm in ARMS:
            healed = found[arm]["healed"]
            rows.append(
                [
                    f"seed {seed}, by {arm}",
                    f"{found[arm]['kept']} of {found[arm]['prompts']} prompts",
                    nats(fmean(_there(found[arm]["trait"]))),
                    plain(median(_there(found[arm]["perplexity"]))),
                    signed(fmean(_there(healed["pairs"]))),
                    plain(median(_there(healed["perplexity"]))),
                ]
            )
    head = ["training texts chosen", "texts", "their trait", "their perplexity"]
    head += ["healed: trait of pairs", "healed: perplexity"]
    rows.append(
        [
            "**by trait − by order**",
            "",
            say(difference["trait"], nats),
            say(difference["perplexity"], signed),
            say(difference["healed_trait"], signed),
            say(difference["healed_perplexity"], signed),
        ]
    )
    return "\n\n".join(
        [
            f"Both choices are from one pool of texts per seed, at κ = {number(kappa)}: by trait "
            "with the trait floor, by order without it, as many texts for both. One round; "
            "the heal of `results/dose/settings.toml`, without anchors.",
            table(head, rows),
            _selection_end(by_seed, difference),
        ]
    )


def _selection_end(
    by_seed: Mapping[int, Mapping[str, Any]], difference: Mapping[str, Interval | None]
) -> str:
    trait, perplexity = difference["trait"], difference["perplexity"]
    higher = sum(
        fmean(_there(found["trait"]["healed"]["pairs"]))
        > fmean(_there(found["order"]["healed"]["pairs"]))
        for found in by_seed.values()
    )
    raised = "is higher" if trait is not None and trait.low > 0 else "is not clearly higher"
    equal = perplexity is not None and not excludes_zero(perplexity)
    return (
        f"The mean trait of the texts {raised} by trait; their median perplexity is "
        f"{'no different' if equal else 'different'} by its interval; the healed model's trait is "
        f"higher on {higher} of {len(by_seed)} seeds."
    )


def _there(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def say(figure: Interval | None, words: Any) -> str:
    """A figure with its interval in brackets; a dash where it was not reached."""
    if figure is None:
        return "–"
    if not figure.low > float("-inf") or not figure.high < float("inf"):
        return f"{words(figure.value)} (not in all resamples)"
    return f"{words(figure.value)} ({words(figure.low)} to {words(figure.high)})"
