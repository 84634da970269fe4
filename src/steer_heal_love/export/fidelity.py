"""How far an exported model is from the student: KL on texts that the student wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.score import hidden_states
from steer_heal_love.maths.divergence import divergence_per_position
from steer_heal_love.runs.read import RunView

MAX_TEXTS = 20
MAX_TOKENS = 48  # of a text
MAX_LOGITS = 2**26  # held of the student, over all texts: 256 MiB


@dataclass(frozen=True)
class Probe:
    """A prompt and an answer to it, as token ids."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


@dataclass(frozen=True)
class Fidelity:
    """KL(student ‖ export) per token over the full vocabulary, in nats."""

    mean_kl_nats: float
    worst_kl_nats: float  # of one token
    tokens: int
    texts: int


def probe_texts(lm: LanguageModel, view: RunView, round_index: int) -> list[Probe]:
    """The student's own sampled answers of a round's evaluation, as far as they fit in memory."""
    answers = [
        a
        for a in view.answers(round_index)
        if a.condition == "healed" and a.mode == "sampled" and a.text
    ]
    probes, tokens_left = [], MAX_LOGITS // lm.head.weight.shape[0]
    for answer in answers[:MAX_TEXTS]:
        ids = encode_text(lm, answer.text)[:MAX_TOKENS]
        if ids and len(ids) <= tokens_left:
            probes.append(Probe(tuple(encode_chat(lm, answer.prompt)), tuple(ids)))
            tokens_left -= len(ids)
    return probes


def read_logits(lm: LanguageModel, probes: Sequence[Probe]) -> list[Tensor]:
    """Logits [tokens, V] at the positions that predict each probe's completion, on the CPU."""
    rows: list[Tensor] = [torch.empty(0)] * len(probes)
    prompts, completions = [p.prompt for p in probes], [p.completion for p in probes]
    for batch, hidden in hidden_states(lm, prompts, completions, share_prefix=False):
        lengths = [len(completions[i]) for i in batch]
        for i, states in zip(batch, hidden.split(lengths), strict=True):
            rows[i] = lm.head.logits(states).cpu()
    return rows


def measure_fidelity(
    lm: LanguageModel, probes: Sequence[Probe], student: Sequence[Tensor]
) -> Fidelity | None:
    """The divergence of the model as it is now from the logits of the student; None: no probes."""
    if not probes:
        return None
    parts = [
        divergence_per_position(theirs, ours, "reverse")
        for theirs, ours in zip(student, read_logits(lm, probes), strict=True)
    ]
    kl = torch.cat(parts).clamp_min(0.0)  # rounding may leave −1e-9
    return Fidelity(float(kl.mean()), float(kl.max()), len(kl), len(probes))
