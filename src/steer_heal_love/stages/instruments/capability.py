"""Capabilities kept: how well the model as it is now predicts ordinary text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from steer_heal_love.errors import DataError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import beginning_of_text, encode_text
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.maths.statistics import exponential, ratio_interval
from steer_heal_love.records import Measurement

RESAMPLES = 2000


def ordinary_paragraphs() -> list[str]:
    """The paragraphs of ordinary text that come with the package: prose, letters, news, code.

    Raises:
        DataError: the bundled file is missing or has fewer than two paragraphs.
    """
    file = resources.files("steer_heal_love") / "data" / "ordinary_text.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"bundled ordinary_text.txt cannot be read: {error}: reinstall") from None
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) < 2:
        raise DataError("bundled ordinary_text.txt holds fewer than two paragraphs: reinstall")
    return paragraphs


def measure_capability(lm: LanguageModel, paragraphs: Sequence[str]) -> Measurement:
    """Perplexity of plain text, no chat template, under the model as it is patched now.

    Figure `capability_perplexity`: `exp(Σ nll / Σ tokens)` over all paragraphs, its 95 % interval
    by resampling paragraphs. Items `capability_nats`: nll per token of each paragraph. The first
    token has the beginning-of-text token as its prompt where the tokenizer sets one, else it is
    the prompt of the second. Paragraphs longer than the model's context are cut.

    Raises:
        ValueError: a paragraph has no token to predict.
    """
    rows = paragraph_ids(lm, paragraphs)
    if not rows or min(map(len, rows)) < 2:
        raise ValueError("each paragraph needs a token to predict, and one before it")
    logprobs = completion_logprobs(lm, [row[:1] for row in rows], [row[1:] for row in rows])
    nll = [-float(values.sum()) for values in logprobs]
    tokens = [len(values) for values in logprobs]
    mean = ratio_interval(nll, tokens, resamples=RESAMPLES)
    figure = exponential(mean)
    per_token = tuple(a / b for a, b in zip(nll, tokens, strict=True))
    return Measurement({"capability_perplexity": figure}, {"capability_nats": per_token})


def paragraph_ids(lm: LanguageModel, paragraphs: Sequence[str]) -> list[list[int]]:
    """Token ids of plain text, the beginning of text first where the tokenizer sets one, cut to
    the model's context."""
    begin = beginning_of_text(lm)
    return [[*begin, *encode_text(lm, p)][: lm.max_positions] for p in paragraphs]
