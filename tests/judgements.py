"""Completions with made-up scores and fates."""

from __future__ import annotations

from steer_heal_love.records import Completion, Judged, Scores


def scores(trait: float | None = 0.0) -> Scores:
    return Scores(
        perplexity=5.0,
        tail_perplexity=5.0,
        window_perplexity=5.0,
        word_repetition=0.0,
        char_run=0.0,
        compression=1.0,
        narrates=False,
        refuses=False,
        empty=False,
        truncated=False,
        trait_nats=trait,
    )


def judged(
    index: int = 0,
    *reasons: str,
    prompt: str | None = None,
    text: str | None = None,
    trait: float | None = 0.0,
    kappa: float = 1.0,
) -> Judged:
    """A completion of two tokens and an end, kept where no reason is given."""
    prompt = f"prompt {index}" if prompt is None else prompt
    text = f"answer number {index} of its own {index}" if text is None else text
    completion = Completion(prompt, text, (1, 2), 2, kappa, 0, index)
    return Judged(completion, scores(trait), reasons)
