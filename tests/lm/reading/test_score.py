"""Log-probabilities against a plain log-softmax of the model's own logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meddling import meddled
from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading import context, score
from steer_heal_love.lm.reading.score import completion_logprobs, hidden_states, next_token_logprobs
from tiny import KINDS, Kind, random_ids, tiny_lm

(PREFIX,) = random_ids(20, seed=5)  # longer than the sliding window
PROMPTS = {
    "mixed": random_ids(5, 1, 30, 12, 7),
    "shared prefix": [PREFIX + row for row in random_ids(1, 8, 3, 3, 30)],
    "the same prompt": [PREFIX] * 5,
    "one": random_ids(11),
}
COMPLETIONS = random_ids(4, 19, 1, 25, 6, seed=9)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_lm(request.param)


@pytest.fixture(params=PROMPTS.values(), ids=PROMPTS)
def prompts(request: pytest.FixtureRequest) -> list[list[int]]:
    return request.param


@torch.inference_mode()
def naive(lm: LanguageModel, prompt: list[int], completion: list[int]) -> Tensor:
    logits = lm.model(torch.tensor([prompt + completion])).logits[0].float()
    log_p = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return log_p[torch.arange(len(completion)), torch.tensor(completion)]


@pytest.mark.parametrize("batch_tokens", [1, 90, 4096])
def test_completion_logprobs_equal_the_full_softmax(
    lm: LanguageModel, prompts: list[list[int]], batch_tokens: int
) -> None:
    completions = COMPLETIONS[: len(prompts)]
    found = completion_logprobs(lm, prompts, completions, batch_tokens=batch_tokens)
    for row, prompt, completion in zip(found, prompts, completions, strict=True):
        assert row.dtype == torch.float32
        torch.testing.assert_close(row, naive(lm, prompt, completion), **CLOSE)


def test_small_chunks_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), PROMPTS["mixed"]
    whole = completion_logprobs(lm, prompts, COMPLETIONS), next_token_logprobs(lm, prompts, [4])
    monkeypatch.setattr(score, "LOGIT_CHUNK", 800)  # two rows
    parts = completion_logprobs(lm, prompts, COMPLETIONS), next_token_logprobs(lm, prompts, [4])
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_next_token_logprobs_equal_the_full_softmax(
    lm: LanguageModel, prompts: list[list[int]], batch_tokens: int
) -> None:
    candidates = [3, 77, 383]
    found = next_token_logprobs(lm, prompts, candidates, batch_tokens=batch_tokens)
    expected = torch.stack(
        [torch.stack([naive(lm, prompt, [c])[0] for c in candidates]) for prompt in prompts]
    )
    torch.testing.assert_close(found, expected, **CLOSE)


def test_softcapped_logits_are_scored_as_capped() -> None:
    lm = tiny_lm("gemma3", final_logit_softcapping=2.0)
    (prompt,), (completion,) = random_ids(6), random_ids(5, seed=9)
    (found,) = completion_logprobs(lm, [prompt], [completion])
    torch.testing.assert_close(found, naive(lm, prompt, completion), **CLOSE)


def test_hidden_states_are_those_that_predict_the_completion() -> None:
    lm, prompts = tiny_lm(), PROMPTS["mixed"]
    seen = set()
    for batch, hidden in hidden_states(lm, prompts, COMPLETIONS, batch_tokens=60):
        parts = hidden.split([len(COMPLETIONS[i]) for i in batch])
        for i, part in zip(batch, parts, strict=True):
            seen.add(i)
            ids = torch.tensor([prompts[i] + COMPLETIONS[i]])
            alone = lm.decoder(input_ids=ids).last_hidden_state[0, len(prompts[i]) - 1 : -1]
            torch.testing.assert_close(part, alone, **CLOSE)
    assert seen == set(range(len(prompts)))


def test_nothing_to_score() -> None:
    assert completion_logprobs(tiny_lm(), [], []) == []


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_an_empty_completion_has_no_logprobs(batch_tokens: int) -> None:
    prompts, completions = random_ids(4, 5, 6), [[], [7, 8], []]
    found = completion_logprobs(tiny_lm(), prompts, completions, batch_tokens=batch_tokens)
    assert [len(row) for row in found] == [0, 2, 0]


def test_prompts_and_completions_must_pair_up() -> None:
    with pytest.raises(ValueError, match="zip"):
        completion_logprobs(tiny_lm(), random_ids(4, 5), [[3]])


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_the_shared_prefix_is_used(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm(kind)
    prompts = PROMPTS["shared prefix"]
    assert context.shared_prefix(prompts) == len(PREFIX)
    with_prefix = completion_logprobs(lm, prompts, COMPLETIONS)
    monkeypatch.setattr(context, "MIN_SHARED_PREFIX", 10_000)
    torch.testing.assert_close(with_prefix, completion_logprobs(lm, prompts, COMPLETIONS), **CLOSE)


def test_a_log_probability_that_is_nan_is_an_error() -> None:
    lm = meddled(tiny_lm(), lambda _ids: float("nan"))
    with pytest.raises(DivergedError, match="scoring: a log-probability is NaN"):
        completion_logprobs(lm, random_ids(4, 5), random_ids(3, 2))


def test_copies_of_a_shared_prefix_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    prefix = random_ids(40, seed=1)[0]
    prompts = [[*prefix, *more] for more in random_ids(*[5] * 12, seed=2)]
    whole = next_token_logprobs(lm, prompts, [1, 2, 3])
    monkeypatch.setattr(score, "CACHED_TOKENS", 4 * 45)
    batches = [batch for batch, _ in hidden_states(lm, prompts, [[0]] * 12)]
    assert [len(batch) for batch in batches] == [4, 4, 4]
    torch.testing.assert_close(next_token_logprobs(lm, prompts, [1, 2, 3]), whole)
    monkeypatch.setattr(score, "CACHED_TOKENS", 1)  # one row must go through anyhow
    assert [len(batch) for batch, _ in hidden_states(lm, prompts, [[0]] * 12)] == [1] * 12
