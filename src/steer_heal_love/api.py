"""The method's parts for use from Python, on prompts and texts of one's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch

from steer_heal_love.budget.rows import rows_for
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import Steering
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.records import Axis, Completion, Context, Direction, Healed, Judged, Limits
from steer_heal_love.run_config import GenerateConfig
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages import heal as healing
from steer_heal_love.stages import steer
from steer_heal_love.stages.filter import FilterConfig
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.healing.config import ANCHORS
from steer_heal_love.stages.healing.texts import as_anchors
from steer_heal_love.stages.steer import SteerConfig

Text = Completion | tuple[str, str]  # an answer of the model, or a prompt and an answer to it

LIMITS_SEED, ANCHORS_SEED = 2**31, 2**31 + 1  # none that a user would sample texts with


def extract_direction(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context] | None = None,
    config: SteerConfig | None = None,
) -> Direction:
    """The direction from the negative to the positive persona, one vector per layer of the band.

    Read from the model as it is patched now: inside `student` it is the student's.

    Args:
        contexts: user messages to read it in; the bundled ones unless given.
        config: band of layers and number of contexts; the defaults of a run unless given.

    Raises:
        DivergedError: a hidden state is not finite, or the personas do not differ.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm = shl.load_model("smollm2")
        >>> direction = shl.extract_direction(lm, shl.load_axis("love"))
        >>> len(direction.layers) == len(direction.vectors)
        True
    """
    return steer.extract_direction(lm, axis, contexts or load_contexts(), config or SteerConfig())


def answer(
    lm: LanguageModel,
    prompts: Sequence[str],
    config: GenerateConfig | None = None,
    *,
    system: str | None = None,
    seed: int = 0,
) -> list[Completion]:
    """Sampled answers of the model as it is patched now, one per prompt and in their order.

    An answer depends on the seed and its place in the list, not on the batch that it falls into.

    Args:
        config: length limit, temperature and the like; the defaults of a run unless given.
        system: a system prompt for all of them.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm = shl.load_model("smollm2")
        >>> [greeting] = shl.answer(lm, ["Good morning!"], seed=1)
        >>> greeting.prompt, len(greeting.token_ids) <= 96
        ('Good morning!', True)
    """
    c = config or GenerateConfig()
    longest = max((len(encode_chat(lm, p, system)) for p in prompts), default=1)
    return sample_answers(
        lm,
        prompts,
        Sampling(c.max_new_tokens, c.temperature, c.top_k, c.top_p),
        seed=seed,
        system=system,
        kappa=_dose(lm),
        batch_size=c.batch_size or rows_for(lm, longest, c.max_new_tokens, c.top_k),
    )


def _dose(lm: LanguageModel) -> float:
    """Sum of the doses of all steering that is on; of a dose per row or token its mean."""
    on = [p for p in lm.patches if isinstance(p, Steering) and p.enabled]
    return math.fsum(float(torch.as_tensor(p.kappa, dtype=torch.float32).mean()) for p in on)


def measure_limits(
    lm: LanguageModel,
    axis: Axis,
    prompts: Sequence[str] | None = None,
    config: FilterConfig | None = None,
) -> Limits:
    """What the filter goes by, from 64 samples of the untouched model on these prompts.

    Args:
        prompts: the axis's probes unless given; the texts to be filtered should answer such.
        config: quantiles and factors; the defaults of a run unless given.

    Examples:
        >>> import steer_heal_love as shl
        >>> limits = shl.measure_limits(shl.load_model("smollm2"), shl.load_axis("love"))
        >>> limits.fit.perplexity <= limits.sound.perplexity
        True
    """
    config, asked = config or FilterConfig(), prompts or axis.probes
    prompts = [asked[i % len(asked)] for i in range(filtering.LIMIT_SAMPLES)]
    with base(lm):
        samples = answer(lm, prompts, seed=LIMITS_SEED)
    return filtering.limits_of(lm, axis, samples, config)


def filter_texts(
    lm: LanguageModel,
    axis: Axis,
    texts: Sequence[Text],
    limits: Limits,
    config: FilterConfig | None = None,
) -> list[Judged]:
    """Every text with its scores under the untouched model, and the reasons to drop it if any.

    Args:
        texts: what `answer` gave, or (prompt, answer) pairs from anywhere.
        limits: see `measure_limits`.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm, axis = shl.load_model("smollm2"), shl.load_axis("love")
        >>> loop = ("How are you?", "love love love love love love love love love love love")
        >>> [judged] = shl.filter_texts(lm, axis, [loop], shl.measure_limits(lm, axis))
        >>> judged.kept, "loop" in judged.reasons
        (False, True)
    """
    completions = [_completion(lm, text, i) for i, text in enumerate(texts)]
    return filtering.judge_all(lm, axis, completions, limits, config or FilterConfig())


def heal(
    lm: LanguageModel,
    texts: Sequence[Text],
    config: HealConfig | None = None,
    *,
    contexts: Sequence[Context] | None = None,
    seed: int = 0,
) -> Healed:
    """Distil texts into a fresh LoRA adapter, as a round of a run does: behind the barrier, and
    held to the base model on its own answers to ordinary messages (anchors). The model itself stays
    as it is.

    Call it without steering on. Inside `student` the earlier adapters are part of the model that
    it trains on. Put the result to use with `student(lm, [healed.adapter])`.

    Args:
        texts: what `answer` gave, or (prompt, answer) pairs; the end token is learnt where the
            model chose it, and after every pair.
        config: rank, learning rate, barrier, weight of the anchors (`anchor`; at 0 none are
            sampled); the defaults of a run unless given.
        contexts: the ordinary messages, of which 64 are asked; the bundled ones unless given.

    Raises:
        DivergedError: a loss or gradient went bad.
        ValueError: there is no text, or an empty one.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm = shl.load_model("smollm2")
        >>> texts = [("How are you?", "Glad that you ask!"), ("Good night.", "Sleep well, friend.")]
        >>> healed = shl.heal(lm, texts)
        >>> with shl.student(lm, [healed.adapter]):
        ...     answers = shl.answer(lm, ["How was your day?"])
        >>> healed.adapter.config["r"]
        16
    """
    examples = []
    for i, text in enumerate(texts):
        c = _completion(lm, text, i)
        if not c.token_ids:
            raise ValueError(f"text {i} is empty: there is nothing to learn from it")
        examples.append(Example.of(lm, c))
    config = config or HealConfig()
    anchors = _anchors(lm, contexts) if examples and config.anchor > 0 else []
    with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated")
        return healing.heal(lm, examples, config, seed=seed, anchors=anchors)


def _anchors(lm: LanguageModel, contexts: Sequence[Context] | None) -> list[Example]:
    messages = [c.text for c in spread(contexts or load_contexts(), ANCHORS)]
    with base(lm):
        return as_anchors(lm, answer(lm, messages, seed=ANCHORS_SEED))


def _completion(lm: LanguageModel, text: Text, index: int) -> Completion:
    """The text as a completion; a (prompt, answer) pair is whole, so it ended by itself."""
    if isinstance(text, Completion):
        return text
    prompt, words = text
    end = lm.tokenizer.eos_token_id
    return Completion(prompt, words, tuple(encode_text(lm, words)), end, 0.0, 0, index)
