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
def stoppable() -> Iterator[Callable[[], None]]:
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

    before = {number: getsignal(number) for number in (SIGINT, SIGTERM)}
    try:
        for number, handler in before.items():
            if handler is not SIG_IGN:  # nohup and the like
                signal(number, stop)
        yield check
    finally:
        for number, handler in before.items():
            signal(number, handler)
