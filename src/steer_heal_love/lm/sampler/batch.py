"""The rows that are being generated: their tokens, noise and doses, beside what the model read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer_heal_love.lm.reading.context import Context
from steer_heal_love.lm.sampler.sampling import Sampling, pick_tokens

BROKEN = -2  # in place of a token: the logits were not finite


@dataclass(eq=False)
class SampleBatch:
    """Rows in flight. `state` has a tensor per name, with a line per row:

    `tokens` [1 + length]: the prompt's last token, then the drawn ones, −1 where there is none yet;
    `count`: how many are drawn; `position`: of the token to read next; `uniforms` [length];
    `limit`: most tokens to draw; `temperature`; and where the dose follows the row `kappa`, the
    row's dose, and `kappas` [length], those that its tokens were drawn at.
    """

    rows: list[int]
    state: dict[str, Tensor]
    context: Context

    @property
    def drawn(self) -> Int[Tensor, "rows length"]:
        """The tokens after the prompt."""
        return self.state["tokens"][:, 1:]

    def next_ids(self) -> Int[Tensor, "rows 1"]:
        """The token of each row that the model reads next."""
        last = self.state["count"].clamp(max=self.state["tokens"].shape[1] - 1)
        # A marked row runs on until the next look: the mark is no token.
        return self.state["tokens"].gather(1, last[:, None]).clamp(min=0)

    def draw(self, logits: Float[Tensor, "rows vocab"], how: Sampling, *, mixed: bool) -> None:
        """One more token for each row, up to its limit.

        Args:
            mixed: rows differ in temperature.
        """
        state = self.state
        count = state["count"].clamp(max=state["uniforms"].shape[1] - 1)[:, None]
        uniforms = state["uniforms"].gather(1, count)[:, 0]
        drawn = pick_tokens(logits, uniforms, how, state["temperature"] if mixed else None)
        # NaN logits would draw nonsense in silence; the mark is read at the next look. Where some
        # logit is NaN or infinite the drawn one is: it comes first, and no other has a share.
        drawn = torch.where(logits.gather(1, drawn[:, None])[:, 0].isfinite(), drawn, BROKEN)
        full = state["count"] >= state["limit"]
        kept = state["tokens"].gather(1, count + 1)[:, 0]
        state["tokens"].scatter_(1, count + 1, torch.where(full, kept, drawn)[:, None])
        state["count"] = state["count"] + 1

    def follow(self, leaders: Mapping[int, int]) -> None:
        """Rows that go along with another one, `leaders` says which, take its tokens."""
        place = {row: k for k, row in enumerate(self.rows)}
        behind = [row for row in self.rows if row in leaders]
        ahead = [place[leaders[row]] for row in behind]
        self.drawn[[place[row] for row in behind]] = self.drawn[ahead]

    def find_finished(self, stop: Int[Tensor, " ends"]) -> Bool[Tensor, " rows"]:
        """Rows that drew an end token or reached their limit."""
        stopped = torch.isin(self.drawn, stop).any(1)
        return stopped | (self.state["count"] >= self.state["limit"])

    def join(self, other: SampleBatch) -> None:
        """Append the rows of another one."""
        self.context.join(other.context)
        self.state = {k: torch.cat([v, other.state[k]]) for k, v in self.state.items()}
        self.rows = self.rows + other.rows

    def keep(self, chosen: Bool[Tensor, " rows"]) -> None:
        """Only these rows; where there is none, the context is left to be thrown away."""
        picked = chosen.nonzero()[:, 0]
        self.rows = [self.rows[i] for i in picked.tolist()]
        if self.rows:
            self.context.keep(picked)
            self.state = {k: v[picked] for k, v in self.state.items()}

    def copy_of(self, chosen: Bool[Tensor, " rows"]) -> SampleBatch:
        """A new one of these rows."""
        picked = chosen.nonzero()[:, 0]
        rows = [self.rows[i] for i in picked.tolist()]
        state = {k: v[picked] for k, v in self.state.items()}
        return SampleBatch(rows, state, self.context.copy_of(picked))

    def rewind(self, index: int, to: int, kappa: float) -> None:
        """Put the row at `index` back to its first `to` tokens; on at another dose."""
        state = self.state
        columns = int(state["count"][index]) - to
        self.context.rewind(index, columns)
        state["tokens"][index, 1 + to :] = -1
        state["count"][index] -= columns
        state["position"][index] -= columns
        state["kappa"][index] = kappa
