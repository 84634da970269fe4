"""How far an exported model is from the student: KL on texts that the student wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.export.student import Student
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student as put_on
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.score import hidden_states
from steer_heal_love.maths.divergence import divergence_per_position

MAX_TEXTS = 20
MAX_TOKENS = 48  # of a text
MAX_LOGITS = 2**26  # held of the student, over all texts: 256 MiB


@dataclass(frozen=True)
class Probe:
    """A prompt and an answer to it, as token ids."""

    asked: str
    prompt: tuple[int, ...]  # `asked` as the base model's chat template renders it
    completion: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """What the exact student says: the base in float32 with the run's own adapters on."""

    probes: tuple[Probe, ...]
    logits: tuple[Tensor, ...]  # of each probe [tokens, V], float32, on the CPU
    own: bool  # the texts are the student's answers; else they are the axis's questions


@dataclass(frozen=True)
class Fidelity:
    """KL(student ‖ export) per token over the full vocabulary, in nats."""

    mean_kl_nats: float
    worst_kl_nats: float  # of one token
    tokens: int
    texts: int
    computed_in: str  # the dtype in which the export was computed
    read_by: str  # the library that read it back from its files
    own_answers: bool


def ask_student(lm: LanguageModel, student: Student) -> Reference:
    """The logits of the exact student on its own answers; `lm` is its base in float32.

    Raises:
        ModelError: it computes NaN or infinity.
    """
    texts = [
        (a.prompt, a.text)
        for a in student.view.answers(student.round)
        if a.condition == "healed" and a.mode == "sampled" and a.text
    ]
    own = _probes(lm, texts)
    probes = own or _probes(lm, [(question, question) for question in student.view.axis.probes])
    with put_on(lm, student.adapters):
        logits = _read_logits(lm, probes)
    refuse_infinite(logits, "the student, in float32,")
    return Reference(tuple(probes), tuple(logits), bool(own))


def _probes(lm: LanguageModel, texts: Sequence[tuple[str, str]]) -> list[Probe]:
    """As many of the texts as fit in memory with their logits."""
    probes, tokens_left = [], MAX_LOGITS // lm.head.weight.shape[0]
    for asked, answered in texts[:MAX_TEXTS]:
        ids = encode_text(lm, answered)[:MAX_TOKENS]
        if ids and len(ids) <= tokens_left:
            probes.append(Probe(asked, tuple(encode_chat(lm, asked)), tuple(ids)))
            tokens_left -= len(ids)
    return probes


def _read_logits(lm: LanguageModel, probes: Sequence[Probe]) -> list[Tensor]:
    """Logits at the positions that predict each probe's completion."""
    rows: list[Tensor] = [torch.empty(0)] * len(probes)
    prompts, completions = [p.prompt for p in probes], [p.completion for p in probes]
    for batch, hidden in hidden_states(lm, prompts, completions, share_prefix=False):
        lengths = [len(completions[i]) for i in batch]
        for i, states in zip(batch, hidden.split(lengths), strict=True):
            rows[i] = lm.head.logits(states).cpu()
    return rows


@torch.inference_mode()
def served_logits(model: Any, device: torch.device, probes: Sequence[Probe]) -> list[Tensor]:
    """The same of a transformers or PEFT model, by its own forward pass, one text after another."""
    rows = []
    for probe in probes:
        ids = torch.tensor([[*probe.prompt, *probe.completion]], device=device)
        logits = model(input_ids=ids).logits[0, len(probe.prompt) - 1 : -1]
        rows.append(logits.float().cpu())
    return rows


def refuse_infinite(logits: Sequence[Tensor], who: str, remedy: str = "") -> None:
    """Raises ModelError where a logit is NaN or infinite."""
    if not all(bool(row.isfinite().all()) for row in logits):
        raise ModelError(f"{who} computes NaN or infinity{remedy}")


def measure_fidelity(
    reference: Reference, logits: Sequence[Tensor], computed_in: str, read_by: str
) -> Fidelity:
    """The divergence of an export's logits from the student's."""
    kl = _kl_nats(reference.logits, logits)
    return Fidelity(
        float(kl.mean()),
        float(kl.max()),
        len(kl),
        len(reference.probes),
        computed_in,
        read_by,
        reference.own,
    )


def mean_kl_nats(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """KL(one ‖ other) per token, the mean over all tokens of all texts."""
    return float(_kl_nats(ones, others).mean())


def _kl_nats(ones: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    parts = [
        divergence_per_position(one, other, "reverse")
        for one, other in zip(ones, others, strict=True)
    ]
    return torch.cat(parts).clamp_min(0.0)  # rounding may leave −1e-9
