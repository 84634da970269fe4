"""Whether all that is read and sampled fits the model's context, told before anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from steer_heal_love.inputs.prompts import spread, training_prompts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import chat_ids, encode_chat, encode_text, refuse_too_long
from steer_heal_love.records import Axis, Context
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.instruments.forced_choice import ORDERS, build_question, find_slot
from steer_heal_love.stages.instruments.foundations import Foundations

LEAST = 8  # new tokens that settings may ask for

Length = tuple[str, int, str]  # what, its tokens with its answer, and what to do


def check_positions(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    *,
    direction: bool = True,
    battery: bool = True,
) -> None:
    """Refuse settings with which a prompt and its answer would run out of the model's positions.

    Args:
        contexts: of which prompts are made, and which a direction is read over.
        direction: whether one is read.
        battery: whether all instruments measure.

    Raises:
        ModelError: one line, with the setting to lower; or the model lacks a token.
    """
    lengths = [*_answers(lm, axis, contexts, config)]
    if direction:
        chosen = [c.text for c in spread(contexts, config.steer.contexts)]
        longest = _longest(lm, chosen, [axis.pos_system, axis.neg_system])
        lengths.append(("a context of the direction", longest, "lower --steer.contexts"))
    if battery:
        lengths += _battery(lm, axis, config)
    for what, tokens, remedy in lengths:
        refuse_too_long(lm, tokens, what, remedy)


def _longest(lm: LanguageModel, texts: Sequence[str], systems: Sequence[str | None]) -> int:
    return max((len(chat_ids(lm, t, s)) for t in texts for s in systems), default=0)


def _answers(
    lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: RunConfig
) -> Iterator[Length]:
    """What is sampled; it is scored under both personas."""
    for texts, what, setting, new in (
        (
            training_prompts(axis, contexts, config.dose.min_prompts),
            *("a prompt", "generate", config.generate.max_new_tokens),
        ),
        (axis.probes, "a probe", "evaluate", config.evaluate.max_new_tokens),
    ):
        pairs = [(t, s) for t in texts for s in (None, axis.pos_system, axis.neg_system)]
        prompt = max(len(chat_ids(lm, *pair)) for pair in pairs)
        if prompt >= lm.max_positions:  # no limit helps: say which
            encode_chat(lm, *max(pairs, key=lambda pair: len(chat_ids(lm, *pair))))
        limit = max(LEAST, lm.max_positions - prompt)
        yield what, prompt + new, f"lower --{setting}.max-new-tokens to {limit}"


def _battery(lm: LanguageModel, axis: Axis, config: RunConfig) -> Iterator[Length]:
    personas, asked = (None, axis.pos_system, axis.neg_system), config.evaluate
    if asked.long_samples:
        alone = _longest(lm, axis.probes, [None])
        limit = max(LEAST, lm.max_positions - alone)
        remedy = f"lower --evaluate.long-tokens to {limit}, or set --evaluate.long-samples 0"
        yield "a probe", alone + asked.long_tokens, remedy
    for pair in axis.pairs:
        answer = max(len(encode_text(lm, text)) for text in (pair.trait, pair.other))
        question = _longest(lm, [pair.question], personas)
        yield f"pair {pair.question[:40]!r}", question + answer, "shorten the pair"
    if asked.mfv == "own":
        think = asked.mfv_think_tokens
        slot = find_slot(lm)
        questions = [
            build_question(v.text, ORDERS[0], slot.style, think=think > 0)
            for v in Foundations(asked).vignettes
        ]
        tokens = _longest(lm, questions, personas) + think + len(slot.ids)
        yield "a vignette", tokens, "set --evaluate.mfv off"
