"""Log-probabilities of given tokens, and final hidden states, without generating."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.memory import run_in_parts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import run_in_shards
from steer_heal_love.lm.patches.contrast import current_contrast
from steer_heal_love.lm.patches.packed import head_logits, pack_weights
from steer_heal_love.lm.reading.chat import under_personas
from steer_heal_love.lm.reading.context import Prefix, read_prefix, shared_prefix
from steer_heal_love.lm.tokens import Ids, batches_by_length, pad_right

LOGIT_CHUNK = 2**24  # logits held at a time
BATCH_TOKENS, ROWS = 4096, 256  # of a batch at most
CACHED_TOKENS = 2**13  # whose keys and values are held at a time, where rows share a prefix


@torch.inference_mode()
def completion_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Float[Tensor, " completion"]]:
    """log p(token | prompt, tokens before it) of each completion token, nats, float32, CPU.

    The tokens that all prompts begin with are computed once.

    Raises:
        DivergedError: one is NaN.
    """
    rows = tempered_logprobs(lm, prompts, completions, (1.0,), batch_tokens=batch_tokens)
    return [row[0] for row in rows]


@torch.inference_mode()
def tempered_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    temperatures: Sequence[float],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Float[Tensor, "temperatures completion"]]:
    """The same with the logits divided by each of these temperatures, from one pass.

    Raises:
        DivergedError: one is NaN.
    """
    pairs = list(zip(prompts, completions, strict=True))
    lm.token_counter.add(sum(len(p) + len(c) for p, c in pairs))

    def read(rows: list[int]) -> list[Tensor]:
        chosen = [pairs[i] for i in rows]
        return _tempered_logprobs(
            lm, [p for p, _ in chosen], [c for _, c in chosen], temperatures, batch_tokens
        )

    return run_in_shards(lm, len(pairs), read)


def _tempered_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    temperatures: Sequence[float],
    batch_tokens: int,
) -> list[Tensor]:
    results: list[Tensor] = [torch.empty(len(temperatures), 0)] * len(prompts)
    for batch, hidden in hidden_states(lm, prompts, completions, batch_tokens=batch_tokens):
        targets = torch.tensor(
            [t for i in batch for t in completions[i]], dtype=torch.long, device=lm.device
        )
        values = token_logprobs(lm, hidden, targets, temperatures).cpu()
        if bool(values.isnan().any()):
            raise DivergedError(
                "scoring: a log-probability is NaN, so the model is broken: lower the dose or the "
                "learning rate, or use float32"
            )
        rows = values.split([len(completions[i]) for i in batch], dim=1)
        for i, row in zip(batch, rows, strict=True):
            results[i] = row
    return results


def token_logprobs(
    lm: LanguageModel,
    hidden: Float[Tensor, "tokens d"],
    targets: Int[Tensor, " tokens"],
    temperatures: Sequence[float] = (1.0,),
) -> Float[Tensor, "temperatures tokens"]:
    """log p of each target from the final normed hidden state before it, nats."""
    rows = max(1, LOGIT_CHUNK // lm.head.weight.shape[0])
    parts = []
    for h, y in zip(hidden.split(rows), targets.split(rows), strict=True):
        logits = head_logits(lm, h)
        for_each = (logits if t == 1 else logits / t for t in temperatures)
        parts.append(
            torch.stack([z.gather(1, y[:, None])[:, 0] - z.logsumexp(-1) for z in for_each])
        )
    empty = hidden.new_empty(len(temperatures), 0, dtype=torch.float32)
    return torch.cat(parts, 1) if parts else empty


@torch.inference_mode()
def final_states(
    lm: LanguageModel, prompts: Sequence[Ids], completions: Sequence[Ids]
) -> list[Float[Tensor, "completion d"]]:
    """Final normed hidden states at the positions that predict each completion's tokens, CPU."""

    def read(rows: list[int]) -> list[Tensor]:
        states: dict[int, Tensor] = {}
        own = [completions[i] for i in rows]
        for batch, hidden in hidden_states(lm, [prompts[i] for i in rows], own):
            parts = hidden.cpu().split([len(own[k]) for k in batch])
            states |= {k: part.clone() for k, part in zip(batch, parts, strict=True)}
        return [states[k] for k in range(len(rows))]

    lm.token_counter.add(sum(len(p) + len(c) for p, c in zip(prompts, completions, strict=True)))
    return run_in_shards(lm, len(prompts), read)


@torch.inference_mode()
def next_token_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    candidates: Sequence[int],
    *,
    batch_tokens: int = BATCH_TOKENS,
    share_prefix: bool = True,
) -> Float[Tensor, "prompts candidates"]:
    """Full-vocabulary log-probability of each candidate as the next token, nats, float32, CPU.

    The tokens that all prompts begin with are computed once, unless `share_prefix` is off.
    """

    def read(rows: list[int]) -> list[Tensor]:
        chosen = [prompts[i] for i in rows]
        return _next_token_logprobs(lm, chosen, candidates, batch_tokens, share_prefix)

    lm.token_counter.add(sum(map(len, prompts)))
    return torch.stack(run_in_shards(lm, len(prompts), read))


def _next_token_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    candidates: Sequence[int],
    batch_tokens: int,
    share_prefix: bool,
) -> list[Tensor]:
    rows: list[Tensor] = [torch.empty(0)] * len(prompts)
    picked = torch.tensor(list(candidates), device=lm.device)
    one = [[0]] * len(prompts)  # any token: only the position that predicts it is read
    for batch, hidden in hidden_states(
        lm, prompts, one, batch_tokens=batch_tokens, share_prefix=share_prefix
    ):
        size = max(1, LOGIT_CHUNK // lm.head.weight.shape[0])
        parts = []
        for h in hidden.split(size):
            logits = head_logits(lm, h)
            parts.append(logits[:, picked] - logits.logsumexp(-1, keepdim=True))
        for i, row in zip(batch, torch.cat(parts).cpu(), strict=True):
            rows[i] = row
    return rows


@torch.inference_mode()
def hidden_states(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    *,
    batch_tokens: int = BATCH_TOKENS,
    share_prefix: bool = True,
) -> Iterator[tuple[list[int], Float[Tensor, "tokens d"]]]:
    """Final normed hidden states at the positions that predict the completion tokens.

    A batch that does not fit in memory is halved. Under a contrast the states are three side by
    side: of the prompts as they are, and under both personas.

    Yields:
        (indices of the batch, their states one after the other, in the model's dtype).
    """
    contrast = current_contrast(lm)
    if contrast is None or not prompts:
        yield from _hidden_states(lm, prompts, completions, batch_tokens, share_prefix)
        return
    rows = [[p, *under_personas(lm, p, contrast.systems)] for p in prompts]
    lengths = [max(map(len, row)) + len(c) for row, c in zip(rows, completions, strict=True)]
    lm.token_counter.add(sum(sum(map(len, row[1:])) for row in rows))
    lm.token_counter.add(2 * sum(map(len, completions)))
    for batch in batches_by_length(lengths, batch_tokens, ROWS):
        own = [completions[i] for i in batch]
        ways = [[rows[i][way] for i in batch] for way in range(3)]
        states = [
            _in_order(_hidden_states(lm, w, own, batch_tokens, share_prefix), own) for w in ways
        ]
        yield batch, torch.cat(states, -1)


def _in_order(parts: Iterable[tuple[list[int], Tensor]], completions: Sequence[Ids]) -> Tensor:
    """The states of all completions one after the other, in the order in which they are given."""
    states: dict[int, Tensor] = {}
    for batch, hidden in parts:
        spans = hidden.split([len(completions[k]) for k in batch])
        states |= dict(zip(batch, spans, strict=True))
    return torch.cat([states[k] for k in range(len(completions))])


def _hidden_states(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    batch_tokens: int,
    share_prefix: bool,
) -> Iterator[tuple[list[int], Tensor]]:
    """Those of the model under one prompt each."""
    if not prompts:
        return
    rows = [list(p) + list(c)[:-1] for p, c in zip(prompts, completions, strict=True)]
    prefix = read_prefix(lm, prompts[0][: shared_prefix(prompts)]) if share_prefix else Prefix()
    shared = prefix.length
    lengths = [len(row) - shared for row in rows]

    def read(batch: list[int]) -> Tensor:
        padded = pad_right([rows[i][shared:] for i in batch], lm.pad_id, lm.device)
        # Padding is on the right, where causal attention never looks from a real token: no mask.
        with pack_weights(lm):
            hidden = lm.decoder(
                input_ids=padded.ids,
                past_key_values=prefix.begin(lm, len(batch)).cache if shared else None,
                use_cache=shared > 0,
            ).last_hidden_state
        spans = [
            hidden[k, len(prompts[i]) - 1 - shared :][: len(completions[i])]
            for k, i in enumerate(batch)
        ]
        return torch.cat(spans)

    # Each row of a batch has its own copy of the prefix's keys and values.
    most = max(1, min(ROWS, CACHED_TOKENS // max(map(len, rows)))) if shared else ROWS
    for batch in batches_by_length(lengths, batch_tokens, most):
        yield from run_in_parts(batch, read, "scoring")
