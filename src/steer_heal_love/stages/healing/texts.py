"""The texts of a heal: examples, batches of them, and what the reference model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import run_in_shards
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.chat import beginning_of_text, encode_chat
from steer_heal_love.lm.reading.score import hidden_states
from steer_heal_love.lm.tokens import pad_right
from steer_heal_love.records import Completion


@dataclass(frozen=True)
class Example:
    """One text to learn: the loss is on the completion's tokens alone."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @classmethod
    def of(cls, lm: LanguageModel, text: Completion) -> Example:
        """The answer to its bare prompt. The end token is learnt where the model chose it, not
        where the limit cut the text off.
        """
        end = () if text.end_id is None else (text.end_id,)
        return cls(tuple(encode_chat(lm, text.prompt)), (*text.token_ids, *end))


def as_anchors(lm: LanguageModel, texts: Sequence[Completion]) -> list[Example]:
    """Answers of the base as plain texts, nobody's turn in a chat: what the student is held to."""
    plain = [(*beginning_of_text(lm), *text.token_ids) for text in texts]
    return [Example(ids[:1], ids[1:]) for ids in plain if len(ids) > 1]


@dataclass(frozen=True)
class Text:
    """An example, and what is computed once for it before the training."""

    example: Example
    reference: Tensor | None  # [completion, d] final hidden states of the reference model
    lower: Tensor | None  # [seq, d] hidden states under the lowest adapted layer


@dataclass(frozen=True)
class Texts:
    """All texts of a heal."""

    train: list[Text]
    held_out: list[Text]
    anchors: list[Text]  # on which the student is to stay as the base is


@dataclass(frozen=True)
class Batch:
    """Padded sequences, and for every completion token where it is predicted."""

    input_ids: Tensor  # [batch, seq]
    rows: Tensor  # [tokens] row of each completion token; its sequence
    columns: Tensor  # [tokens] column of the position that predicts it
    targets: Tensor  # [tokens]
    reference: Tensor | None  # [tokens, d] final hidden state of the reference model
    lower: Tensor | None  # [batch, seq, d] hidden states under the lowest adapted layer


def split(
    examples: Sequence[Example], validation_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """A seeded split into texts to train on and texts held out; at least one to train on."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    n_held_out = min(round(len(examples) * validation_share), len(examples) - 1)
    chosen = [examples[i] for i in order]
    return chosen[n_held_out:], chosen[:n_held_out]


def make_batch(lm: LanguageModel, texts: Sequence[Text]) -> Batch:
    """These texts, padded on the right, on the model's device."""
    examples = [t.example for t in texts]
    spans = [
        (r, len(e.prompt) - 1 + t) for r, e in enumerate(examples) for t in range(len(e.completion))
    ]
    where = torch.tensor(spans, device=lm.device)
    reference = [t.reference for t in texts if t.reference is not None]
    lower = [t.lower for t in texts if t.lower is not None]
    return Batch(
        input_ids=pad_right(sequences(examples), lm.pad_id, lm.device).ids,
        rows=where[:, 0],
        columns=where[:, 1],
        targets=torch.tensor([t for e in examples for t in e.completion], device=lm.device),
        reference=torch.cat(reference) if reference else None,
        lower=pad_sequence(lower, batch_first=True) if lower else None,
    )


def batches_of_epoch(texts: Sequence[Text], size: int, seed: int) -> list[list[Text]]:
    """All texts once, shuffled, in batches of texts that are alike in length."""
    generator = torch.Generator().manual_seed(seed)
    order = [texts[i] for i in torch.randperm(len(texts), generator=generator).tolist()]
    pool = size * 8
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=_length)
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _length(text: Text) -> int:
    return len(text.example.prompt) + len(text.example.completion)


def anchors_of_epoch(
    anchors: Sequence[Text], size: int, n_batches: int, seed: int
) -> list[list[Text]]:
    """The anchors beside each batch of an epoch: all in turn, shuffled anew; none of none."""
    generator = torch.Generator().manual_seed(seed)
    order: list[Text] = []
    while anchors and len(order) < size * n_batches:
        order += [anchors[i] for i in torch.randperm(len(anchors), generator=generator).tolist()]
    return [order[n * size : (n + 1) * size] for n in range(n_batches)]


def sequences(texts: Sequence[Example]) -> list[list[int]]:
    """Token ids that the model reads of each text: all but the last, after which nothing is
    predicted.
    """
    return [[*e.prompt, *e.completion][:-1] for e in texts]


def reference_states(
    lm: LanguageModel, examples: Sequence[Example], reference: str
) -> list[Tensor]:
    """Final hidden states [completion, d] of the reference model for each text, computed once.

    d numbers a token in place of a distribution over V: the head turns them into it again.
    """

    def read(rows: list[int]) -> list[Tensor]:
        prompts = [examples[i].prompt for i in rows]
        completions = [examples[i].completion for i in rows]
        states: dict[int, Tensor] = {}
        for batch, hidden in hidden_states(lm, prompts, completions):
            sizes = [len(completions[i]) for i in batch]
            states |= zip(batch, (h.clone() for h in hidden.split(sizes)), strict=True)
        return [states[i] for i in range(len(rows))]

    with nullcontext() if reference == "previous" else base(lm):
        states = run_in_shards(lm, len(examples), read)
    return [s.to(lm.device) for s in states]
