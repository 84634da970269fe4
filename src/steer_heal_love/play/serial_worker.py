"""One model and many who ask: whoever comes later waits for those before."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Ended(Generic[T]):
    """The last thing in a queue: how the work ended."""

    error: BaseException | None = None


class SerialWorker:
    """Runs generators one after the other in a thread of its own, in the order they were asked for.

    A generator that patches a shared model holds those patches between its steps, so two must
    never be under way at once. Whoever asked may go away at any time: the work stops at its next
    step and the next in line begins.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._closed = Event()

    def follow(self, begin: Callable[[], Generator[T, None, None]]) -> Iterator[T]:
        """Yield what the generator yields; of what piled up meanwhile only the newest."""
        queue: SimpleQueue[T | _Ended[T]] = SimpleQueue()
        gone = Event()

        def work() -> None:
            error: BaseException | None = None
            try:
                if not gone.is_set():
                    self._pump(begin(), queue, gone)
            except BaseException as problem:  # it is raised again where it was asked for
                error = problem
            queue.put(_Ended(error))

        self._worker.submit(work)
        try:
            yield from _newest(queue)
        finally:
            gone.set()

    def _pump(
        self, items: Generator[T, None, None], queue: SimpleQueue[T | _Ended[T]], gone: Event
    ) -> None:
        with closing(items):
            for item in items:
                queue.put(item)
                if gone.is_set() or self._closed.is_set():
                    return

    def close(self) -> None:
        """End what is under way at its next step, and let the thread go."""
        self._closed.set()
        self._worker.shutdown(wait=False, cancel_futures=True)


def _newest(queue: SimpleQueue[T | _Ended[T]]) -> Iterator[T]:
    while True:
        waiting = [queue.get(), *_drain(queue)]
        end = waiting[-1] if isinstance(waiting[-1], _Ended) else None
        items = [item for item in waiting if not isinstance(item, _Ended)]
        if items:
            yield items[-1]
        if end is not None:
            if end.error is not None:
                raise end.error
            return


def _drain(queue: SimpleQueue[T]) -> list[T]:
    items = []
    try:
        while True:
            items.append(queue.get_nowait())
    except Empty:
        return items
