"""What the memory engine lets go of, and that it takes its time for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.bench import DAY, ENGINES, Bench, run, start
from twisted_push.engines import streams


@pytest.fixture(params=sorted(ENGINES))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = start(ENGINES[request.param])
    yield bench
    run(bench.engine.stop())
    assert bench.clock.getDelayedCalls() == []


def known(bench: Bench) -> int:
    """Give how many streams there are."""
    engine: Any = bench.engine
    return len(engine._streams.channels)


def test_nothing_is_kept_of_channels_that_were_only_asked_for(bench: Bench) -> None:
    for number in range(1000):
        bench.since(f"c{number}")
        bench.history(f"c{number}")
    assert known(bench) == 1000
    bench.later(31.0)
    assert known(bench) == 0


def test_very_many_streams_are_looked_at_in_turns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLICE", 10)
    for number in range(35):
        bench.since(f"c{number}")
    bench.clock.advance(29.0)
    left = []
    call_later = bench.clock.callLater

    def noted(delay: float, *given: Any, **more: Any) -> Any:
        if not delay:
            left.append(known(bench))
        return call_later(delay, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(bench.clock, "callLater", noted)
        bench.later(2.0)
    assert left == [25, 15, 5]
    assert known(bench) == 0


def test_a_sweep_that_takes_long_is_not_begun_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLICE", 10)
    for number in range(35):
        bench.publish(f"c{number}", size=10)
    engine: Any = bench.engine
    engine._sweep()
    turns = len(bench.clock.getDelayedCalls())
    engine._sweep()
    assert len(bench.clock.getDelayedCalls()) == turns
    bench.later(DAY + 120.0)
    assert known(bench) == 0
    for number in range(35):
        bench.publish(f"c{number}", size=10)
    engine._sweep()  # The engine stops in its midst.
