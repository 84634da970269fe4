"""Can an instrument see the trait on this model? It must tell the two persona prompts apart."""

from __future__ import annotations

from collections.abc import Mapping

from steer_heal_love.maths.paired import Items, paired_difference
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts.answers import INVALID, Check, Verdict, all_of, signed


def validity(pos: Items, neg: Items, sign: int = 1) -> Verdict:
    """Whether an instrument tells the positive persona prompt from the negative one."""
    rule = "the paired 95 % interval of positive − negative persona prompt lies above zero"
    if sign < 0:
        rule = "the paired 95 % interval of negative − positive persona prompt lies above zero"
    shift = paired_difference(pos, neg) if sign > 0 else paired_difference(neg, pos)
    if shift is None:
        return Verdict("cannot tell", {}, None, rule, "Too few items have a value in both.")
    words = f"The persona prompts differ by {signed(shift)} per item"
    if shift.low > 0:
        return Verdict("yes", {"shift": shift.value}, shift, rule, f"{words}: valid.")
    return Verdict("no", {"shift": shift.value}, shift, rule, f"{words}: {INVALID}.")


def forced_choice_validity(
    pos: Measurement, neg: Measurement, foundations: Mapping[str, int]
) -> Verdict | None:
    """Whether the moral vignettes move as the axis says between the two persona prompts.

    Valid where the mean probability of *every* foundation moves in its own direction, by its whole
    paired 95 % interval over the vignettes. (No correction for their number: that all must pass
    makes it harder, not easier, to be valid by chance.) One that does not move so makes it "no";
    where none fails and one has too few vignettes, it is "cannot tell".

    Args:
        pos, neg: the base model under each persona prompt, with items `p_<foundation>`, 0 to 1.
        foundations: name, and 1 where the positive persona should raise it, -1 where lower it.

    Returns:
        None where the axis names no foundation, or none that it names was measured.
    """
    if not any(f"p_{name}" in m.items for name in foundations for m in (pos, neg)):
        return None
    rule = (
        "for every foundation that the axis names, the paired 95 % interval of positive − negative "
        "persona prompt lies on its own side of zero: "
        + ", ".join(f"{name} {'up' if sign > 0 else 'down'}" for name, sign in foundations.items())
    )
    checks = [_check_foundation(name, sign, pos, neg) for name, sign in foundations.items()]
    answer = all_of([c.answer for c in checks])
    deciding = next(c for c in checks if c.answer == answer)
    end = {"yes": "Valid", "no": INVALID.capitalize()}.get(answer, "Too few vignettes to tell")
    words = f"Positive − negative persona prompt: {'; '.join(c.words for c in checks)}. {end}."
    figures = {name: value for c in checks for name, value in c.figures.items()}
    return Verdict(answer, figures, deciding.interval, rule, words)


def _check_foundation(name: str, sign: int, pos: Measurement, neg: Measurement) -> Check:
    """One foundation: positive − negative persona prompt, probability from 0 to 1."""
    item = f"p_{name}"
    shift = paired_difference(pos.items.get(item, ()), neg.items.get(item, ()))
    if shift is None:
        return Check("cannot tell", {}, f"{name} not measured on the same vignettes")
    moved = shift.low > 0 if sign > 0 else shift.high < 0
    goal = "rise" if sign > 0 else "fall"
    figures = {
        f"{name}_shift": shift.value,
        f"{name}_shift_low": shift.low,
        f"{name}_shift_high": shift.high,
    }
    words = f"p({name}) {signed(shift, 3)}, should {goal}: {_outcome(shift, moved=moved)}"
    return Check("yes" if moved else "no", figures, words, shift)


def _outcome(shift: Interval, *, moved: bool) -> str:
    if moved:
        return "it does"
    clear = shift.low > 0 or shift.high < 0
    return "it goes the other way" if clear else "no clear shift"
