"""What is measured, on which items, and when the loop is told to stop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.maths.paired import known
from steer_heal_love.records import AnswerPair, Axis, Completion, Interval, Judged, Measurement
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.evaluate import (
    EvaluateConfig,
    incoherent,
    measure,
    shown_prompts,
)
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from steer_heal_love.stages.instruments.entropy import Reference, sample_reference
from steer_heal_love.stages.instruments.foundations import Foundations
from tiny import random_adapter, tiny_lm

AXIS = Axis(
    name="kind",
    description="",
    template="You are {persona}.",
    pos="someone who cares",
    neg="someone who does not care",
    probes=("How are you?", "Tell me about rain.", "I am sad."),
    pairs=(
        AnswerPair("Do you care?", "Yes, I do.", "No, I do not."),
        AnswerPair("Help me?", "With all my heart.", "Not at any rate."),
    ),
)
CONFIG = EvaluateConfig(samples=5, max_new_tokens=8, long_samples=3, long_tokens=24, mfv="off")
SAMPLING = Sampling(8)


def measured(
    lm: LanguageModel, seed: int = 0, system: str | None = None, *, long: bool = False
) -> Measurement:
    config = filtering.FilterConfig(min_tokens=1)
    limits = filtering.measure_limits([], config)

    def judge(
        completions: list[Completion], trait: bool, neutral: list[Tensor] | None
    ) -> list[Judged]:
        return filtering.judge_all(
            lm, AXIS, completions, limits, config, trait=trait, neutral=neutral
        )

    return measure(
        lm,
        AXIS,
        "base",
        CONFIG,
        judge,
        Foundations(CONFIG),
        Reference(lm, sample_reference(lm, AXIS.probes, seed=0)),
        seed=seed,
        sampling=SAMPLING,
        system=system,
        long=long,
    )


def _ids(lm: LanguageModel, found: Measurement) -> list[int]:
    """Token ids of the first answer: each token's text is one token again here."""
    tokenizer = lm.tokenizer
    by_text = {tokenizer.decode([i]): i for i in range(len(tokenizer))}
    return [by_text[t] for t in found.answers[0].tokens]


def made_up(**values: float) -> Measurement:
    return Measurement({k: Interval(v, v, v) for k, v in values.items()}, {})


def test_figures_and_items_are_of_the_sampled_answers() -> None:
    found = measured(tiny_lm())
    assert {"trait_nats", "perplexity", "loop_share", "distinct_2"} <= set(found.figures)
    assert len(found.items["trait_nats"]) == len(AXIS.pairs)
    assert len(found.items["perplexity"]) == len(found.items["loop_share"]) == 5
    modes = [a.mode for a in found.answers]
    assert modes == ["sampled"] * 5 + ["greedy"] * 3
    assert [a.prompt for a in found.answers[:5]] == [AXIS.probes[i] for i in (0, 1, 2, 0, 1)]
    assert found.value("perplexity") == pytest.approx(
        float(np.exp(np.mean(np.log(known(found.items["perplexity"])))))
    )
    assert found.value("perplexity_median") == pytest.approx(
        float(np.median(known(found.items["perplexity"])))
    )
    assert found.value("trait_nats") == pytest.approx(np.mean(known(found.items["trait_nats"])))
    for figure in found.figures.values():
        assert figure.low <= figure.high


def test_tokens_and_surprises_go_together() -> None:
    for answer in measured(tiny_lm()).answers:
        assert len(answer.tokens) == len(answer.surprise_nats)
        assert all(s >= 0 for s in answer.surprise_nats)


def test_long_answers_are_measured_beside_the_short_ones() -> None:
    lm = tiny_lm()
    short, both = measured(lm), measured(lm, long=True)
    assert not any(name.startswith("long_") for name in short.figures)
    assert {k: v for k, v in both.items.items() if not k.startswith("long_")} == short.items
    assert both.answers == short.answers
    assert len(both.items["long_perplexity"]) == CONFIG.long_samples
    assert {"long_perplexity", "long_loop_share", "long_distinct_2"} <= set(both.figures)
    assert both.items["long_perplexity"] != both.items["perplexity"][:3]


def test_one_seed_one_measurement() -> None:
    assert measured(tiny_lm(), seed=1) == measured(tiny_lm(), seed=1)
    one, other = measured(tiny_lm(), seed=1), measured(tiny_lm(), seed=2)
    assert [a.text for a in one.answers[:5]] != [a.text for a in other.answers[:5]]
    assert [a.text for a in one.answers[5:]] == [a.text for a in other.answers[5:]]  # greedy


def test_answers_are_the_patched_models_but_perplexity_is_the_base_models() -> None:
    lm = tiny_lm()
    with student(lm, [random_adapter(lm)]):
        healed = measured(lm)
    assert [a.text for a in healed.answers] != [a.text for a in measured(lm).answers]
    prompts = [encode_chat(lm, a.prompt) for a in healed.answers[:1]]
    with torch.inference_mode():
        table = lm.model(torch.tensor([[*prompts[0], *_ids(lm, healed)]])).logits[0]
    first = table.double().log_softmax(-1)[len(prompts[0]) - 1, _ids(lm, healed)[0]]
    assert healed.answers[0].surprise_nats[0] == pytest.approx(-float(first), abs=2e-3)
    assert healed.value("trait_nats") != measured(lm).value("trait_nats")


def test_a_system_prompt_moves_the_trait_but_not_the_scoring() -> None:
    plain, prompted = measured(tiny_lm()), measured(tiny_lm(), system=AXIS.pos_system)
    assert plain.items["trait_nats"] != prompted.items["trait_nats"]


def test_pair_values_equal_a_naive_reading() -> None:
    lm = tiny_lm()

    def per_token(question: str, answer: str, system: str | None) -> float:
        prompt, ids = encode_chat(lm, question, system), encode_text(lm, answer)
        rows = torch.tensor([[*prompt, *ids]])
        with torch.inference_mode():
            table = lm.model(rows).logits[0].double().log_softmax(-1)
        at = range(len(prompt) - 1, rows.shape[1] - 1)
        return float(np.mean([float(table[i, rows[0, i + 1]]) for i in at]))

    for system in (None, AXIS.pos_system):
        expected = [
            per_token(p.question, p.trait, system) - per_token(p.question, p.other, system)
            for p in AXIS.pairs
        ]
        assert answer_pair_values(lm, AXIS, system) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (2, 2), (3, 3), (24, 3)])
def test_the_prompts_on_show_begin_with_the_headline(n: int, expected: int) -> None:
    axis = Axis("x", "", "{persona}", "a", "b", tuple(f"probe {i}" for i in range(n)), ())
    shown = shown_prompts(axis)
    assert shown[0] == "probe 0"
    assert len(shown) == len(set(shown)) == expected


def test_a_round_as_coherent_as_base_goes_on() -> None:
    base = made_up(perplexity=7.0, loop_share=0.1)
    assert incoherent(made_up(perplexity=14.0, loop_share=0.35), base, EvaluateConfig()) is None


def test_a_round_below_the_floor_stops_and_says_why() -> None:
    base = made_up(perplexity=7.0, loop_share=0.1)
    worse = incoherent(made_up(perplexity=21.0, loop_share=0.1), base, EvaluateConfig())
    assert worse is not None
    assert "3.00 times" in worse
    assert "limit 2" in worse
    loops = incoherent(made_up(perplexity=7.0, loop_share=0.5), base, EvaluateConfig())
    assert loops is not None
    assert "loop share exceeds the base's by 0.40" in loops
