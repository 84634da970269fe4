"""Coherence figures against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steer_heal_love.maths.diversity import self_bleu, split_words
from steer_heal_love.maths.repetition import distinct_n
from steer_heal_love.records import Completion, Judged, Scores
from steer_heal_love.stages.instruments.coherence import measure_coherence

TEXTS = (
    "I am so glad that you told me about your dog.",
    "I am so glad that the train was on time today.",
    "Boil the egg for six minutes and rinse it in cold water.",
    "love " * 40,
    "",
)


def judged_of(text: str, perplexity: float = 8.0) -> Judged:
    ids = tuple(range(len(text.split())))
    scores = Scores(
        perplexity=perplexity if ids else math.inf,
        tail_perplexity=2 * perplexity,
        window_perplexity=3 * perplexity,
        word_repetition=0.0,
        char_run=0.0,
        compression=1.5,
        narrates=False,
        refuses=False,
        empty=not ids,
        truncated=False,
    )
    return Judged(Completion("?", text, ids, 7 if ids else None, 0.0, 0, 0), scores, ())


SAMPLES = [judged_of(t, 8.0 + i) for i, t in enumerate(TEXTS)]


def test_figures_are_what_their_names_say() -> None:
    found = measure_coherence(SAMPLES)
    words = [split_words(t) for t in TEXTS]
    assert found.value("perplexity") == pytest.approx((8 * 9 * 10 * 11) ** 0.25)
    assert found.value("perplexity_median") == np.median([8, 9, 10, 11])
    assert found.value("perplexity_p90") == pytest.approx(np.quantile([8, 9, 10, 11], 0.9))
    assert found.value("tail_perplexity") == 2 * found.value("perplexity_median")
    assert found.value("window_perplexity") == 3 * found.value("perplexity_median")
    assert found.value("loop_share") == 1 / 5
    assert found.value("opening_share") == 2 / 5
    assert found.value("ended_share") == 4 / 5
    assert found.value("empty_share") == 1 / 5
    assert found.value("self_bleu") == pytest.approx(self_bleu(words))
    assert found.value("distinct_2") == distinct_n(words, 2)
    assert found.value("rep_2") == pytest.approx((1 - 1 / 39) / 4)
    assert found.value("compression") == 1.5
    assert "relevance" not in found.figures


def test_every_figure_has_an_interval_around_it_and_every_item_a_place() -> None:
    found = measure_coherence(SAMPLES, [0.1, 0.2, 0.3, 0.0, None])
    assert found.value("relevance") == pytest.approx(0.15)
    for name, figure in found.figures.items():
        assert figure.low <= figure.value <= figure.high, name
    for values in found.items.values():
        assert len(values) == len(SAMPLES)
    assert found.items["perplexity"] == (8.0, 9.0, 10.0, 11.0, None)
    assert found.items["rep_3"][4] is None


def test_nothing_but_empty_samples_has_no_perplexity() -> None:
    found = measure_coherence([judged_of("")] * 3, [None] * 3)
    assert "perplexity" not in found.figures
    assert "relevance" not in found.figures
    assert "distinct_1" not in found.figures
    assert found.value("empty_share") == 1.0
    assert found.value("ended_share") == 0.0
