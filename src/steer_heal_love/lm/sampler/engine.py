"""The sampler's engine: rows join, run, are looked at, go back or leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.patches.packed import head_logits
from steer_heal_love.lm.reading.context import Prefix, read_prefix
from steer_heal_love.lm.sampler.base_scorer import BaseScorer
from steer_heal_love.lm.sampler.batch import BROKEN, SampleBatch
from steer_heal_love.lm.sampler.request import Request
from steer_heal_love.lm.sampler.sampling import Generated, Spent
from steer_heal_love.lm.tokens import pad_left
from steer_heal_love.maths.backtrack import Fault, first_fault


class Engine:
    """Runs an order in batches of at most `batch_size` rows."""

    def __init__(self, order: Request, batch_size: int) -> None:
        self.order, self.lm, self.batch_size = order, order.lm, batch_size
        self.stop = torch.tensor(sorted(self.lm.stop_ids), dtype=torch.long, device=self.lm.device)
        # Each look at the tokens waits for a GPU; rows may overrun by a few tokens, cut off later.
        self.check_every = 1 if self.lm.device.type == "cpu" else 8
        backtrack = order.backtrack
        self.watch = None if backtrack is None else BaseScorer(self.lm, order.prompts, order.shared)
        self.prefix = self._read_prefix()
        self.flight: SampleBatch | None = None
        self.ended: SampleBatch | None = None  # rows that wait for their last look
        self.rewinds: dict[int, int] = defaultdict(int)
        self.redrawn: dict[int, int] = defaultdict(int)
        self.prompt_tokens: dict[int, int] = {}

    def run(self, pending: Sequence[int]) -> Iterator[tuple[int, Generated]]:
        """Yield (row, Generated) as rows finish."""
        queue = list(pending)
        look_every = None if self.order.backtrack is None else self.order.backtrack.every
        steps = 0
        while queue or self.flight is not None:
            room = self.batch_size - sum(len(f.rows) for f in self._flights())
            if queue and (self.flight is None or room >= max(1, self.batch_size // 4)):
                self._admit([queue.pop(0) for _ in range(min(room, len(queue)))])
            else:
                self._step()
            steps += 1
            looks = look_every is not None and steps % look_every == 0
            if looks or steps % self.check_every == 0:
                yield from self._collect()
            if looks or (self.flight is None and self.ended is not None):
                yield from self._look()

    def _flights(self) -> list[SampleBatch]:
        return [f for f in (self.flight, self.ended) if f is not None]

    def _read_prefix(self) -> Prefix:
        """The prefix as the rows would read it, where they all would at one dose."""
        order = self.order
        if order.dosing is not None and len(set(order.kappas)) > 1:
            return Prefix()
        if order.dosing is not None:
            order.dosing.steering.kappa = order.kappas[0]
        return read_prefix(self.lm, order.prompts[0][: order.shared])

    def _admit(self, rows: list[int]) -> None:
        """Read the prompts of new rows and join them to those in flight."""
        order, lm, shared = self.order, self.lm, self.prefix.length
        batch = pad_left([order.prompts[r][shared:] for r in rows], lm.pad_id, lm.device)
        context = self.prefix.begin(lm, len(rows))
        new = SampleBatch(rows, self._state(rows), context)
        self._dose(new)
        states = context.read(lm, batch.ids, batch.positions + shared, batch.mask)
        self._draw(new, states)
        self.prompt_tokens |= dict.fromkeys(rows, batch.ids.shape[1])
        if self.flight is None:
            self.flight = new
        else:
            self.flight.join(new)

    def _state(self, rows: list[int]) -> dict[str, Tensor]:
        order, device = self.order, self.lm.device
        tokens = torch.full((len(rows), 1 + order.length), -1, device=device)
        tokens[:, 0] = torch.tensor([order.prompts[r][-1] for r in rows], device=device)
        state = {
            "uniforms": torch.stack([order.uniforms(r) for r in rows]),
            "tokens": tokens,
            "count": torch.zeros(len(rows), dtype=torch.long, device=device),
            "position": torch.tensor([len(order.prompts[r]) for r in rows], device=device),
            "limit": torch.tensor([order.how[r].max_new_tokens for r in rows], device=device),
            "temperature": torch.tensor([order.how[r].temperature for r in rows], device=device),
        }
        if order.follows:
            kappas = [order.kappas[r] for r in rows]
            state["kappa"] = torch.tensor(kappas, dtype=torch.float32, device=device)
            # One more than tokens: rows that overrun their limit write there.
            state["kappas"] = torch.zeros(len(rows), order.length + 1, device=device)
        return state

    def _step(self) -> None:
        """One token for every row in flight."""
        flight = self.flight
        assert flight is not None
        self._dose(flight)
        position = flight.state["position"]
        states = flight.context.read(self.lm, flight.next_ids(), position[:, None])
        flight.state["position"] = position + 1
        self._draw(flight, states)

    def _draw(self, flight: SampleBatch, states: Tensor) -> Tensor:
        """One more token for each row; gives the logits that they were drawn from."""
        logits = head_logits(self.lm, states[:, -1])
        flight.draw(logits, self.order.how[0], mixed=self.order.mixed)
        return logits

    def _dose(self, flight: SampleBatch) -> None:
        """Steer each row at its own dose in the next pass, and write the dose down."""
        dosing, state = self.order.dosing, flight.state
        if dosing is None or not self.order.follows:
            return
        count = state["count"].clamp(max=self.order.length)
        kappas = state["kappa"] * dosing.schedule.factor(count)
        state["kappas"].scatter_(1, count[:, None], kappas[:, None])
        dosing.steering.kappa = kappas[:, None, None]

    def _collect(self) -> Iterator[tuple[int, Generated]]:
        """Take finished rows out of the batch: yield them, or set them aside for a last look."""
        flight = self.flight
        if flight is None:
            return
        if bool((flight.drawn == BROKEN).any()):
            raise DivergedError(
                "generation: the logits hold NaN or infinity; lower the dose, or use float32"
            )
        done = flight.find_finished(self.stop)
        if not bool(done.any()):
            return
        if self.watch is None:
            ended = done.nonzero()[:, 0]
            texts = self._texts(flight.drawn[ended])
            for index, (ids, end) in zip(ended.tolist(), texts, strict=True):
                yield flight.rows[index], self._result(flight, index, ids, end)
        elif self.ended is None:
            self.ended = flight.copy_of(done)
        else:
            self.ended.join(flight.copy_of(done))
        flight.keep(~done)
        if not flight.rows:
            self.flight = None

    def _look(self) -> Iterator[tuple[int, Generated]]:
        """Score what is new under the base model; rewind or drop the rows that went wrong."""
        assert self.watch is not None
        flights = self._flights()
        texts = {r: t for f in flights for r, t in zip(f.rows, self._texts(f.drawn), strict=True)}
        self.watch.score({row: ids for row, (ids, _) in texts.items()})
        for flight in flights:
            stay = []
            for index, row in enumerate(flight.rows):
                ids, end = texts[row]
                fault = self._fault(row, ids)
                goes_on = flight is self.flight if fault is None else self._can_rewind(row)
                stay.append(goes_on)
                if fault is not None and goes_on:
                    self._rewind(flight, index, fault.back_to)
                elif fault is not None:
                    yield row, self._result(flight, index, ids[: fault.at + 1], None, dropped=True)
                elif not goes_on:
                    yield row, self._result(flight, index, ids, end)
            flight.keep(torch.tensor(stay, device=self.lm.device))
        remaining = [f for f in flights if f.rows]
        if len(remaining) == 2:
            remaining[0].join(remaining[1])
        self.flight, self.ended = remaining[0] if remaining else None, None
        self.watch.keep(self.flight.rows if self.flight else [])

    def _fault(self, row: int, ids: list[int]) -> Fault | None:
        backtrack, watch = self.order.backtrack, self.watch
        assert backtrack is not None
        assert watch is not None
        return first_fault(torch.tensor(watch.surprise_nats[row]), ids, backtrack)

    def _can_rewind(self, row: int) -> bool:
        backtrack = self.order.backtrack
        return backtrack is not None and self.rewinds[row] < backtrack.max_rewinds

    def _rewind(self, flight: SampleBatch, index: int, to: int) -> None:
        backtrack, watch, row = self.order.backtrack, self.watch, flight.rows[index]
        assert backtrack is not None
        assert watch is not None
        self.rewinds[row] += 1
        self.redrawn[row] += int(flight.state["count"][index]) - to
        kappa = self.order.kappas[row] * backtrack.factor ** self.rewinds[row]
        flight.rewind(index, to, kappa)
        watch.rewind(row, to)

    def _texts(self, drawn: Tensor) -> list[tuple[list[int], int | None]]:
        """(tokens before an end token, the end token) of each row."""
        found: list[tuple[list[int], int | None]] = []
        for ids in drawn.tolist():
            ends = (k for k, token in enumerate(ids) if token in self.lm.stop_ids)
            length = next(ends, None)
            if length is None:
                found.append(([t for t in ids if t >= 0], None))
            else:
                found.append((ids[:length], ids[length]))
        return found

    def _result(
        self,
        flight: SampleBatch,
        index: int,
        ids: list[int],
        end: int | None,
        *,
        dropped: bool = False,
    ) -> Generated:
        row, dosing = flight.rows[index], self.order.dosing
        rewinds, kappas, spent = self.rewinds[row], None, None
        if dosing is not None and (rewinds > 0 or dosing.schedule.kind != "constant"):
            kappas = tuple(flight.state["kappas"][index, : len(ids)].tolist())
        if self.watch is not None:
            sampled = int(flight.state["count"][index]) + self.redrawn[row]
            spent = Spent(self.prompt_tokens[row], sampled, self.watch.read_tokens[row])
        return Generated(tuple(ids), end, kappas, rewinds, dropped, spent)
