"""Time of a round, stage by stage: operations and bytes over what the machine does of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steer_heal_love.budget.machines import Machine, Rates
from steer_heal_love.budget.memory import Sizes
from steer_heal_love.budget.rows import SHOWN
from steer_heal_love.budget.texts import Texts
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.healing.config import ANCHORS
from steer_heal_love.stages.instruments.entropy import PARAGRAPHS, SAMPLES, TOKENS

# Assumed of every machine, not measured: see docs/scale.md.
PRODUCT_REACH = 0.35  # of the peak of its products that a whole pass comes to
BYTES_REACH = 0.6  # of its bandwidth that decoding comes to
LAYER_S = 4e-4  # of the program itself, Python and launches, for a layer in a pass
KEPT_SHARE = 0.3  # of the completions that the filter keeps, as in the demo

JUDGED = 3  # passes over a text that is judged: plain, and under either persona
ASKED = 0.45  # share of the texts that relevance is asked of: those that nothing else drops
CONDITIONS = 2  # that a round evaluates: steered and healed
BASES = 3  # that are measured before the first round: the base, and under either persona
LIMITS = 64  # samples of the base that set the filter's limits
HEADS = 4  # products with the head for a trained position: student, reference, two gradients


@dataclass(frozen=True)
class Clock:
    """Seconds of the kinds of passes on one machine."""

    sizes: Sizes
    rates: Rates
    weight_bytes: int  # that a decoding step reads

    def reading(
        self, tokens: float, context: float, *, logits: float = 0, passes: int = 1
    ) -> float:
        """A forward pass over so many tokens, `logits` of them to the vocabulary."""
        operations = self._layers(tokens, context) + 2 * logits * self.sizes.shape.head
        return operations / self._products + passes * self._program

    def decoding(self, rows: float, steps: float, context: float) -> float:
        """So many steps of one token for each row: the slower of products and bytes."""
        shape = self.sizes.shape
        operations = self._layers(rows, context) + 2 * rows * shape.head
        held = self.weight_bytes + shape.cache_bytes(math.ceil(rows), math.ceil(context))
        slower = max(operations / self._products, held / (self.rates.bytes * BYTES_REACH))
        return steps * (slower + self._program)

    def training(self, tokens: float, targets: float, context: float, steps: int) -> float:
        """Forward and backward: the gradient stops at the lowest adapted layer."""
        share = 1 - self.sizes.adapted_from / self.sizes.shape.layers
        operations = 2 * share * self._layers(tokens, context)
        operations += 6 * tokens * self.sizes.adapter + HEADS * 2 * targets * self.sizes.shape.head
        return operations / self._products + 3 * steps * self._program

    @property
    def _products(self) -> float:
        return self.rates.flops * PRODUCT_REACH

    @property
    def _program(self) -> float:
        return self.sizes.shape.layers * LAYER_S

    def _layers(self, tokens: float, context: float) -> float:
        shape = self.sizes.shape
        attention = 4 * context * shape.heads * shape.head_dim * shape.layers
        return tokens * (2 * sum(shape.layer_linear) + attention)


def round_seconds(
    sizes: Sizes, config: RunConfig, texts: Texts, machine: Machine
) -> dict[str, float]:
    """Seconds of each stage of a round, and of the baseline before the first.

    An online heal samples its own texts: it has no stage `generate`.

    Every completion is taken to have its full length. With several devices each holds the model
    and takes its share of rows and texts. Not counted: the front and the rivals of round 0, and
    what is written. Empty where the machine's speed is not known.
    """
    if machine.rates is None:
        return {}
    weights = sizes.shape.weight_bytes(config.quantize)
    clock, n = Clock(sizes, machine.rates, weights), machine.count
    measured = _evaluation(clock, config, texts, n)
    base = BASES * measured + _generation(clock, config, texts, LIMITS / n)
    if config.heal.anchor > 0:
        base += _sampled(clock, config, texts, ANCHORS / n)
    learning = (
        {"heal": config.online.steps * _online_step(clock, config, texts, n)}
        if config.method == "online"
        else {
            "generate": _generation(clock, config, texts, generated(config) / n),
            "heal": _heal(clock, config, texts, n),
        }
    )
    return {
        "baseline": base,
        "steer": _steer(clock, texts, n),
        **learning,
        "evaluate": CONDITIONS * measured,
    }


def generated(config: RunConfig) -> int:
    """Completions that a round generates where the usual share is kept."""
    wanted = math.ceil(config.dose.n_survivors / KEPT_SHARE)
    return min(config.dose.max_generated, wanted)


def _steer(clock: Clock, texts: Texts, n: int) -> float:
    width = texts.contexts.shared + texts.contexts.mean
    return clock.reading(texts.contexts.count * width / n, width / 2, passes=5)


def _generation(clock: Clock, config: RunConfig, texts: Texts, count: float) -> float:
    """Sample so many completions and judge them."""
    new = config.generate.max_new_tokens
    total = texts.prompt + new
    sampled = _sampled(clock, config, texts, count)
    sampled += _judging(clock, count, texts.persona.mean + new, new, total / 2)
    if config.filter.relevance_quantile == 0:
        return sampled
    asked = ASKED * count * config.filter.relevance_others
    return sampled + clock.reading(
        asked * (texts.prompts.mean + new), total / 2, logits=asked * new
    )


def _sampled(clock: Clock, config: RunConfig, texts: Texts, count: float) -> float:
    new = config.generate.max_new_tokens
    rows = min(config.generate.rows, config.dose.batch, count)
    read = clock.reading(count * texts.prompts.mean, texts.prompt / 2)
    return read + clock.decoding(rows, math.ceil(count / rows) * new, texts.prompt + new / 2)


def _judging(clock: Clock, count: float, tokens: float, new: int, context: float) -> float:
    return JUDGED * clock.reading(count * tokens, context, logits=count * new)


def _heal(clock: Clock, config: RunConfig, texts: Texts, n: int) -> float:
    new, count = config.generate.max_new_tokens, config.dose.n_keep / n
    width = texts.prompt + new
    steps = math.ceil(count / config.heal.batch_size) * config.heal.epochs
    trained = config.heal.epochs * count
    total = clock.reading(count * width, width / 2)
    total += clock.training(trained * width, trained * new, width / 2, steps)
    if config.heal.anchor == 0:
        return total
    anchors = steps * config.heal.anchor_batch * new
    total += clock.reading(ANCHORS / n * new, new / 2)
    return total + clock.training(anchors, anchors, new / 2, steps)


def _online_step(clock: Clock, config: RunConfig, texts: Texts, n: int) -> float:
    """Sample the student's own texts, read them as the teacher does, and learn from it."""
    how = config.online
    new, count = how.max_new_tokens, how.batch_size / n
    width = texts.prompt + new
    ways = 1 + 2 * (how.a > 0) + (how.gamma > 0) * (2 if how.contrast_with == "opposite" else 1)
    total = clock.reading(count * texts.prompts.mean, texts.prompt / 2)
    total += clock.decoding(count, new, texts.prompt + new / 2)
    total += clock.reading(
        ways * count * (texts.persona.mean + new), width / 2, logits=ways * count * new, passes=ways
    )
    return total + clock.training(count * width, count * new, width / 2, 1)


def _evaluation(clock: Clock, config: RunConfig, texts: Texts, n: int) -> float:
    """One condition: its answers, long ones too, their scores, and the fixed texts."""
    how = config.evaluate
    new, rows = how.max_new_tokens, min(config.generate.rows, how.samples + SHOWN)
    total = clock.decoding(rows / n, new, texts.prompt + new / 2)
    total += _judging(clock, rows / n, texts.persona.mean + new, new, (texts.prompt + new) / 2)
    # Once more for relevance, and once under the model itself for its entropy.
    own = rows / n * (texts.prompts.mean + new)
    total += 2 * clock.reading(own, new / 2, logits=rows / n * new)
    fixed = (SAMPLES + PARAGRAPHS) * TOKENS
    total += clock.reading(fixed / n, TOKENS / 2, logits=2 * fixed)
    if how.long_samples:
        last = max(0, how.long_tokens - new)
        total += clock.decoding(how.long_samples / n, last, how.long_tokens / 2)
        total += clock.reading(how.long_samples / n * how.long_tokens, how.long_tokens / 2)
    asked = texts.vignettes.count * texts.vignettes.mean
    total += 2 * clock.reading(asked / n, texts.vignettes.shared + texts.vignettes.mean / 2)
    plain = texts.paragraphs.count * texts.paragraphs.mean
    return total + clock.reading(plain / n, texts.paragraphs.mean / 2, logits=plain / n)
