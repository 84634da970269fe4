"""The sampler's engine: rows join, run, are looked at, go back or leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.patches.packed import head_logits
from steer_heal_love.lm.patches.temperature import at_temperature
from steer_heal_love.lm.reading.context import Prefix, read_prefix
from steer_heal_love.lm.sampler.base_scorer import BaseScorer
from steer_heal_love.lm.sampler.batch import BROKEN, SampleBatch
from steer_heal_love.lm.sampler.request import Request
from steer_heal_love.lm.sampler.sampling import Generated, Spent
from steer_heal_love.lm.tokens import pad_left
from steer_heal_love.maths.backtrack import Fault, first_fault
from steer_heal_love.maths.tilted_head import TiltedHead


class Engine:
    """Runs a request in batches of at most `batch_size` rows, those under personas not counted."""

    def __init__(self, request: Request, batch_size: int) -> None:
        self.request, self.lm, self.batch_size = request, request.lm, batch_size
        self.stop = torch.tensor(sorted(self.lm.stop_ids), dtype=torch.long, device=self.lm.device)
        # Each look at the tokens waits for a GPU; rows may overrun by a few tokens, cut off later.
        self.check_every = 1 if self.lm.device.type == "cpu" else 8
        backtrack = request.backtrack
        self.base_scorer = (
            None if backtrack is None else BaseScorer(self.lm, request.prompts, request.shared)
        )
        self.prefix = self._read_prefix()
        self.batch: SampleBatch | None = None
        self.ended: SampleBatch | None = None  # rows that wait for their last look
        self.rewinds: dict[int, int] = defaultdict(int)
        self.redrawn: dict[int, int] = defaultdict(int)
        self.prompt_tokens: dict[int, int] = {}

    def run(self, pending: Sequence[int]) -> Iterator[tuple[int, Generated]]:
        """Yield (row, Generated) as rows finish."""
        queue = list(pending)
        look_every = None if self.request.backtrack is None else self.request.backtrack.every
        steps = 0
        while queue or self.batch is not None:
            room = self.batch_size - sum(map(self._count_leading, self._batches()))
            if queue and (self.batch is None or room >= max(1, self.batch_size // 4)):
                self._admit([queue.pop(0) for _ in range(min(room, len(queue)))])
            else:
                self._step()
            steps += 1
            looks = look_every is not None and steps % look_every == 0
            if looks or steps % self.check_every == 0:
                yield from self._collect()
            if looks or (self.batch is None and self.ended is not None):
                yield from self._look()

    def _count_leading(self, batch: SampleBatch) -> int:
        return sum(row not in self.request.leaders for row in batch.rows)

    def _batches(self) -> list[SampleBatch]:
        return [b for b in (self.batch, self.ended) if b is not None]

    def _read_prefix(self) -> Prefix:
        """The prefix as the rows would read it, where they all would at one dose."""
        request = self.request
        if request.dosing is not None and len(set(request.kappas)) > 1:
            return Prefix()
        if request.dosing is not None:
            request.dosing.steering.kappa = request.kappas[0]
        return read_prefix(self.lm, request.prompts[0][: request.shared])

    def _admit(self, rows: list[int]) -> None:
        """Read the prompts of new rows, and of those under personas; join them to what runs."""
        request, lm, shared = self.request, self.lm, self.prefix.length
        rows = rows + [way for row in rows for way in request.personas.get(row, ())]
        padded = pad_left([request.prompts[r][shared:] for r in rows], lm.pad_id, lm.device)
        context = self.prefix.begin(lm, len(rows))
        new = SampleBatch(rows, self._state(rows), context)
        self._dose(new)
        states = context.read(lm, padded.ids, padded.positions + shared, padded.mask)
        self._draw(new, states)
        self.prompt_tokens |= dict.fromkeys(rows, padded.ids.shape[1])
        if self.batch is None:
            self.batch = new
        else:
            self.batch.join(new)

    def _state(self, rows: list[int]) -> dict[str, Tensor]:
        request, device = self.request, self.lm.device
        tokens = torch.full((len(rows), 1 + request.length), -1, device=device)
        tokens[:, 0] = torch.tensor([request.prompts[r][-1] for r in rows], device=device)
        state = {
            "uniforms": torch.stack([request.uniforms(r) for r in rows]),
            "tokens": tokens,
            "count": torch.zeros(len(rows), dtype=torch.long, device=device),
            "position": torch.tensor([len(request.prompts[r]) for r in rows], device=device),
            "limit": torch.tensor([request.how[r].max_new_tokens for r in rows], device=device),
            "temperature": torch.tensor([request.how[r].temperature for r in rows], device=device),
        }
        if request.follows:
            kappas = [request.kappas[r] for r in rows]
            state["kappa"] = torch.tensor(kappas, dtype=torch.float32, device=device)
            # One more than tokens: rows that overrun their limit write there.
            state["kappas"] = torch.zeros(len(rows), request.length + 1, device=device)
        return state

    def _step(self) -> None:
        """One token for every row in flight."""
        batch = self.batch
        assert batch is not None
        self._dose(batch)
        position = batch.state["position"]
        states = batch.context.read(self.lm, batch.next_ids(), position[:, None])
        batch.state["position"] = position + 1
        self._draw(batch, states)

    def _draw(self, batch: SampleBatch, states: Tensor) -> Tensor:
        """One more token for each row; gives the logits that they were drawn from."""
        request, last = self.request, states[:, -1]
        logits = self._tilted(batch, last) if request.personas else head_logits(self.lm, last)
        batch.draw(logits, request.how[0], mixed=request.mixed)
        if request.personas:
            batch.follow(request.leaders)
        return logits

    def _tilted(self, batch: SampleBatch, states: Tensor) -> Tensor:
        """Logits of all rows: by the contrast where a row is drawn by one, none under a persona."""
        request, place = self.request, {row: k for k, row in enumerate(batch.rows)}
        assert request.tilt is not None
        led = [row for row in batch.rows if row in request.personas]
        plain = [k for row, k in place.items() if row not in {*led, *request.leaders}]
        head = at_temperature(self.lm, TiltedHead(self.lm.head, request.tilt))
        logits = states.new_zeros(len(states), len(head.weight), dtype=head.work_dtype)
        if plain:
            logits[plain] = head_logits(self.lm, states[plain])
        if led:
            ways = [[place[w] for w in (row, *request.personas[row])] for row in led]
            side_by_side = states[torch.tensor(ways, device=states.device)].flatten(1)
            logits[[place[row] for row in led]] = head.logits(side_by_side)
        return logits

    def _dose(self, batch: SampleBatch) -> None:
        """Steer each row at its own dose in the next pass, and write the dose down."""
        dosing, state = self.request.dosing, batch.state
        if dosing is None or not self.request.follows:
            return
        count = state["count"].clamp(max=self.request.length)
        kappas = state["kappa"] * dosing.schedule.factor(count)
        state["kappas"].scatter_(1, count[:, None], kappas[:, None])
        dosing.steering.kappa = kappas[:, None, None]

    def _collect(self) -> Iterator[tuple[int, Generated]]:
        """Take finished rows out of the batch: yield them, or set them aside for a last look."""
        batch = self.batch
        if batch is None:
            return
        if bool((batch.drawn == BROKEN).any()):
            raise DivergedError(
                "generation: the logits hold NaN or infinity; lower the dose, or use float32"
            )
        done = batch.find_finished(self.stop)
        if not bool(done.any()):
            return
        if self.base_scorer is None:
            ended = done.nonzero()[:, 0]
            texts = self._texts(batch.drawn[ended])
            for index, (ids, end) in zip(ended.tolist(), texts, strict=True):
                if batch.rows[index] in self.request.leaders:
                    continue
                yield batch.rows[index], self._result(batch, index, ids, end)
        elif self.ended is None:
            self.ended = batch.copy_of(done)
        else:
            self.ended.join(batch.copy_of(done))
        batch.keep(~done)
        if not batch.rows:
            self.batch = None

    def _look(self) -> Iterator[tuple[int, Generated]]:
        """Score what is new under the base model; rewind or drop the rows that went wrong."""
        assert self.base_scorer is not None
        batches = self._batches()
        texts = {r: t for b in batches for r, t in zip(b.rows, self._texts(b.drawn), strict=True)}
        self.base_scorer.score({row: ids for row, (ids, _) in texts.items()})
        for batch in batches:
            stay = []
            for index, row in enumerate(batch.rows):
                ids, end = texts[row]
                fault = self._fault(row, ids)
                goes_on = batch is self.batch if fault is None else self._can_rewind(row)
                stay.append(goes_on)
                if fault is not None and goes_on:
                    self._rewind(batch, index, fault.back_to)
                elif fault is not None:
                    yield row, self._result(batch, index, ids[: fault.at + 1], None, dropped=True)
                elif not goes_on:
                    yield row, self._result(batch, index, ids, end)
            batch.keep(torch.tensor(stay, device=self.lm.device))
        remaining = [b for b in batches if b.rows]
        if len(remaining) == 2:
            remaining[0].join(remaining[1])
        self.batch, self.ended = remaining[0] if remaining else None, None
        self.base_scorer.keep(self.batch.rows if self.batch else [])

    def _fault(self, row: int, ids: list[int]) -> Fault | None:
        backtrack, base_scorer = self.request.backtrack, self.base_scorer
        assert backtrack is not None
        assert base_scorer is not None
        return first_fault(torch.tensor(base_scorer.surprise_nats[row]), ids, backtrack)

    def _can_rewind(self, row: int) -> bool:
        backtrack = self.request.backtrack
        return backtrack is not None and self.rewinds[row] < backtrack.max_rewinds

    def _rewind(self, batch: SampleBatch, index: int, to: int) -> None:
        backtrack, base_scorer, row = self.request.backtrack, self.base_scorer, batch.rows[index]
        assert backtrack is not None
        assert base_scorer is not None
        self.rewinds[row] += 1
        self.redrawn[row] += int(batch.state["count"][index]) - to
        kappa = self.request.kappas[row] * backtrack.factor ** self.rewinds[row]
        batch.rewind(index, to, kappa)
        base_scorer.rewind(row, to)

    def _texts(self, drawn: Tensor) -> list[tuple[list[int], int | None]]:
        """(tokens before an end token, the end token) of each row."""
        texts: list[tuple[list[int], int | None]] = []
        for ids in drawn.tolist():
            ends = (k for k, token in enumerate(ids) if token in self.lm.stop_ids)
            length = next(ends, None)
            if length is None:
                texts.append(([t for t in ids if t >= 0], None))
            else:
                texts.append((ids[:length], ids[length]))
        return texts

    def _result(
        self,
        batch: SampleBatch,
        index: int,
        ids: list[int],
        end: int | None,
        *,
        dropped: bool = False,
    ) -> Generated:
        row, dosing = batch.rows[index], self.request.dosing
        rewinds, kappas, spent = self.rewinds[row], None, None
        if dosing is not None and (rewinds > 0 or dosing.schedule.shape != "constant"):
            kappas = tuple(batch.state["kappas"][index, : len(ids)].tolist())
        if self.base_scorer is not None:
            sampled = int(batch.state["count"][index]) + self.redrawn[row]
            spent = Spent(self.prompt_tokens[row], sampled, self.base_scorer.read_tokens[row])
        return Generated(tuple(ids), end, kappas, rewinds, dropped, spent)
