"""Entropy and divergence in words: what the trait and a low perplexity owe to sharpness."""

from __future__ import annotations

from steer_heal_love.records import Interval
from steer_heal_love.report.states import RAW, TRAIT, Run, State
from steer_heal_love.report.text.words import INTERVAL, number, signed
from steer_heal_love.verdicts.sharpness import ENTROPY_SHIFT, SHIFT

TEMPERATURE = "temperature_match"
KL, OWN_ENTROPY = "kl_nats", "entropy_own_nats"
PER_ROOT_KL = "trait_per_sqrt_kl"
UNMATCHED = (
    "The trait was measured before entropy was matched: a sharper model scores higher by itself."
)
COLUMNS = ("raw trait", "T*", "entropy − base", "H + KL", "trait /√KL")


def is_matched(run: Run) -> bool:
    """Whether the run's trait is taken at base's entropy; older versions stored the raw one."""
    return run.base is not None and run.base.figure(RAW) is not None


def unmatched_words(run: Run) -> list[str]:
    """The sentence that a trait needs which was measured at any entropy; none where it was not."""
    measured = run.base is not None and run.base.figure(TRAIT) is not None
    return [UNMATCHED] if measured and not is_matched(run) else []


def entropy_cells(state: State) -> tuple[str, ...]:
    """The figures of a model under `COLUMNS`, a dash for what was not measured."""
    names = (RAW, TEMPERATURE, SHIFT, PER_ROOT_KL)
    raw, temperature, shift, gained = map(state.figure, names)
    matched = number(temperature.value if temperature else None)
    return (_cell(raw), matched, _cell(shift), split_words(state) or "–", _cell(gained))


def split_words(state: State) -> str:
    """Cross-entropy under base in its two parts, H(model) + KL(model ‖ base), nats per token; empty
    where it was not measured.
    """
    entropy, divergence = map(state.figure, (OWN_ENTROPY, KL))
    if entropy is None or divergence is None:
        return ""
    whole = entropy.value + divergence.value
    return f"{number(entropy.value)} + {number(divergence.value)} = {number(whole)}"


def entropy_words(state: State) -> list[str]:
    """The figures of a model as a part of a line; none where entropy was not measured."""
    raw, temperature, shift, split, gained = entropy_cells(state)
    if state.figure(SHIFT) is None:
        return []
    return [
        f"entropy {shift} nats per token against base (T\\* = {temperature}, raw trait {raw})",
        f"H + KL {split}",
        f"trait per root KL {gained}",
    ]


def entropy_findings(run: Run, healed: State) -> list[str]:
    """Sentences on what the healed model's trait and perplexity owe to sharpness, and on what its
    divergence has bought; of an older run the one that says that this is not known.
    """
    if not is_matched(run):
        return unmatched_words(run)
    before, after = run.base.figure(RAW) if run.base else None, healed.figure(RAW)
    shift, matched = healed.figure(SHIFT), healed.figure(TEMPERATURE)
    said = []
    if shift is not None:
        at = "at no temperature" if matched is None else f"at temperature {number(matched.value)}"
        said.append(
            f"Its entropy is {signed(shift.value)} nats a token against base{_bounds(shift)}, and "
            f"the same {at}."
        )
    if before is not None and after is not None:
        said.append(
            f"The trait is taken there; without that it went from {signed(before.value)} to "
            f"{signed(after.value)}."
        )
    if split := split_words(healed):
        said.append(
            f"On its own answers H + KL to base is {split} nats a token, the logarithm of their "
            "perplexity but for how they are drawn."
        )
    if gained := healed.figure(PER_ROOT_KL):
        said.append(f"Trait per root KL is {signed(gained.value)}{_bounds(gained)}.")
    return [" ".join(said)] if said else []


def is_sharpened(state: State) -> bool | None:
    """Whether a model is sharper than base by its whole interval; None where nobody measured."""
    shift = state.figure(SHIFT)
    if shift is None:
        return None
    return (shift.high if shift.bounds else shift.value) < -ENTROPY_SHIFT


def low_perplexity_words(state: State, ratio: Interval | None) -> str:
    """Why a perplexity below base's is no merit; empty where it is none of that, or may be one.

    Args:
        ratio: perplexity as a multiple of base's.
    """
    if ratio is None or ratio.value >= 1:
        return ""
    return {
        None: "below base, as any sharper model is; entropy was not measured",
        True: "below base, as any sharper model is: no sign of coherence",
    }.get(is_sharpened(state), "")


def _cell(figure: Interval | None) -> str:
    return "–" if figure is None else signed(figure.value)


def _bounds(figure: Interval) -> str:
    if figure.bounds is None:
        return ""
    return f" ({INTERVAL} {signed(figure.low)} to {signed(figure.high)})"
