"""A few answers, token by token as they are drawn: one batch, each row with patches of its own."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import Switch, student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.sampler.batch import BROKEN, SampleBatch
from steer_heal_love.lm.sampler.engine import Engine
from steer_heal_love.lm.sampler.request import Request, with_personas
from steer_heal_love.lm.sampler.sampling import Dosing, Sampling
from steer_heal_love.lm.tokens import Ids
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import CONSTANT, Schedule
from steer_heal_love.maths.tilt import Tilt
from steer_heal_love.records import Adapter, Direction


@dataclass(frozen=True)
class StreamRow:
    """One answer to be streamed: its prompt, and what is on while it is written."""

    prompt: Ids
    depth: int = 0  # adapters of the history that are on, from the first
    kappa: float = 0.0  # dose of the direction
    judged_on: Ids | None = None  # prompt under which the base model reads along; None: it does not
    personas: tuple[Ids, Ids] | None = None  # its conversation under both, to be drawn by a tilt


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
    rows: Sequence[StreamRow],
    sampling: Sampling,
    *,
    seed: int = 0,
    index: int = 0,
    adapters: Sequence[Adapter] = (),
    intervention: Intervention | None = None,
    tilt: Tilt | None = None,
) -> Generator[list[Token], None, None]:
    """Yield the next token of every unfinished row, step by step.

    All rows draw with the same noise, a function of (seed, index), so that what differs between
    them is the model alone. Where the base model reads along it is one more row of the same
    forward pass. The model is patched from the first token until the stream ends or is closed:
    nothing else may use it meanwhile.

    Raises:
        ModelError: a row has a dose and there is no direction, or personas and no tilt; a depth
            exceeds the adapters, or a prompt fills the model's context.
        DivergedError: logits are NaN or infinite.
    """
    _check(lm, rows, adapters, intervention, tilt)
    judged = {i: row.judged_on for i, row in enumerate(rows) if row.judged_on is not None}
    lines = [*rows, *map(StreamRow, judged.values())]
    readers = dict(zip(judged, range(len(rows), len(lines)), strict=True))
    how = [_within_context(lm, row, sampling) for row in rows]
    how += [how[row] for row in readers]
    prompts, kappas = [line.prompt for line in lines], [line.kappa for line in lines]
    personas = {i: row.personas for i, row in enumerate(rows) if row.personas is not None}
    with ExitStack() as patches:
        deepest = max(line.depth for line in lines)
        students = patches.enter_context(student(lm, adapters[:deepest]))
        dosing = None
        if intervention is not None and any(kappas):
            by = intervention
            on = steering(lm, by.direction, 0.0, gate=by.gate, operator=by.operator)
            dosing = Dosing(patches.enter_context(on), kappas, by.schedule)
        request = Request(lm, prompts, how, seed, index, dosing, side_by_side=True)
        if tilt is not None:
            request = with_personas(request, personas, tilt)
        depths = [lines[request.leaders.get(i, i)].depth for i in range(len(request.prompts))]
        yield from _TokenEngine(request, students, depths, readers).tokens(rows)


def _check(
    lm: LanguageModel,
    rows: Sequence[StreamRow],
    adapters: Sequence[Adapter],
    intervention: Intervention | None,
    tilt: Tilt | None,
) -> None:
    if tilt is None and any(row.personas is not None for row in rows):
        raise ModelError("a row is to be drawn by a contrast, and there is no tilt")
    if intervention is None and any(row.kappa for row in rows):
        raise ModelError("a row has a dose, and there is no direction to steer along")
    if any(row.depth > len(adapters) for row in rows):
        raise ModelError(f"a row asks for more adapters than the {len(adapters)} there are")
    longest = max(map(_longest, rows))
    if longest >= lm.max_positions:
        raise ModelError(
            f"a prompt of {longest} tokens exceeds the model's context of {lm.max_positions}: "
            "shorten it, or begin a new conversation"
        )


def _within_context(lm: LanguageModel, row: StreamRow, sampling: Sampling) -> Sampling:
    """With no more tokens than the model's context has room for."""
    limit = min(sampling.max_new_tokens, lm.max_positions - _longest(row))
    return replace(sampling, max_new_tokens=limit)


def _longest(row: StreamRow) -> int:
    """Of the prompts that a row is read under, in tokens."""
    return max(map(len, (row.prompt, row.judged_on or (), *(row.personas or ()))))


class _TokenEngine(Engine):
    """The engine, looked at after each token; it has all rows in flight from the first.

    Row i of a pass has the first `depths[i]` adapters on. `readers` tells which row is the base
    model reading along with a row: it goes on with that one's tokens in place of its own.
    """

    def __init__(
        self, request: Request, students: Switch, depths: Sequence[int], readers: Mapping[int, int]
    ) -> None:
        super().__init__(request, len(request.prompts))
        self.students, self.readers = students, readers
        self.depths = torch.tensor(depths, device=self.lm.device)
        self.surprise_nats: dict[int, float] = {}  # of the newest token of a row

    def tokens(self, rows: Sequence[StreamRow]) -> Generator[list[Token], None, None]:
        """Yield a token of each of the first rows, which are these, until it is finished."""
        schedule = CONSTANT if self.request.dosing is None else self.request.dosing.schedule
        leaders = self.request.leaders
        self._admit([row for row in range(len(self.request.prompts)) if row not in leaders])
        for count in range(self.request.length):
            batch = self.batch
            assert batch is not None
            drawn = zip(batch.rows, batch.drawn[:, count].tolist(), strict=True)
            finished = dict(self._collect())  # they leave the batch; broken logits are told
            share = float(schedule.factor(torch.tensor(count)))
            yield [
                Token(
                    row,
                    token,
                    rows[row].kappa * share,
                    self.surprise_nats.get(row),
                    ends=token in self.lm.stop_ids,
                    last=row in finished,
                )
                for row, token in drawn
                if row < len(rows)
            ]
            if self.batch is None:
                return
            self._step()

    def _dose(self, batch: SampleBatch) -> None:
        super()._dose(batch)
        self.students.depths = self.depths[batch.rows]

    def _draw(self, batch: SampleBatch, states: Tensor) -> Tensor:
        logits = super()._draw(batch, states)
        place = {row: k for k, row in enumerate(batch.rows)}
        judged = [row for row in self.readers if row in place]
        if judged:
            at = [place[self.readers[row]] for row in judged]
            newest = batch.drawn[:, int(batch.state["count"][0]) - 1]
            tokens = newest[[place[row] for row in judged]]
            newest[at] = tokens.where(newest[at] != BROKEN, BROKEN)
            chosen = tokens.clamp(min=0)[:, None]  # a mark is no token
            nats = -logits[at].float().log_softmax(-1).gather(1, chosen)[:, 0]
            self.surprise_nats = dict(zip(judged, nats.tolist(), strict=True))
        return logits
