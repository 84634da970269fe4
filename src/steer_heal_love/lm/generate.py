"""One batched sampler for everything in the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.cache import GrowingCache
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.lm.memory import half, is_out_of_memory
from steer_heal_love.lm.tokens import Ids, common_prefix, pad_left

MIN_SHARED_PREFIX = 8  # tokens; a shorter prefix is not worth a forward pass of its own


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens: the `top_k` likeliest, of those the top-p nucleus. T = 0 is greedy."""

    max_new_tokens: int = 96
    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95


@dataclass(frozen=True)
class Generated:
    """Token ids after the prompt, and the end token apart (None where the limit cut it off)."""

    token_ids: tuple[int, ...]
    end_id: int | None


def noise(seed: int, index: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The uniforms of row `index`: a function of (seed, index) alone, whatever else is drawn."""
    return np.random.Generator(
        np.random.Philox(key=np.array([seed % 2**64, index], np.uint64))
    ).random(length)


def pick_tokens(
    logits: Float[Tensor, "batch vocab"],
    uniforms: Float[Tensor, " batch"],
    how: Sampling,
    temperatures: Float[Tensor, " batch"] | None = None,
) -> Int[Tensor, " batch"]:
    """Draw a token per row by inverting the cumulative distribution at that row's uniform.

    Top-k first, so that nothing sorts the whole vocabulary; the nucleus is taken inside it.

    Args:
        temperatures: one per row, in place of `how.temperature`; 0 is greedy.
    """
    if temperatures is None:
        if how.temperature == 0:
            return logits.argmax(-1)
        temperatures = uniforms.new_full(uniforms.shape, how.temperature)
    values, ids = logits.topk(min(how.top_k, logits.shape[-1]), dim=-1)
    greedy = temperatures == 0
    probs = (values.float() / temperatures.float().where(~greedy, 1.0)[:, None]).softmax(-1)
    below = probs.cumsum(-1) - probs
    probs = probs * (below < how.top_p)
    cumulative = probs.cumsum(-1)
    threshold = uniforms.to(probs.dtype)[:, None] * cumulative[:, -1:]
    # A uniform next to 1 may round to the total: the last token of the nucleus then.
    # NaN logits have no nucleus: any token will do, since the caller looks for them.
    last = ((probs > 0).sum(-1, keepdim=True) - 1).clamp(min=0)
    choice = (cumulative <= threshold).sum(-1, keepdim=True).minimum(last)
    choice = choice.where(~greedy[:, None], 0)  # the likeliest comes first
    return ids.gather(-1, choice)[:, 0]


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    sampling: Sampling | Sequence[Sampling],
    *,
    seed: int = 0,
    first_index: int = 0,
    batch_size: int = 64,
    on_finished: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Complete every prompt, in batches whose finished rows are replaced by waiting prompts.

    Row i draws from `noise(seed, first_index + i)`, so a row's randomness does not depend on the
    batch that it runs in. On out-of-memory the batch is halved and its rows start again.

    Args:
        prompts: token ids, each at least one token.
        sampling: of all rows, or one per row, which may differ in temperature and length alone.
        on_finished: called with the number of rows that have just finished.

    Raises:
        DivergedError: the logits hold NaN or infinity.
        OutOfMemory: one row alone does not fit.
    """
    if not prompts:
        return []
    how = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    if len(how) != len(prompts) or len({(h.top_k, h.top_p) for h in how}) > 1:
        raise ValueError("one Sampling per prompt, all of one top_k and one top_p")
    results: dict[int, Generated] = {}
    longest = [(-h.max_new_tokens, -len(p)) for h, p in zip(how, prompts, strict=True)]
    pending = sorted(range(len(prompts)), key=lambda i: (longest[i], i))
    size = min(batch_size, len(prompts))
    while pending:
        engine = _Engine(lm, prompts, how, seed, first_index, size)
        fits = True
        try:
            for index, generated in engine.run(pending):
                results[index] = generated
                if on_finished is not None:
                    on_finished(1)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:
            del engine  # with its cache, before the next one is made
            size = half(size, "generation", "use fewer new tokens")
        pending = [i for i in pending if i not in results]
    return [results[i] for i in range(len(prompts))]


class _Engine:
    """The rows in flight: their cache, masks, noise and tokens."""

    def __init__(
        self,
        lm: LanguageModel,
        prompts: Sequence[Ids],
        how: Sequence[Sampling],
        seed: int,
        first_index: int,
        batch_size: int,
    ) -> None:
        self.lm, self.prompts, self.how = lm, prompts, how
        self.length = max(h.max_new_tokens for h in how)
        self.mixed = len({h.temperature for h in how}) > 1
        self.seed, self.first_index, self.batch_size = seed, first_index, batch_size
        self.stop = torch.tensor(sorted(lm.stop_ids), device=lm.device)
        # Each look at the tokens waits for a GPU; rows may overrun by a few tokens, cut off later.
        self.check_every = 1 if lm.device.type == "cpu" else 8
        self.prefix = self._shared_prefix()
        self.rows: list[int] = []

    def run(self, pending: Sequence[int]) -> Any:
        """Yield (row, Generated) as rows finish."""
        queue = list(pending)
        steps = 0
        while queue or self.rows:
            room = self.batch_size - len(self.rows)
            if queue and (not self.rows or room >= max(1, self.batch_size // 4)):
                self._admit([queue.pop(0) for _ in range(min(room, len(queue)))])
            else:
                self._step()
            steps += 1
            if steps % self.check_every == 0:
                yield from self._collect()

    def _shared_prefix(self) -> tuple[int, GrowingCache | None]:
        length = min(common_prefix(self.prompts), min(map(len, self.prompts)) - 1)
        if len(self.prompts) < 2 or length < MIN_SHARED_PREFIX or self._slides(length):
            return 0, None
        cache = GrowingCache(len(self.lm.layers))
        ids = torch.tensor([list(self.prompts[0][:length])], device=self.lm.device)
        self.lm.decoder(input_ids=ids, past_key_values=cache, use_cache=True)
        return length, cache

    def _slides(self, prefix: int) -> bool:
        """Padding between prefix and prompt would shift a sliding window that is too narrow."""
        window = getattr(self.lm.model.config.get_text_config(), "sliding_window", None)
        longest = max(map(len, self.prompts)) + self.length + prefix
        return window is not None and longest >= window

    def _admit(self, rows: list[int]) -> None:
        """Read the prompts of new rows and join them to those in flight."""
        shared, prefix = self.prefix
        lm = self.lm
        batch = pad_left([self.prompts[r][shared:] for r in rows], lm.pad_id, lm.device)
        if prefix is None:
            cache = GrowingCache(len(lm.layers))
        else:
            cache = prefix.copy_of(torch.zeros(len(rows), dtype=torch.long, device=lm.device))
        mask = torch.cat([batch.mask.new_ones(len(rows), shared), batch.mask], dim=1)
        logits = self._forward(batch.ids, mask, batch.positions + shared, cache)
        length = self.length
        uniforms = np.stack([noise(self.seed, self.first_index + r, length) for r in rows])
        state = {
            "uniforms": torch.from_numpy(uniforms).to(lm.device, torch.float32),
            "tokens": torch.full((len(rows), length), -1, device=lm.device),
            "count": torch.zeros(len(rows), dtype=torch.long, device=lm.device),
            "position": torch.tensor([len(self.prompts[r]) for r in rows], device=lm.device),
            "limit": torch.tensor([self.how[r].max_new_tokens for r in rows], device=lm.device),
            "temperature": torch.tensor([self.how[r].temperature for r in rows], device=lm.device),
        }
        self._draw(state, logits)
        self._join(rows, state, mask, cache)

    def _join(
        self, rows: list[int], state: dict[str, Tensor], mask: Tensor, cache: GrowingCache
    ) -> None:
        if not self.rows:
            self.rows, self.state, self.mask, self.cache = rows, state, mask, cache
            return
        width = max(mask.shape[1], self.mask.shape[1])
        pad = torch.nn.functional.pad
        masks = [pad(m, (width - m.shape[1], 0)) for m in (self.mask, mask)]
        self.mask = torch.cat(masks)
        self.cache.join(cache)
        self.state = {k: torch.cat([self.state[k], state[k]]) for k in state}
        self.rows = self.rows + rows

    def _step(self) -> None:
        """One token for every row in flight."""
        count, position = self.state["count"], self.state["position"]
        last = (count - 1).clamp(max=self.length - 1)
        # A marked row runs on until the next look: the mark is no token.
        ids = self.state["tokens"].gather(1, last[:, None]).clamp(min=0)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.rows), 1)], dim=1)
        logits = self._forward(ids, self.mask, position[:, None], self.cache)
        self.state["position"] = position + 1
        self._draw(self.state, logits)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: GrowingCache) -> Tensor:
        hidden = self.lm.decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return self.lm.head.logits(hidden)

    def _draw(self, state: dict[str, Tensor], logits: Tensor) -> None:
        count = state["count"].clamp(max=self.length - 1)
        uniforms = state["uniforms"].gather(1, count[:, None])[:, 0]
        temperatures = state["temperature"] if self.mixed else None
        drawn = pick_tokens(logits, uniforms, self.how[0], temperatures)
        # NaN logits would draw nonsense in silence; the mark is read at the next look.
        drawn = torch.where(logits.amax(-1).isfinite(), drawn, -2)
        full = state["count"] >= state["limit"]
        kept = state["tokens"].gather(1, count[:, None])[:, 0]
        state["tokens"].scatter_(1, count[:, None], torch.where(full, kept, drawn)[:, None])
        state["count"] = state["count"] + 1

    def _collect(self) -> Any:
        """Yield the rows that have finished and drop them from the batch."""
        tokens = self.state["tokens"]
        if bool((tokens == -2).any()):
            raise DivergedError(
                "generation: the logits hold NaN or infinity; lower the dose, or use float32"
            )
        stopped = torch.isin(tokens, self.stop).any(1)
        done = stopped | (self.state["count"] >= self.state["limit"])
        if not bool(done.any()):
            return
        finished = done.tolist()
        for row, ids, is_done in zip(self.rows, tokens.tolist(), finished, strict=True):
            if is_done:
                yield row, self._cut(ids)
        self.rows = [r for r, is_done in zip(self.rows, finished, strict=True) if not is_done]
        if self.rows:
            self._keep(torch.nonzero(~done)[:, 0])

    def _cut(self, ids: list[int]) -> Generated:
        for length, token in enumerate(ids):
            if token in self.lm.stop_ids:
                return Generated(tuple(ids[:length]), token)
        return Generated(tuple(t for t in ids if t >= 0), None)

    def _keep(self, rows: Tensor) -> None:
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax())  # columns that are padding for all rows go
        self.mask = mask[:, first:]
        self.cache.gather(rows, first)
        self.state = {k: v[rows] for k, v in self.state.items()}
