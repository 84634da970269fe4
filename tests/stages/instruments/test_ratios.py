"""Coherence as a multiple of base: paired, of means or quantiles, and absent where none is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.records import Interval, Measurement
from steer_heal_love.stages.instruments.ratios import with_ratios

POSITIVE = st.floats(0.1, 100)


def of(**items: tuple[float | None, ...]) -> Measurement:
    return Measurement({"trait_nats": Interval(1.0, 0.5, 1.5)}, items)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=12))
def test_perplexity_by_its_logarithm_and_repetition_by_means(
    rows: list[tuple[float, float]],
) -> None:
    own, theirs = (tuple(column) for column in zip(*rows, strict=True))
    found = with_ratios(of(perplexity=own, rep_2=own), of(perplexity=theirs, rep_2=theirs)).figures
    logs = np.log(own).mean() - np.log(theirs).mean()
    assert found["perplexity_ratio"].value == pytest.approx(np.exp(logs))
    medians = np.median(own) / np.median(theirs)
    assert found["perplexity_median_ratio"].value == pytest.approx(medians)
    p90 = np.quantile(own, 0.9) / np.quantile(theirs, 0.9)
    assert found["perplexity_p90_ratio"].value == pytest.approx(p90)
    assert found["rep_2_ratio"].value == pytest.approx(np.mean(own) / np.mean(theirs))
    for name in ("perplexity_ratio", "rep_2_ratio"):
        assert found[name].low <= found[name].value <= found[name].high


def test_a_model_is_once_itself() -> None:
    same = of(perplexity=(3.0, 5.0, 9.0), long_perplexity=(2.0, 3.0), self_bleu=(0.1, 0.2))
    found = with_ratios(same, same).figures
    for name in ("perplexity_ratio", "long_perplexity_ratio", "self_bleu_ratio"):
        assert found[name] == Interval(1.0, 1.0, 1.0)
    assert found["trait_nats"] == same.figures["trait_nats"]
    assert "trait_nats_ratio" not in found


def test_items_without_a_value_are_left_out_in_pairs() -> None:
    own, theirs = (2.0, None, 4.0, 8.0), (1.0, 100.0, 2.0, None)
    found = with_ratios(of(rep_2=own), of(rep_2=theirs)).figures
    assert found["rep_2_ratio"].value == pytest.approx(2.0)


def test_nothing_is_a_multiple_of_nothing() -> None:
    loops, none = (1.0, 0.0, 1.0), (0.0, 0.0, 0.0)
    assert "loop_share_ratio" not in with_ratios(of(loop_share=loops), of(loop_share=none)).figures


def test_other_items_give_no_ratio() -> None:
    found = with_ratios(of(perplexity=(1.0, 2.0)), of(perplexity=(1.0, 2.0, 3.0))).figures
    assert set(found) == {"trait_nats"}


def test_trait_for_divergence_is_the_shift_over_its_root() -> None:
    base = of(trait_nats=(0.0, 0.1, 0.2), kl_matched_nats=(0.0, 0.0))
    found = with_ratios(of(trait_nats=(0.4, 0.5, 0.6), kl_matched_nats=(0.1, 0.22)), base)
    efficiency = found.figures["trait_per_sqrt_kl"]
    assert efficiency.value == pytest.approx(0.4 / 0.4)
    assert efficiency.low <= efficiency.value <= efficiency.high
    assert "trait_per_sqrt_kl" not in with_ratios(base, base).figures
    assert "trait_per_sqrt_kl" not in with_ratios(of(trait_nats=(0.4, 0.5, 0.6)), base).figures
