"""Each filter drops what it is for, nothing else, and writes every reason down."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from judgements import scores
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.records import Axis, Ceilings, Completion, Direction, Limits
from steer_heal_love.stages.filter import (
    FilterConfig,
    Scored,
    judge,
    judge_all,
    limits_of,
    measure_limits,
    score_completions,
    with_relevance,
)
from tiny import WIDTH, random_adapter, tiny_lm

AXIS = Axis(
    name="kind",
    description="",
    template="You are {persona}.",
    pos="someone who cares",
    neg="someone who does not care",
    probes=("How are you?",),
    pairs=(),
    narration=(r"\bI am someone who\b",),
)
NO_CEILING = Ceilings(math.inf, math.inf, math.inf, math.inf, math.inf)
LOOSE = Limits(NO_CEILING, NO_CEILING, -math.inf)
PROSE = "The train leaves at noon, and I shall be there with a cake."


def completion(text: str = PROSE, end_id: int | None = 2, prompt: str = "Hello?") -> Completion:
    ids = tuple(encode_text(tiny_lm(), text))
    return Completion(prompt, text, ids, end_id, 1.0, 0, 0)


def scored(text: str = PROSE, **changes: float | bool | None) -> Scored:
    return Scored(completion(text), replace(scores(0.5), **changes), ())  # type: ignore[arg-type]


def fate(text: str, config: FilterConfig | None = None, limits: Limits = LOOSE) -> tuple[str, ...]:
    (found,) = judge_all(tiny_lm(), AXIS, [completion(text)], limits, config or FilterConfig())
    return found.reasons


def test_prose_is_kept() -> None:
    assert fate(PROSE) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hi.", "empty"),
        ("            ", "empty"),
        ("I love you so much. " * 8, "loop"),
        ("!" * 80, "loop"),
        ("Well, I am someone who cares about each and every one of you.", "narration"),
        ("Well, i AM someone who cares about each and every one of you.", "narration"),
        ("I'm sorry, but I can't help with that, whatever the reason is.", "refusal"),
        ("As an AI language model, I cannot have feelings about the weather.", "refusal"),
        ("I cannot assist with anything that has to do with trains.", "refusal"),
    ],
)
def test_each_fault_has_its_reason(text: str, reason: str) -> None:
    assert reason in fate(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't wait to see you at the station, with all of our friends.",
        "Someone who cares would bring a cake to the station at noon.",
        "My sister is sorry that she can't come, but she sends her love.",
    ],
)
def test_near_misses_are_kept(text: str) -> None:
    assert fate(text) == ()


def test_an_empty_completion_is_scored_and_dropped() -> None:
    found = fate("")
    assert "empty" in found
    assert "trait" not in found  # no floor


def test_what_was_given_up_is_dropped_and_costs_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import steer_heal_love.stages.filter as filtering

    whole = replace(completion(), index=1)
    scored: list[int] = []
    score = filtering.completion_logprobs

    def count(lm: object, prompts: object, completions: list[object]) -> list[torch.Tensor]:
        scored.append(len(completions))
        return score(lm, prompts, completions)  # type: ignore[arg-type]

    monkeypatch.setattr(filtering, "completion_logprobs", count)
    gone = replace(completion(), dropped=True, rewinds=2)
    rows = judge_all(tiny_lm(), AXIS, [gone, whole], LOOSE, FilterConfig())
    assert scored == [1, 1, 1]
    assert [j.completion.index for j in rows] == [0, 1]
    assert rows[0].reasons == ("dropped",)
    assert rows[0].scores.trait_nats is None
    assert rows[1].reasons == ()
    assert rows[1] == judge_all(tiny_lm(), AXIS, [whole], LOOSE, FilterConfig())[0]


def test_no_completions_no_judgements() -> None:
    assert judge_all(tiny_lm(), AXIS, [], LOOSE, FilterConfig()) == []


@pytest.mark.parametrize(
    ("score", "limit", "reason"),
    [
        ("perplexity", "perplexity", "perplexity"),
        ("tail_perplexity", "tail_perplexity", "tail"),
        ("window_perplexity", "window_perplexity", "window"),
        ("word_repetition", "word_repetition", "repetition"),
        ("compression", "compression", "compression"),
    ],
)
def test_a_score_may_reach_its_limit_but_not_exceed_it(score: str, limit: str, reason: str) -> None:
    ceilings = replace(NO_CEILING, **{limit: 7.0})
    at = replace(LOOSE, sound=ceilings, fit=ceilings)
    assert judge(scored(**{score: 7.0}), at, FilterConfig()).reasons == ()
    assert judge(scored(**{score: 7.001}), at, FilterConfig()).reasons == (reason,)
    strict = replace(LOOSE, fit=ceilings)
    assert judge(scored(**{score: 7.0}), strict, FilterConfig()).reasons == ()
    assert judge(scored(**{score: 7.001}), strict, FilterConfig()).reasons == ("unfit",)


def test_the_trait_floor() -> None:
    at = replace(LOOSE, trait_nats=0.5)
    assert judge(scored(), at, FilterConfig()).kept
    assert judge(scored(trait_nats=0.49), at, FilterConfig()).reasons == ("trait",)
    assert judge(scored(trait_nats=None), at, FilterConfig()).reasons == ("trait",)


def test_the_relevance_floor() -> None:
    at = replace(LOOSE, relevance_nats=0.5)
    assert judge(scored(relevance_nats=0.5), at, FilterConfig()).kept
    irrelevant = judge(scored(relevance_nats=0.49), at, FilterConfig())
    assert irrelevant.reasons == ("irrelevant",)
    assert irrelevant.coherent
    assert not irrelevant.answers  # so it counts against the dose
    assert judge(scored(relevance_nats=None), at, FilterConfig()).kept  # nothing to compare with


def test_the_relevance_floor_is_a_quantile_of_the_base_samples() -> None:
    samples = [scored(relevance_nats=i / 10) for i in range(21)]
    limits = measure_limits(samples, FilterConfig(relevance_quantile=0.5))
    assert limits.relevance_nats == pytest.approx(1.0)
    assert measure_limits([scored()], FilterConfig()).relevance_nats == -math.inf


def test_relevance_is_scored_where_it_has_a_floor() -> None:
    lm, config = tiny_lm(), FilterConfig(relevance_quantile=0.5, relevance_others=1)
    texts = [replace(completion(), prompt=p) for p in ("Who is there?", "What is the time?")]
    rows = score_completions(lm, AXIS, texts, config)
    assert [s.scores.relevance_nats for s in rows] == [None, None]
    found = [s.scores.relevance_nats for s in with_relevance(lm, rows, config)]
    ids = [c.token_ids for c in texts]
    assert found == pytest.approx(relevance(lm, [c.prompt for c in texts], ids), abs=1e-4)
    assert with_relevance(lm, rows, FilterConfig(relevance_quantile=0.0)) == rows
    least = limits_of(lm, AXIS, texts, config).relevance_nats
    assert least == pytest.approx(float(np.median(found)))


def test_relevance_is_asked_of_those_alone_that_nothing_else_drops() -> None:
    lm, config = tiny_lm(), FilterConfig(relevance_quantile=0.5, relevance_others=1)
    texts = [replace(completion(), prompt=p) for p in ("Who is there?", "What is the time?")]
    looped = replace(completion("I love you so much. " * 8), prompt="Who is there?")
    judged = judge_all(lm, AXIS, [*texts, looped], LOOSE, config)
    assert [j.scores.relevance_nats is None for j in judged] == [False, False, True]
    high = replace(LOOSE, relevance_nats=math.inf)
    reasons = [j.reasons for j in judge_all(lm, AXIS, [*texts, looped], high, config)]
    assert reasons[:2] == [("irrelevant",)] * 2
    assert "irrelevant" not in reasons[2]
    blind = judge_all(lm, AXIS, texts, high, config, relevant=False)
    assert [j.reasons for j in blind] == [(), ()]


def test_truncation_counts_where_it_is_asked_for() -> None:
    cut = scored(truncated=True)
    assert judge(cut, LOOSE, FilterConfig()).kept
    assert judge(cut, LOOSE, FilterConfig(drop_truncated=True)).reasons == ("truncated",)


def test_every_reason_is_given() -> None:
    worst = scored("I am so. " * 9, perplexity=99.0, narrates=True, refuses=True, empty=True)
    limits = replace(LOOSE, sound=replace(NO_CEILING, perplexity=5.0))
    assert judge(worst, limits, FilterConfig()).reasons == (
        "empty",
        "perplexity",
        "loop",
        "narration",
        "refusal",
    )


def test_limits_are_quantiles_of_the_base_samples_times_a_factor() -> None:
    samples = [
        scored(perplexity=float(i), tail_perplexity=2.0 * i, trait_nats=i / 10) for i in range(21)
    ]
    config = FilterConfig(quantile=0.9, perplexity_factor=0.5, trait_quantile=0.5)
    limits = measure_limits(samples, config)
    assert limits.fit.perplexity == pytest.approx(9.0)
    assert limits.fit.tail_perplexity == pytest.approx(36.0 * config.tail_factor)
    assert limits.fit.window_perplexity == pytest.approx(5.0 * config.window_factor)
    assert limits.sound.perplexity == pytest.approx(20.0 * config.sound_factor)
    assert limits.sound.tail_perplexity == pytest.approx(40.0 * config.sound_factor)
    assert limits.trait_nats == pytest.approx(1.0)


def test_no_sample_that_sets_the_limits_is_broken_by_them() -> None:
    rng = np.random.default_rng(0)
    samples = [scored(perplexity=float(p)) for p in rng.lognormal(2, 0.5, 40)]
    limits = measure_limits(samples, FilterConfig())
    reasons = [set(judge(s, limits, FilterConfig()).reasons) for s in samples]
    assert all(r <= {"unfit", "trait"} for r in reasons)
    assert any("unfit" in r for r in reasons)


def test_an_absolute_limit_replaces_the_quantile() -> None:
    config = FilterConfig(max_perplexity=12.0, max_tail_perplexity=13.0, trait_floor=-0.25)
    limits = measure_limits([scored()], config)
    fit = limits.fit
    assert (fit.perplexity, fit.tail_perplexity, limits.trait_nats) == (12.0, 13.0, -0.25)
    assert (limits.sound.perplexity, limits.sound.tail_perplexity) == (12.0, 13.0)


def test_what_is_fit_is_sound() -> None:
    limits = measure_limits([scored()], FilterConfig(max_perplexity=500.0, window_factor=9.0))
    assert limits.sound.perplexity == limits.fit.perplexity == 500.0
    assert limits.sound.window_perplexity == limits.fit.window_perplexity == pytest.approx(45.0)


def test_empty_samples_set_no_limit() -> None:
    samples = [scored(perplexity=1000.0, trait_nats=-9.0, empty=True), scored()]
    config = FilterConfig()
    limits = measure_limits(samples, config)
    assert limits.fit.perplexity == pytest.approx(5.0 * config.perplexity_factor)
    assert limits.trait_nats == 0.5
    assert measure_limits([], FilterConfig()) == LOOSE


def test_scores_equal_a_naive_reading_of_the_base_model() -> None:
    lm = tiny_lm()
    answer = completion("I care about rain.", prompt="What do you care about?")
    (found,) = score_completions(lm, AXIS, [answer], FilterConfig())

    def logprobs(system: str | None) -> np.ndarray:
        prompt = encode_chat(lm, answer.prompt, system)
        ids = torch.tensor([[*prompt, *answer.token_ids]])
        with torch.inference_mode():
            table = lm.model(ids).logits[0].double().log_softmax(-1)
        at = range(len(prompt) - 1, ids.shape[1] - 1)
        return np.array([float(table[i, ids[0, i + 1]]) for i in at])

    neutral = logprobs(None)
    assert found.scores.perplexity == pytest.approx(math.exp(-neutral.mean()), rel=1e-3)
    assert found.surprise_nats == pytest.approx(-neutral, abs=2e-3)
    ratio = (logprobs(AXIS.pos_system) - logprobs(AXIS.neg_system)).mean()
    assert found.scores.trait_nats == pytest.approx(ratio, abs=1e-3)


def test_the_likelihood_ratio_changes_its_sign_with_the_personas() -> None:
    rows = [completion(), completion("I care about rain.")]
    turned = replace(AXIS, pos=AXIS.neg, neg=AXIS.pos)
    one, other = (score_completions(tiny_lm(), a, rows, FilterConfig()) for a in (AXIS, turned))
    ratios = [[s.scores.trait_nats for s in side] for side in (one, other)]
    assert all(abs(r) > 1e-4 for r in ratios[0] if r is not None)
    assert ratios[0] == pytest.approx([-r for r in ratios[1] if r is not None], abs=1e-6)


def test_scores_are_the_base_models_whatever_is_on() -> None:
    lm = tiny_lm()
    rows = [completion(), completion("I care about rain.")]
    plain = score_completions(lm, AXIS, rows, FilterConfig())
    direction = Direction((1, 2), torch.ones(2, WIDTH))
    with student(lm, [random_adapter(lm)]), steering(lm, direction, 2.0, must_fire=False):
        patched = score_completions(lm, AXIS, rows, FilterConfig())
    assert plain == patched
