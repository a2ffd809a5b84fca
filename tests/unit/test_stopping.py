"""The reactor is stopped once, at whatever moment a second signal comes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from attrs import define, field

from twisted_push import stopping
from twisted_push.stopping import OneStop

ENDING = (signal.SIGTERM, signal.SIGINT)


@define(eq=False)
class Reactor:
    """Notes how it is told to stop: the number of a signal, or 0."""

    told: list[int] = field(factory=list)

    def sigTerm(self, number: int, frame: FrameType | None) -> None:  # noqa: N802
        self.told.append(number)

    sigInt = sigTerm  # noqa: N815

    def stop(self) -> None:
        self.told.append(0)


@contextmanager
def running() -> Iterator[Reactor]:
    """Run a reactor that has installed its handlers.

    No fixture: the reactor of the tests installs its own when the first test begins.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    reactor = Reactor()
    signal.signal(signal.SIGTERM, reactor.sigTerm)
    signal.signal(signal.SIGINT, reactor.sigInt)
    try:
        yield reactor
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_line(number: int, do: Callable[[], None], during: Callable[[], None]) -> bool:
    """Call ``do`` at this one of the module's lines that ``during`` runs. False: so many are not.

    The calls and the ends of functions are counted as lines, too.
    """
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != stopping.__file__:
            return None
        left -= 1
        if left == -1:
            do()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        during()
    finally:
        sys.settrace(before)
    return left < 0


@pytest.mark.parametrize("first", ENDING)
@pytest.mark.parametrize("second", ENDING)
def test_a_second_signal_does_nothing(first: signal.Signals, second: signal.Signals) -> None:
    with running() as reactor:
        OneStop(reactor).take_signals()
        signal.raise_signal(first)
        signal.raise_signal(second)
        assert reactor.told == [first]


@pytest.mark.parametrize("first", ENDING)
@pytest.mark.parametrize("second", ENDING)
def test_a_second_signal_comes_while_the_first_is_handled(
    first: signal.Signals, second: signal.Signals
) -> None:
    lines = 0
    came = True
    while came:
        with running() as reactor:
            OneStop(reactor).take_signals()
            came = at_line(
                lines, lambda: signal.raise_signal(second), lambda: signal.raise_signal(first)
            )
            assert len(reactor.told) == 1
        lines += came
    assert lines > 5


def test_a_stop_and_a_signal() -> None:
    with running() as reactor:
        one_stop = OneStop(reactor)
        one_stop.take_signals()
        one_stop.stop()
        signal.raise_signal(signal.SIGTERM)
        one_stop.stop()
        assert reactor.told == [0]


def test_the_handlers_of_others_stay() -> None:
    """As a debugger's, or what a shell left for a program in the background."""
    with running() as reactor:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        OneStop(reactor).take_signals()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        assert reactor.told == [signal.SIGTERM]
