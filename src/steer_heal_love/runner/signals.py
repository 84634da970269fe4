"""Stopping a run by a signal, so that what is finished is kept and the user hears how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIG_IGN, SIGINT, SIGTERM, Signals, getsignal, signal


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def stoppable_between() -> Iterator[Callable[[], None]]:
    """As `stoppable`, but nothing is raised until the check is called.

    For libraries that an exception out of nowhere would break. Each signal is raised once.
    """
    came: list[int] = []

    def check() -> None:
        if came:
            raise Stopped(came.pop(0))

    with _handling(lambda number, _frame: came.append(number)):
        yield check


@contextmanager
def catch_stop_signals() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM drop the current piece of work; what is finished is kept.

    Yields a check to call between steps: where the exception is lost, as in a finaliser that
    happened to be running, the check raises it again.
    """
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        raise Stopped(number)

    def check() -> None:
        if came:
            raise Stopped(came[0])

    with _handling(stop):
        yield check


@contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to this handler for a while."""
    before = {number: getsignal(number) for number in (SIGINT, SIGTERM)}
    try:
        for number, old in before.items():
            if old is not SIG_IGN:  # nohup and the like
                signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal(number, old)
