"""A backend at a steady rate: it does not wait for answers, and has an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Lock
from typing import Any

import pytest
from attrs import define, field

from twisted_push.bench import __main__ as bench
from twisted_push.bench.process import BenchError
from twisted_push.bench.publisher import Steady


@define
class Connections:
    """Stands in for publishers, and counts them; ``act`` is what each request does meanwhile."""

    act: Callable[[], object] = lambda: None
    made: int = 0
    closed: int = 0
    due: list[float] = field(factory=list)
    lock: Any = field(factory=Lock)

    def connect(self) -> Any:
        self.made += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def publish(self, connection: object, due: float) -> None:
        assert connection is self
        with self.lock:
            self.due.append(due)
        self.act()


def test_requests_do_not_wait_for_those_before() -> None:
    """None is answered before there are five."""
    connections = Connections(Barrier(5, timeout=10).wait)
    steady = Steady(connections.connect)
    begun = steady.publish(1000.0, 5, connections.publish)
    assert sorted(connections.due) == [begun + number / 1000 for number in range(5)]
    assert (steady.under_way, connections.made, connections.closed) == (5, 5, 5)


def test_no_more_are_under_way_than_may_be() -> None:
    connections = Connections(Barrier(3, timeout=10).wait)
    steady = Steady(connections.connect, most=3)
    steady.publish(1e6, 9, connections.publish)
    assert (steady.under_way, connections.closed) == (3, 3)
    assert len(connections.due) == 9


def test_a_connection_is_used_again() -> None:
    connections = Connections()
    steady = Steady(connections.connect)
    steady.publish(50.0, 5, connections.publish)
    assert steady.under_way < 5


def test_by_how_much_requests_were_late_is_known() -> None:
    connections = Connections(lambda: time.sleep(0.02))
    steady = Steady(connections.connect, most=1)
    steady.publish(1e6, 3, connections.publish)
    assert steady.late >= 0.04


def test_a_request_that_fails_is_the_end() -> None:
    def fail() -> None:
        raise BenchError("publish: 401")

    connections = Connections(fail)
    steady = Steady(connections.connect)
    with pytest.raises(BenchError, match="401"):
        steady.publish(100.0, 1000, connections.publish)
    assert len(connections.due) < 500


@pytest.mark.parametrize("number", ["-3", "nan", "0", "inf", "fast", ""])
@pytest.mark.parametrize("option", ["--rate", "--clients"])
def test_numbers_that_are_none(
    capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    with pytest.raises(SystemExit):
        bench.main([f"{option}={number}"])
    said = capsys.readouterr().err
    whole = "" if option == "--rate" else "whole "
    assert f"argument {option}: {number!r} is not a {whole}number above 0" in said
