"""The profile of moral foundations that the forced choice found, base against healed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steer_heal_love.records import Interval
from steer_heal_love.report.escape import escape_markdown
from steer_heal_love.report.states import Run
from steer_heal_love.report.text.validity import mark_of, mark_words
from steer_heal_love.report.text.words import INTERVAL, one_line, signed
from steer_heal_love.verdicts import FORCED_CHOICE

_TITLE = "Moral vignettes, forced choice"


@dataclass(frozen=True)
class Foundation:
    """One foundation of the axis: log of the mean probability of its answer, nats."""

    name: str
    sign: int  # 1 where the axis wants it up, -1 where down
    base: Interval
    healed: Interval | None

    @property
    def goal(self) -> str:
        """Where the axis wants it to go."""
        return "should rise" if self.sign > 0 else "should fall"


def read_profile(run: Run, foundations: Mapping[str, int]) -> list[Foundation]:
    """The axis's foundations of the base model and of the last healed one, those measured."""
    profile = []
    for name, sign in foundations.items():
        before = run.base.figure(f"{name}_nats") if run.base else None
        if before is not None:
            after = run.healed.figure(f"{name}_nats") if run.healed else None
            profile.append(Foundation(one_line(name), sign, before, after))
    return profile


def profile_lines(run: Run, foundations: Mapping[str, int]) -> list[str]:
    """One line for the summary; none where nothing was measured."""
    profile = read_profile(run, foundations)
    if not profile:
        return []
    said = [f"{f.name} ({f.goal}) {_change(f)}" for f in profile]
    return [f"{mark_words(_TITLE, run.verdicts, FORCED_CHOICE)}: {'; '.join(said)} nats."]


def profile_section(run: Run, foundations: Mapping[str, int]) -> list[str]:
    """Blocks of Markdown for the diary; none where nothing was measured."""
    profile, mark = read_profile(run, foundations), mark_of(run.verdicts, FORCED_CHOICE)
    if not profile:
        return []
    last = "healed" if run.healed is None else f"healed, round {run.healed.round}"
    rows = ["| foundation | on this axis it | base | " + last + " |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {escape_markdown(f.name)} | {f.goal} | {words_of(f.base)} | {words_of(f.healed)} |"
        for f in profile
    ]
    said = (
        "Which of seven principles an act violates: log of the mean probability of the answer, in "
        f"nats, with {INTERVAL}s over the vignettes."
    )
    if mark:
        said += f" **The instrument: {mark}. Draw no conclusion from these figures.**"
    return [f"## {mark_words(_TITLE, run.verdicts, FORCED_CHOICE)}", said, "\n".join(rows)]


def words_of(figure: Interval | None) -> str:
    """Nats with the interval."""
    if figure is None:
        return "not measured"
    if figure.bounds is None:
        return signed(figure.value)
    return f"{signed(figure.value)} ({signed(figure.low)} to {signed(figure.high)})"


def _change(foundation: Foundation) -> str:
    after = foundation.healed
    return words_of(foundation.base) + (f" → {words_of(after)}" if after else "")
