"""Several runs on one page: figures side by side, answers side by side, what differs."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.report.compare.compare import compare_runs, differences, names_of, notes
from steer_heal_love.report.compare.comparison import table_of
from steer_heal_love.report.figures.drawing import Plot
from steer_heal_love.report.page.answers import (
    BASE,
    PROMPTED,
    AnswerSet,
    Column,
    choose_prompts,
    pack_answers,
)
from steer_heal_love.report.page.document import render_page
from steer_heal_love.report.page.headline import Headline
from steer_heal_love.report.page.payload import pack_payload
from steer_heal_love.report.page.setup import setup_of
from steer_heal_love.report.states import Grid, parse_run
from steer_heal_love.runs.read import RunView

_FEW = 4  # runs whose names make a sentence


def comparison_page(views: Sequence[RunView], plots: Sequence[Plot], *, force: bool = False) -> str:
    """The page of several runs.

    Raises:
        RunError: the runs were measured on different items (unless `force`), or one is broken.
    """
    names = names_of(views)
    rows = table_of(compare_runs(views, force=force))
    labels = list(rows[0])[1:]
    spoken = _spoken(views, names)
    setups = [setup_of(view, parse_run(view)) for view in views]
    return render_page(
        headline=Headline(
            title=f"{len(views)} runs side by side",
            lead=" against ".join(names) if len(names) < _FEW else ", ".join(names),
            facts=(),
            tiles=(),
            findings=tuple(f"Not measured on the same items: {d}." for d in differences(views)),
            rulings=(),
        ),
        comparison=(
            Grid(
                ("", *(row["run"] for row in rows)),
                tuple((label, *(row[label] for row in rows)) for label in labels),
            ),
            notes(compare_runs(views, force=force)),
        ),
        plots=plots,
        spoken=spoken,
        parcels={"spoken": pack_payload(spoken.as_data())} if spoken else {},
        setups=list(zip(names, setups, strict=True)),
        missing=[(n, gone) for n, v in zip(names, views, strict=True) if (gone := v.missing())],
    )


def _spoken(views: Sequence[RunView], names: Sequence[str]) -> AnswerSet | None:
    """Base and prompted once, of the first run; of every run the healed answers, round by round."""
    baseline = views[0].answers(None)
    said = [{r: view.answers(r) for r in range(len(parse_run(view).rounds))} for view in views]
    everything = [*baseline, *(a for rounds in said for own in rounds.values() for a in own)]
    prompts, left_out = choose_prompts(everything)
    answers = pack_answers(baseline, prompts, None, ("base", "prompt_pos"))
    for place, rounds in enumerate(said):
        for r, own in rounds.items():
            answers += pack_answers(own, prompts, r, ("healed",), column=f"run-{place}")
    if not answers:
        return None
    moving = tuple(
        Column(f"run-{place}", f"{name}, healed", "healed") for place, name in enumerate(names)
    )
    labels = tuple((r, f"round {r}") for r in range(max(map(len, said))))
    return AnswerSet(prompts, (BASE, PROMPTED), moving, labels, tuple(answers), left_out)
