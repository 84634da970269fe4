"""The report says at which entropy the trait was taken, and praises no lost entropy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import AXIS, make_run, printed, summary

from steer_heal_love.records import Interval
from steer_heal_love.report.compare.compare import compare_runs, notes
from steer_heal_love.report.compare.comparison import comparison_csv, table_of
from steer_heal_love.report.figures.axis_map import choose_measures
from steer_heal_love.report.figures.love_loop import love_loop_plot
from steer_heal_love.report.page.document import run_page
from steer_heal_love.report.page.headline import headline_of
from steer_heal_love.report.states import parse_metrics, parse_run, without_bounds
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.text.ratios import ratio_to_base
from steer_heal_love.report.text.sharpness import UNMATCHED, is_sharpened, low_perplexity_words
from steer_heal_love.report.text.summary import round_table
from steer_heal_love.report.text.validity import instrument_of
from steer_heal_love.runs.read import RunView, read_run

Make = Callable[..., Any]
RUN = Path("runs/mine")
SHARPENED = {
    "answer": "yes",
    "words": "Sharper than base: entropy −0.60 nats a token against base.",
    "rule": "the 95 % interval of the entropy less base's lies below −0.15 nats a token",
}


def matched(metrics: Any, shift: float = -0.6) -> Any:
    """The metrics of a run that measured entropy, with a last healed model so much sharper."""
    for state in (
        metrics["base"],
        *(r[c] for r in metrics["rounds"] for c in ("steered", "healed")),
    ):
        measure(state, 0.0)
    for entry in metrics["rounds"]:
        measure(entry["healed"], shift)
        entry["healed"] |= {"trait_per_sqrt_kl": 0.53, "kl_nats": 0.5}
    return metrics


def measure(state: Any, shift: float) -> None:
    state |= {
        "trait_raw_nats": state["trait_nats"] - shift / 2,
        "temperature_match": 1 - shift / 2,
        "entropy_nats": 2.0 + shift,
        "entropy_shift_nats": shift,
        "entropy_own_nats": 2.1 + shift,
        "kl_nats": 0.0,
        "perplexity_median": state["perplexity"],
    }
    state["intervals"]["entropy_shift_nats"] = [shift - 0.1, shift + 0.1]


def test_the_table_has_the_matched_trait_and_the_raw_one_beside_it(make_metrics: Make) -> None:
    text = printed(round_table(matched(make_metrics(2))))
    assert "…" not in text
    row = next(line for line in text.splitlines() if "1 healed" in line)
    assert row.split() == [
        "1", "healed", "+0.80", "+1.10", "1.30", "−0.60", "1.50", "+", "0.50", "=", "2.00", "+0.53",
    ]  # fmt: skip
    assert UNMATCHED not in text


def test_an_older_run_says_that_a_sharper_model_scores_higher(
    make_metrics: Make, tmp_path: Path
) -> None:
    metrics = make_metrics(1)
    view = RunView(path=RUN, metrics=metrics, config={}, axis=AXIS)
    text = printed(round_table(metrics), 200)
    assert UNMATCHED in " ".join(text.split())
    assert UNMATCHED in summary(metrics)
    assert UNMATCHED in write_diary(view)
    old = read_run(make_run(tmp_path / "run", (0.5,)))
    assert UNMATCHED in run_page(old, [love_loop_plot(parse_metrics(metrics))])
    rows = compare_runs([old])
    assert UNMATCHED in notes(rows)
    assert not {"T*", "sharpened", "raw trait, healed"} & set(table_of(rows)[0])


def test_a_matched_run_says_what_it_owes_to_sharpness(make_metrics: Make) -> None:
    metrics = matched(make_metrics(1, trait=0.7, perplexity=7.4))
    text = summary(metrics)
    assert UNMATCHED not in text
    assert "Its entropy is −0.60 nats a token against base (95 % interval −0.70 to −0.50)" in text
    assert "the same at temperature 1.30." in text
    assert "without that it went from +0.17 to +1.00." in text
    assert "H + KL to base is 1.50 + 0.50 = 2.00 nats a token" in text
    assert "Trait per root KL is +0.53." in text
    diary = write_diary(RunView(path=RUN, metrics=metrics, config={}, axis=AXIS))
    assert r"entropy −0.60 nats per token against base (T\* = 1.30, raw trait +1.00)" in diary
    assert "taken at the base model's entropy" in diary
    plot = love_loop_plot(parse_metrics(metrics))
    assert plot.table.head[3:8] == ("raw trait", "T*", "entropy − base", "H + KL", "trait /√KL")
    assert plot.table.rows[-2][3:8] == ("+1.00", "1.30", "−0.60", "1.50 + 0.50 = 2.00", "+0.53")
    assert all(len(row) == len(plot.table.head) for row in plot.table.rows)


def test_a_base_entropy_at_no_temperature_leaves_the_trait_out(make_metrics: Make) -> None:
    metrics = matched(make_metrics(1))
    for name in ("trait_nats", "temperature_match"):
        del metrics["rounds"][0]["healed"][name]
    text = summary(metrics)
    assert "No conclusion: the trait was not measured." in text
    assert "the same at no temperature." in text


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (None, "below base, as any sharper model is; entropy was not measured"),
        (-0.6, "below base, as any sharper model is: no sign of coherence"),
        (-0.2, ""),  # by its estimate alone
        (0.0, ""),
    ],
)
def test_a_perplexity_below_base(shift: float | None, words: str, make_metrics: Make) -> None:
    metrics = make_metrics(1, trait=0.7, perplexity=5.3)
    if shift is not None:
        matched(metrics, shift)
    healed = parse_metrics(metrics).healed
    assert healed is not None
    assert low_perplexity_words(healed, without_bounds(5.3 / 7.4)) == words
    assert low_perplexity_words(healed, without_bounds(1.1)) == ""
    assert low_perplexity_words(healed, None) == ""
    assert is_sharpened(healed) == {None: None, -0.6: True}.get(shift, False)
    text = summary(metrics)
    assert ("about as coherent as base" in text) == (not words)
    assert f"0.72 times the base model's{f' ({words})' if words else ''}." in text
    diary = write_diary(RunView(path=RUN, metrics=metrics, config={}, axis=AXIS))
    assert ("nothing strange" in diary[diary.index("## Night") :]) == (not words)


def test_the_page_of_a_sharpened_model_shows_no_green(tmp_path: Path) -> None:
    view = read_run(make_run(tmp_path / "run", (0.5,), perplexity=5.3))
    matched(view.metrics)
    view.metrics["verdicts"] = {"sharpened": SHARPENED}  # type: ignore[index]
    headline = headline_of(view, parse_run(view))
    assert headline.tiles[0].unit == "nats per token, at base's entropy"
    assert "raw " in headline.tiles[0].note
    assert [tile.is_open for tile in headline.tiles] == [False, True, False, False]
    assert "no sign of coherence" in headline.tiles[1].note
    page = run_page(view, [love_loop_plot(parse_metrics(view.metrics))])
    assert 'class="to open">5.3<' in page
    assert 'class="answer neutral yes">yes<' in page
    assert "Is the healed model sharper than base?" in page
    row = compare_runs([view])
    cells = table_of(row)[0]
    assert (cells["T*"], cells["sharpened"], cells["entropy − base"][:5]) == (
        "1.30",
        "yes",
        "−0.60",
    )
    assert "at base's entropy" in notes(row)
    assert "temperature_match" in comparison_csv(row)


def test_entropy_is_no_measure_of_the_trait(make_metrics: Make) -> None:
    metrics = matched(make_metrics(1))
    for state in (metrics["base"], metrics["rounds"][0]["healed"]):
        state["persona_nats"] = state["trait_nats"]
    assert set(choose_measures(parse_metrics(metrics)) or ()) == {"trait_nats", "persona_nats"}
    assert instrument_of("trait_raw_nats") == "trait_nats"
    assert instrument_of("kl_matched_nats") is instrument_of("entropy_shift_nats") is None


def test_the_ratio_is_of_what_the_figure_is(make_measurement: Make) -> None:
    metrics = {"base": make_measurement(0, 5.0), "rounds": [{"healed": make_measurement(0, 6.0)}]}
    items = {"base": {"perplexity": [1.0] * 3}, "healed": {"perplexity": [1.0, 2.0, 16.0]}}

    def ratio() -> Interval | None:
        run = parse_metrics(metrics, lambda _round: items)
        return ratio_to_base(run.healed, run.base)

    old = ratio()
    metrics["rounds"][0]["healed"]["perplexity_median"] = 2.0
    new = ratio()
    assert old is not None
    assert new is not None
    assert (old.value, new.value) == (2.0, pytest.approx(32 ** (1 / 3)))
