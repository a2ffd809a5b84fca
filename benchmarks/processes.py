"""The processes that take part: on which core they run, how they talk, how they end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType

from twisted_push.bench import process
from twisted_push.bench.process import LOAD_CORE, SERVER_CORE
from twisted_push.bench.process import BenchError as BenchmarkError

__all__ = ["LOAD_CORE", "SERVER_CORE", "BenchmarkError", "Child", "prepare", "undisturbed"]


def prepare(time_limit: int, *, ahead: bool = True) -> None:
    """Make this process fit to drive the load, for at most ``time_limit`` seconds.

    With ``ahead``, who may (root) goes before other work on the machine.
    """
    os.sched_setaffinity(0, {LOAD_CORE})
    if ahead:
        with contextlib.suppress(PermissionError):
            os.nice(-10)
    # Children inherit all of this.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def end(number: int, _: FrameType | None) -> None:
        # As an exception, so that every process that was started is stopped.
        if number == signal.SIGALRM:
            raise BenchmarkError(f"not done after {time_limit} s")
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(time_limit)


@contextlib.contextmanager
def undisturbed(measured: Iterable[int], measuring: Iterable[int]) -> Iterator[None]:
    """Keep other work of the machine off these processes, where that is allowed (root).

    For what is measured by the clock, and is short: they get a real-time priority, and those who
    measure a higher one.
    """
    before = {}
    try:
        for priority, pids in enumerate((measured, measuring), 1):
            for pid in pids:
                before[pid] = os.sched_getscheduler(pid), os.sched_getparam(pid)
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(priority))
        yield
    finally:
        for pid, (policy, parameter) in before.items():
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.sched_setscheduler(pid, policy, parameter)


class Child(process.Child):
    """A Python process of ours, pinned to a core."""

    def __init__(self, arguments: Sequence[str], core: int, *, talks: bool = True) -> None:
        super().__init__([sys.executable, *arguments], core, talks=talks)

    def listen(self) -> int:
        """Read a line of its standard output, which is a number."""
        number: int = self.hear()
        return number
