"""How long the texts are that a run reads, in tokens: by the model's tokenizer, or as usual."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from steer_heal_love.inputs.prompts import spread, training_prompts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.context import shared_prefix
from steer_heal_love.lm.tokens import Ids
from steer_heal_love.records import Axis, Context
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.instruments.capability import ordinary_paragraphs
from steer_heal_love.stages.instruments.forced_choice import (
    ORDERS,
    ForcedChoiceConfig,
    build_prompts,
    find_slot,
)
from steer_heal_love.stages.instruments.foundations import Foundations


@dataclass(frozen=True)
class PromptStats:
    """Texts of one kind: what they begin with alike is read once, and what is left of each."""

    count: int
    shared: int  # tokens that all of them begin with, and that are worth reading once
    longest: int  # further tokens of the longest
    mean: float  # further tokens, on average

    @classmethod
    def of(cls, rows: Sequence[Ids], *, share: bool = True) -> PromptStats:
        """Measure token ids; without `share` each text is read whole."""
        shared = shared_prefix(rows) if share else 0
        own = [len(row) - shared for row in rows]
        return cls(len(rows), shared, max(own), sum(own) / len(own))


@dataclass(frozen=True)
class Texts:
    """Everything that is read of the axis and of the instruments in a round."""

    prompts: PromptStats  # the questions, as chats
    persona: PromptStats  # the same under a persona as system prompt
    contexts: PromptStats  # that the direction is read over, with each persona
    vignettes: PromptStats  # in one order of the options; of count 0 where they are not asked
    paragraphs: PromptStats  # of ordinary text

    def shared_by(self, shards: int) -> Texts:
        """Of each lot what one of so many processes reads."""
        lots = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {k: replace(lot, count=math.ceil(lot.count / shards)) for k, lot in lots.items()}
        return Texts(**parts)

    @property
    def prompt(self) -> int:
        """Tokens of the longest chat prompt."""
        return self.prompts.shared + self.prompts.longest


# Of the axis `love` and the default settings under SmolLM2's tokenizer and chat template.
USUAL = Texts(
    prompts=PromptStats(192, 24, 58, 27.7),
    persona=PromptStats(192, 22, 58, 27.7),
    contexts=PromptStats(300, 0, 81, 52.7),
    vignettes=PromptStats(77, 137, 29, 25.1),
    paragraphs=PromptStats(12, 0, 295, 250.1),
)


def measure_texts(
    lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: RunConfig
) -> Texts:
    """The lengths under this model's tokenizer.

    Raises:
        ModelError: its chat template refuses a plain message.
        DataError: the vignettes cannot be read or fetched.
    """
    prompts = training_prompts(axis, contexts, config.dose.min_prompts)
    chosen = [c.text for c in spread(contexts, config.steer.contexts)]
    personas = (axis.pos_system, axis.neg_system)
    return Texts(
        prompts=PromptStats.of([encode_chat(lm, p) for p in prompts]),
        persona=PromptStats.of([encode_chat(lm, p, axis.pos_system) for p in prompts]),
        contexts=PromptStats.of(
            [encode_chat(lm, c, s) for s in personas for c in chosen], share=False
        ),
        vignettes=_vignettes(lm, config),
        paragraphs=PromptStats.of([encode_text(lm, p) for p in ordinary_paragraphs()], share=False),
    )


def _vignettes(lm: LanguageModel, config: RunConfig) -> PromptStats:
    asked = Foundations(config.evaluate).vignettes
    if not asked:
        return PromptStats(0, 0, 0, 0.0)
    slot = find_slot(lm)
    return PromptStats.of(build_prompts(lm, asked, slot, ORDERS[0], ForcedChoiceConfig()))
