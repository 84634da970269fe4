"""Many who ask and one model: nobody is mixed up, lost, or waited for in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from steer_heal_love.play.serial_worker import SerialWorker


def only(*items: int) -> Generator[int, None, None]:
    yield from items


@pytest.fixture
def worker() -> Iterator[SerialWorker]:
    worker = SerialWorker()
    yield worker
    worker.close()


def test_turns_never_overlap_and_none_is_lost(worker: SerialWorker) -> None:
    inside: list[int] = []
    most: list[int] = []

    def count(who: int) -> Generator[tuple[int, int], None, None]:
        inside.append(who)
        try:
            for i in range(20):
                most.append(len(inside))
                yield who, i
                time.sleep(0.0002)
        finally:
            inside.remove(who)

    def ask(who: int) -> list[tuple[int, int]]:
        return list(worker.follow(lambda: count(who)))

    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(ask, range(24)))
    assert set(most) == {1}
    for who, items in enumerate(answers):
        assert items[-1] == (who, 19)
        assert [i for _, i in items] == sorted({i for _, i in items})
        assert {w for w, _ in items} == {who}


def test_who_is_slow_gets_the_newest(worker: SerialWorker) -> None:
    finished = threading.Event()

    def count() -> Generator[int, None, None]:
        yield from range(100)
        finished.set()

    items = worker.follow(count)
    first = next(items)
    assert finished.wait(10)
    assert [first, *items][-1] == 99
    assert len(list(worker.follow(lambda: only()))) == 0


def test_who_goes_away_is_not_waited_for(worker: SerialWorker) -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
                time.sleep(0.001)
        finally:
            closed.set()

    gone = worker.follow(endless)
    next(gone)
    gone.close()
    assert closed.wait(10)
    assert list(worker.follow(lambda: only(7))) == [7]


def test_who_left_the_queue_is_not_begun(worker: SerialWorker) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait() -> Generator[int, None, None]:
        go.wait(10)
        yield 1

    def never() -> Generator[int, None, None]:
        begun.set()
        yield 2

    with ThreadPoolExecutor(1) as other:
        first = other.submit(lambda: list(worker.follow(wait)))
        second = worker.follow(never)
        thread = threading.Thread(target=lambda: next(second, None), daemon=True)
        thread.start()
        go.set()
        assert first.result(10) == [1]
        thread.join(10)
    assert begun.is_set()  # it was still there
    later = worker.follow(never)
    begun.clear()
    later.close()  # before it was ever asked for anything
    assert list(worker.follow(lambda: only(3))) == [3]
    assert not begun.is_set()


def test_an_error_comes_back_to_the_one_who_asked(worker: SerialWorker) -> None:
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        list(worker.follow(fail))
    assert list(worker.follow(lambda: only(5))) == [5]
