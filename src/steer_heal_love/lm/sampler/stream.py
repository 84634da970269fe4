"""A few answers, token by token as they are drawn: one batch, each row with patches of its own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.errors import DivergedError, ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.hooks import Steering, steering
from steer_heal_love.lm.patches.rows import StudentRows, student_rows
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.lm.sampler.sampling import Sampling, noise, pick_tokens
from steer_heal_love.lm.tokens import Ids, pad_left
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.records import Adapter, Direction


@dataclass(frozen=True)
class Row:
    """One answer to be streamed: its prompt, and what is on while it is written."""

    prompt: Ids
    depth: int = 0  # adapters of the history that are on, from the first
    kappa: float = 0.0  # dose of the direction
    judged_on: Ids | None = None  # prompt under which the base model reads along; None: it does not


@dataclass(frozen=True)
class Intervention:
    """How the rows with a dose are steered."""

    direction: Direction
    gate: Gate = "none"
    operator: Operator = "add"
    schedule: Schedule = field(default_factory=Schedule)


@dataclass(frozen=True)
class Token:
    """A token as it is drawn.

    `ends` says that it is the end token; after it, or after a token that is `last` because the
    length limit came, its row is finished.
    """

    row: int
    id: int
    kappa: float  # dose at which it was drawn
    surprise_nats: float | None  # −log p under the base model; None where it did not read along
    ends: bool
    last: bool


@torch.inference_mode()
def stream(
    lm: LanguageModel,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    seed: int = 0,
    index: int = 0,
    adapters: Sequence[Adapter] = (),
    intervention: Intervention | None = None,
) -> Generator[list[Token], None, None]:
    """Yield the next token of every unfinished row, step by step.

    All rows draw with the same noise, a function of (seed, index), so that what differs between
    them is the model alone. Where the base model reads along it is one more row of the same
    forward pass. The model is patched from the first token until the stream ends or is closed:
    nothing else may use it meanwhile.

    Raises:
        ModelError: a row has a dose and there is no direction, a depth exceeds the adapters, or
            a prompt fills the model's context.
        DivergedError: logits are NaN or infinite.
    """
    _check(lm, rows, adapters, intervention)
    lines = _lines(rows)
    with ExitStack() as patches:
        depths = [line.depth for line in lines]
        students = patches.enter_context(student_rows(lm, adapters, depths))
        doses = None
        if intervention is not None and any(row.kappa for row in rows):
            how = intervention
            on = steering(lm, how.direction, 0.0, gate=how.gate, operator=how.operator)
            doses = _Doses(patches.enter_context(on), how.schedule, lm.device)
        batch = _Batch(lm, lines, students, doses)
        uniforms = torch.from_numpy(noise(seed, index, sampling.max_new_tokens))
        yield from _draw(rows, sampling, batch, uniforms.to(lm.device, torch.float32))


def _check(
    lm: LanguageModel,
    rows: Sequence[Row],
    adapters: Sequence[Adapter],
    intervention: Intervention | None,
) -> None:
    if intervention is None and any(row.kappa for row in rows):
        raise ModelError("a row has a dose, and there is no direction to steer along")
    if any(row.depth > len(adapters) for row in rows):
        raise ModelError(f"a row asks for more adapters than the {len(adapters)} there are")
    longest = max(len(p) for row in rows for p in (row.prompt, row.judged_on or ()))
    if longest >= lm.max_positions:
        raise ModelError(
            f"a prompt of {longest} tokens exceeds the model's context of {lm.max_positions}: "
            "shorten it, or begin a new conversation"
        )


@dataclass(frozen=True)
class _Line:
    """A line of the batch: it writes a row, or it is the base model reading along with one."""

    row: int
    prompt: Ids
    depth: int = 0
    kappa: float = 0.0
    writes: bool = True


def _lines(rows: Sequence[Row]) -> list[_Line]:
    """The rows, and after them the readers; a row of the bare base model is its own reader."""
    writers = [_Line(i, row.prompt, row.depth, row.kappa) for i, row in enumerate(rows)]
    readers = [
        _Line(i, row.judged_on, writes=False)
        for i, row in enumerate(rows)
        if row.judged_on is not None and not _judges_itself(row)
    ]
    return writers + readers


def _judges_itself(row: Row) -> bool:
    bare = row.depth == 0 and row.kappa == 0
    return bare and row.judged_on is not None and list(row.prompt) == list(row.judged_on)


@dataclass
class _Doses:
    """Sets κ of each line for the pass that draws the token at a position."""

    patch: Steering
    schedule: Schedule
    device: torch.device

    def set(self, lines: Sequence[_Line], position: int) -> None:
        factor = float(self.schedule.factor(torch.tensor(position)))
        doses = torch.tensor([line.kappa * factor for line in lines], device=self.device)
        self.patch.kappa = doses[:, None, None]

    def of(self, line: _Line, position: int) -> float:
        return line.kappa * float(self.schedule.factor(torch.tensor(position)))


class _Batch:
    """The lines in flight with their cache; `read` gives the logits after the newest token."""

    def __init__(
        self,
        lm: LanguageModel,
        lines: list[_Line],
        students: StudentRows,
        doses: _Doses | None,
    ) -> None:
        self.lm, self.lines, self.students, self.doses = lm, lines, students, doses
        self.cache = GrowingCache(len(lm.layers))
        self.position = 0  # of the token that the next pass draws
        padded = pad_left([line.prompt for line in lines], lm.pad_id, lm.device)
        self.mask, self.ids, self.places = padded.mask, padded.ids, padded.positions

    def read(self) -> Float[Tensor, "lines vocab"]:
        if self.doses is not None:
            self.doses.set(self.lines, self.position)
        hidden = self.lm.decoder(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.places,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        logits: Tensor = self.lm.head.logits(hidden)
        if not bool(logits.isfinite().all()):
            raise DivergedError("the logits hold NaN or infinity: lower the dose, or use float32")
        return logits

    def dose(self, line: _Line) -> float:
        return 0.0 if self.doses is None else self.doses.of(line, self.position)

    def feed(self, tokens: dict[int, int]) -> None:
        """Go on with the rows that have a token here; the lines of all others are dropped."""
        kept = [i for i, line in enumerate(self.lines) if line.row in tokens]
        if not kept:
            self.lines = []
            return
        if len(kept) < len(self.lines):
            rows = torch.tensor(kept, device=self.lm.device)
            self.lines = [self.lines[i] for i in kept]
            self.mask, self.places = self.mask[rows], self.places[rows]
            self.students.keep(rows)
            self.cache.gather(rows)
        drawn = [tokens[line.row] for line in self.lines]
        self.ids = torch.tensor(drawn, device=self.lm.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(kept), 1)], dim=1)
        self.places = self.places[:, -1:] + 1
        self.position += 1


def _draw(
    rows: Sequence[Row], sampling: Sampling, batch: _Batch, uniforms: Float[Tensor, " steps"]
) -> Generator[list[Token], None, None]:
    limits = [_limit(batch.lm, row, sampling) for row in rows]
    while batch.lines:
        logits = batch.read()
        writers = [i for i, line in enumerate(batch.lines) if line.writes]
        noise_here = uniforms[batch.position].expand(len(writers))
        drawn = pick_tokens(logits[writers], noise_here, sampling)
        surprises = _surprises(rows, batch.lines, logits, drawn)
        found = []
        for i, token in zip(writers, drawn.tolist(), strict=True):
            line = batch.lines[i]
            ends = token in batch.lm.stop_ids
            last = ends or batch.position + 1 >= limits[line.row]
            surprise = surprises.get(line.row)
            found.append(Token(line.row, token, batch.dose(line), surprise, ends, last))
        yield found
        batch.feed({t.row: t.id for t in found if not t.last})


def _limit(lm: LanguageModel, row: Row, sampling: Sampling) -> int:
    """Most tokens that the row may have: the model's context is not exceeded."""
    longest = max(len(row.prompt), len(row.judged_on or ()))
    return min(sampling.max_new_tokens, lm.max_positions - longest)


def _surprises(
    rows: Sequence[Row],
    lines: Sequence[_Line],
    logits: Float[Tensor, "lines vocab"],
    drawn: Int[Tensor, " writers"],
) -> dict[int, float]:
    """Row → −log p of its new token under the base model, nats, of the rows that it reads along."""
    tokens = dict(zip([line.row for line in lines if line.writes], drawn.tolist(), strict=True))
    judges = {
        line.row: i
        for i, line in enumerate(lines)
        if not line.writes or _judges_itself(rows[line.row])
    }
    if not judges:
        return {}
    picked = logits[list(judges.values())].float().log_softmax(-1)
    chosen = torch.tensor([tokens[row] for row in judges], device=logits.device)
    values = -picked.gather(1, chosen[:, None])[:, 0]
    return dict(zip(judges, values.tolist(), strict=True))
