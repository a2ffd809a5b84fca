"""Channels in which nothing happens: their positions hold, and nothing is kept for them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.bench import DAY, ENGINES, Bench, run, settle, start
from twisted_push.engines.quiet import QUIET_PERIOD, Quiet
from twisted_push.engines.streams import STREAM_LIFE
from twisted_push.model import Recovered, StreamPosition


def pass_time(bench: Bench, seconds: float) -> None:
    """Let time pass, and have the engine look at it only in the end."""
    settle()
    bench.clock.advance(max(0.0, seconds - 60.0))
    bench.later(min(seconds, 60.0))


@pytest.mark.parametrize("hours", [0.0, 0.1, 1.0, 7.9])
def test_the_position_of_a_channel_that_nobody_uses_holds_for_hours(
    bench: Bench, hours: float
) -> None:
    position = bench.since("a").position
    pass_time(bench, hours * 3600.0)
    found = bench.since("a", position)
    assert found.complete
    assert found.position.offset == 0
    assert bench.history("a", position).complete
    for number in range(3):
        bench.publish("a", b"%d" % number, size=3, ttl=600.0)
    assert [p.data for p in bench.since("a", position).publications] == [b"0", b"1", b"2"]
    assert len(bench.history("a", position).publications) == 3
    assert not bench.since("a", position, limit=2).complete
    assert bench.since("a", found.position).complete
    pass_time(bench, 600.0)  # Two hours are left for what follows.
    assert not bench.since("a", position).complete
    assert not bench.since("a", found.position).complete


def test_what_is_pushed_out_is_missing_at_the_beginning_too(bench: Bench) -> None:
    position = bench.since("a").position
    pass_time(bench, 3600.0)
    for _ in range(3):
        bench.publish("a", size=2, ttl=600.0)
    assert not bench.since("a", position).complete
    assert not bench.history("a", position).complete


def test_a_position_of_a_quiet_channel_does_not_outlive_a_stream(bench: Bench) -> None:
    before = bench.since("a").position
    bench.publish("a", size=10, ttl=60.0)
    pass_time(bench, STREAM_LIFE + 120.0)
    assert bench.since("a").position.offset == 0  # It was forgotten.
    assert not bench.since("a", before).complete
    bench.publish("a", size=10, ttl=60.0)
    assert not bench.since("a", before).complete


def test_one_who_was_in_a_quiet_channel_for_days_can_come_back_for_a_day(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    position = bench.since("a").position
    for _ in range(3):
        pass_time(bench, DAY)
        assert bench.since("a").position == position
    run(bench.engine.unsubscribe("a"))
    pass_time(bench, DAY / 2)
    assert bench.since("a", position) == Recovered((), position, complete=True)
    pass_time(bench, DAY + 60.0)
    assert not bench.since("a", position).complete


@pytest.mark.parametrize(
    "epoch", ["{}", "{}.", "{}.x", "{}.-1", "{}.1", "{}." + "f" * 1000, ".", "", "{}.\ud800"]
)
def test_an_epoch_that_was_not_given_lately_proves_nothing(bench: Bench, epoch: str) -> None:
    name = bench.since("a").position.epoch.partition(".")[0]
    for _ in range(2):
        assert not bench.since("a", StreamPosition(0, epoch.format(name))).complete
        bench.publish("a", size=10)


def test_the_epoch_of_another_engine_proves_nothing() -> None:
    one, other = Quiet(), Quiet()
    assert one.is_good(one.epoch(0.0), QUIET_PERIOD)
    assert not one.is_good(other.epoch(0.0), 0.0)


def test_a_good_epoch_is_younger_than_the_life_of_a_stream_by_hours() -> None:
    assert 2 * QUIET_PERIOD + 4 * 3600.0 < STREAM_LIFE


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_position_holds_only_if_it_tells_all(data: st.DataObject) -> None:
    """Positions that were given at any time, held against everything that was published since."""
    bench = start(ENGINES[data.draw(st.sampled_from(sorted(ENGINES)))])
    sent: list[bytes] = []
    given_out: list[tuple[StreamPosition, int, float]] = []
    for _ in range(data.draw(st.integers(1, 20))):
        what = data.draw(st.sampled_from(["publish", "wait", "wait", "ask", "use", "leave"]))
        if what == "publish":
            sent.append(b"%d" % len(sent))
            bench.publish("a", sent[-1], size=4, ttl=data.draw(st.sampled_from([60.0, 90000.0])))
        elif what == "wait":
            pass_time(bench, data.draw(st.sampled_from([60.0, 3600.0, 7 * 3600.0, DAY])))
        elif what == "use":
            run(bench.engine.subscribe("a"))
        elif what == "leave":
            run(bench.engine.unsubscribe("a"))
        given_out.append((bench.since("a").position, len(sent), bench.clock.seconds()))
        for position, count, at in given_out:
            found = bench.since("a", position)
            if found.complete:
                assert [p.data for p in found.publications] == sent[count:]
            elif count == len(sent):
                assert bench.clock.seconds() - at >= QUIET_PERIOD
    run(bench.engine.stop())
