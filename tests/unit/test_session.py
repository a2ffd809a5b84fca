"""The session: its states, its bounded outbox, its allowance."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.fakes import FakeDialect, FakeOwner, FakeTransport
from twisted_push.errors import Disconnect
from twisted_push.interfaces import ITransport
from twisted_push.model import ClientInfo, Grant
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.session import MAX_KEPT, Kind, Session, State, Subscription
from twisted_push.wires import NO_DESCRIPTOR


def make(
    *,
    max_outbox: int = 1000,
    room: int | None = None,
    descriptor: int = NO_DESCRIPTOR,
    stuck: bool = False,
) -> Session:
    transport = FakeTransport(room=room, descriptor=descriptor)
    transport.stuck = stuck
    session = Session(
        client="c1",
        secret="hush",
        transport=transport,
        codec=CentrifugalCodec(lambda message: message),
        dialect=FakeDialect(),
        owner=FakeOwner(max_outbox),
        opened_at=100.0,
    )
    transport.receiver = session
    return session


def transport_of(session: Session) -> FakeTransport:
    return cast("FakeTransport", session.transport)


def owner_of(session: Session) -> FakeOwner:
    return cast("FakeOwner", session.owner)


def dialect_of(session: Session) -> FakeDialect:
    return cast("FakeDialect", session.dialect)


def close(session: Session, code: int = 3000) -> None:
    """Do what an owner does when it finishes a session."""
    session.state = State.CLOSED
    session.close_transport(Disconnect(code))


def test_the_fake_transport_is_a_transport() -> None:
    assert verifyObject(ITransport, FakeTransport())


# --- State -----------------------------------------------------------------------------------


def test_a_new_session_knows_nobody() -> None:
    session = make()
    assert session.state is State.NEW
    assert not session.closed
    assert (session.user, session.token_digest, session.grant) == ("", None, None)
    assert session.info() == ClientInfo("", "c1")


def test_sessions_are_compared_by_identity() -> None:
    one, other = make(), make()
    assert one != other
    assert len({one, other}) == 2


def test_the_repr_has_no_secret() -> None:
    session = make()
    session.token_digest = b"digest"
    session.grant = Grant("u", 0.0, raw=b"meta-secret")
    shown = repr(session)
    assert "hush" not in shown
    assert "digest'" not in shown
    assert "meta-secret" not in shown


@pytest.mark.parametrize("state", [State.NEW, State.CONNECTING, State.CONNECTED])
def test_messages_go_to_the_dialect_until_the_session_is_closed(state: State) -> None:
    session = make()
    session.state = state
    session.received(b"one")
    session.received_binary(b"\x00")
    assert dialect_of(session).messages == [b"one"]
    assert dialect_of(session).binaries == 1
    close(session)
    session.received(b"two")
    session.received_binary(b"\x00")
    assert dialect_of(session).messages == [b"one"]
    assert dialect_of(session).binaries == 1


def test_frames_that_are_no_messages_are_as_the_owner_allows_and_never_once_closed() -> None:
    session = make()
    assert session.allow_frame()
    owner_of(session).allowing = False
    assert not session.allow_frame()
    owner_of(session).allowing = True
    close(session)
    assert not session.allow_frame()


def test_a_lost_connection_is_told_to_the_owner() -> None:
    session = make()
    session.lost()
    assert owner_of(session).finished == [(session, None)]


def test_info_is_of_the_grant_and_of_the_subscription() -> None:
    session = make()
    session.user = "7"
    session.grant = Grant("7", 0.0, info=b'{"n":1}')
    session.subscriptions["room"] = Subscription("room", Kind.GRANTED, info=b'"mod"')
    assert session.info() == ClientInfo("7", "c1", b'{"n":1}')
    assert session.info("room") == ClientInfo("7", "c1", b'{"n":1}', b'"mod"')
    assert session.info("elsewhere") == ClientInfo("7", "c1", b'{"n":1}')
    session.update_info(b"2")
    assert session.info() == ClientInfo("7", "c1", b"2")


def test_updated_info_of_a_client_without_grant_is_nothing() -> None:
    session = make()
    session.update_info(b"2")
    assert session.info().conn_info is None


# --- The outbox ------------------------------------------------------------------------------


def test_frames_go_straight_out_while_the_transport_takes_them() -> None:
    session = make()
    frame = b"frame"
    session.deliver(frame)
    assert transport_of(session).sent[0] is frame


def test_what_is_kept_goes_out_in_order_and_before_what_comes_after() -> None:
    session = make()
    session.deliver(b"1")
    session.pause()
    session.pause()  # A transport says it for every write.
    for frame in (b"2", b"3", b"4"):
        session.deliver(frame, "room")
    assert transport_of(session).sent == [b"1"]
    session.pause()
    session.resume()
    session.deliver(b"5")
    assert transport_of(session).sent == [b"1", b"2", b"3", b"4", b"5"]


def test_a_transport_that_says_stop_while_it_is_given_what_was_kept() -> None:
    session = make()
    session.pause()
    for number in range(10):
        session.deliver(b"%d" % number)
    transport_of(session).room = 3
    session.resume()
    assert transport_of(session).sent == [b"0", b"1", b"2"]
    session.deliver(b"10")
    transport_of(session).room = 4
    session.resume()
    transport_of(session).room = None
    session.resume()
    assert transport_of(session).sent == [b"%d" % number for number in range(11)]
    session.deliver(b"11")
    assert transport_of(session).sent[-1] == b"11"


def test_resume_without_pause_is_nothing() -> None:
    session = make()
    session.resume()
    session.deliver(b"1")
    assert transport_of(session).sent == [b"1"]


def test_a_client_for_which_too_much_is_kept_is_closed_as_slow_later() -> None:
    session = make(max_outbox=10)
    session.pause()
    session.deliver(b"12345")
    session.deliver(b"67890")
    assert owner_of(session).later == []  # Just at the limit.
    session.deliver(b"x")
    assert owner_of(session).later == [(session, 3008)]
    assert owner_of(session).finished == []


def test_so_is_one_for_which_too_many_are_kept_however_small() -> None:
    session = make(max_outbox=10 * MAX_KEPT)
    session.pause()
    for _ in range(MAX_KEPT):
        session.deliver(b"x")
    assert owner_of(session).later == []
    session.deliver(b"x")
    assert owner_of(session).later == [(session, 3008)]


def test_a_slow_client_is_closed_once_however_much_follows() -> None:
    session = make(max_outbox=10)
    session.pause()
    for _ in range(100):
        session.deliver(b"123456")
    assert owner_of(session).later == [(session, 3008)]


def test_a_slow_client_is_sent_nothing_that_follows_the_gap() -> None:
    """It would take a later offset for its position, and recover from behind the gap."""
    session = make(max_outbox=10)
    session.pause()
    session.deliver(b"offset 1")
    session.deliver(b"offset 2")  # Too much: both are dropped.
    session.deliver(b"offset 3")
    session.resume()  # The socket took what it had, in the same turn.
    session.deliver(b"offset 4")
    assert transport_of(session).sent == []


@pytest.mark.parametrize("paused", [False, True])
def test_a_session_that_ends_later_is_sent_nothing_until_then_and_ends_once(paused: bool) -> None:
    session = make()
    session.deliver(b"1")
    if paused:
        session.pause()
        session.deliver(b"2")
    session.end_later(Disconnect(3010))
    session.end_later(Disconnect(3008))
    session.deliver(b"3")
    session.resume()
    session.deliver(b"4")
    assert transport_of(session).sent == [b"1"]
    assert owner_of(session).later == [(session, 3010)]
    assert owner_of(session).finished == []


def test_the_limit_counts_anew_after_what_was_kept_is_out() -> None:
    session = make(max_outbox=10)
    for _ in range(5):
        session.pause()
        session.deliver(b"1234567890")
        session.resume()
    assert owner_of(session).later == []
    assert len(transport_of(session).sent) == 5


def test_the_limit_counts_what_is_still_kept_after_a_partial_resume() -> None:
    session = make(max_outbox=10)
    session.pause()
    session.deliver(b"12345")
    session.deliver(b"67890")
    transport_of(session).room = 1
    session.resume()
    assert transport_of(session).sent == [b"12345"]
    session.deliver(b"abcde")
    assert owner_of(session).later == []
    session.deliver(b"f")
    assert owner_of(session).later == [(session, 3008)]


def keep(session: Session, kept: int) -> None:
    """Have the transport keep so many bytes of the next frame, and say stop."""
    transport_of(session).room, transport_of(session).kept = 1, kept


def test_what_the_transport_keeps_of_a_publication_counts_as_well() -> None:
    session = make(max_outbox=10)
    keep(session, 7)
    session.deliver(b"many publications", "a")
    session.deliver(b"123", "a")
    assert owner_of(session).later == []
    session.deliver(b"4", "a")
    assert owner_of(session).later == [(session, 3008)]


def test_one_write_of_which_the_transport_keeps_too_much() -> None:
    session = make(max_outbox=10)
    keep(session, 11)
    session.deliver(b"many publications", "a")
    assert owner_of(session).later == [(session, 3008)]


@pytest.mark.parametrize(
    ("of", "otherwise"), [(None, None), ("a", b"refusal"), (frozenset(["a"]), None)]
)
def test_no_client_is_closed_for_one_answer(
    of: str | frozenset[str] | None, otherwise: bytes | None
) -> None:
    session = make(max_outbox=10)
    keep(session, 11)
    session.deliver(b"much that was recovered", of, otherwise)
    session.deliver(b"1234567890", "a")
    assert owner_of(session).later == []
    session.deliver(b"x", "a")
    assert owner_of(session).later == [(session, 3008)]


def test_what_the_transport_keeps_counts_until_it_says_go() -> None:
    session = make(max_outbox=10)
    keep(session, 7)
    session.deliver(b"many publications", "a")
    session.deliver(b"123", "b")
    keep(session, 2)
    session.resume()  # The last that was kept stops the transport again.
    session.deliver(b"12345678", "a")
    assert owner_of(session).later == []
    session.deliver(b"9", "a")
    assert owner_of(session).later == [(session, 3008)]


def test_a_channel_that_is_over_is_not_what_the_transport_keeps() -> None:
    session = make(max_outbox=10)
    keep(session, 7)
    session.deliver(b"many publications", "a")
    session.deliver(b"123", "b")
    session.forget_channel("b")
    session.deliver(b"456", "c")
    assert owner_of(session).later == []
    session.deliver(b"7", "c")
    assert owner_of(session).later == [(session, 3008)]


def test_a_channel_that_is_over_loses_only_its_own_frames() -> None:
    session = make()
    session.pause()
    session.deliver(b"reply")
    session.deliver(b"a1", "a")
    session.deliver(b"b1", "b")
    session.deliver(b"a2", "a")
    session.deliver(b"b2", "b")
    session.forget_channel("a")
    session.forget_channel("unknown")
    session.resume()
    assert transport_of(session).sent == [b"reply", b"b1", b"b2"]


def test_a_forgotten_channel_no_longer_counts_against_the_limit() -> None:
    session = make(max_outbox=10)
    session.pause()
    session.deliver(b"1234567890", "a")
    session.forget_channel("a")
    session.deliver(b"1234567890", "b")
    assert owner_of(session).later == []


def test_a_channel_whose_every_frame_is_forgotten_leaves_the_session_paused() -> None:
    session = make()
    session.pause()
    session.deliver(b"a1", "a")
    session.forget_channel("a")
    session.deliver(b"b1", "b")
    assert transport_of(session).sent == []
    session.resume()
    assert transport_of(session).sent == [b"b1"]


def test_forgetting_without_pause_is_nothing() -> None:
    session = make()
    session.forget_channel("a")
    session.deliver(b"1")
    assert transport_of(session).sent == [b"1"]


def test_nothing_is_delivered_after_the_close() -> None:
    session = make()
    session.deliver(b"1")
    session.pause()
    session.deliver(b"kept", "room")
    close(session, 3503)
    session.deliver(b"2")
    session.resume()
    session.deliver(b"3")
    session.pause()
    session.deliver(b"4")
    session.resume()
    transport = transport_of(session)
    assert transport.sent == [b"1"]
    assert transport.closed_with is not None
    assert transport.closed_with.code == 3503
    assert owner_of(session).later == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("deliver"), st.sampled_from([None, "a", "b"])),
            st.tuples(st.just("pause"), st.none()),
            st.tuples(st.just("resume"), st.integers(1, 5)),
            st.tuples(st.just("resume"), st.none()),
            st.tuples(st.just("forget"), st.sampled_from(["a", "b"])),
        ),
        max_size=40,
    )
)
def test_any_order_of_events_sends_every_frame_once_and_in_order(
    steps: list[tuple[str, str | int | None]],
) -> None:
    session = make(max_outbox=10**6)
    transport = transport_of(session)
    expected: list[tuple[bytes, str | None]] = []  # What must have been sent when all is out.
    for number, (what, value) in enumerate(steps):
        if what == "deliver":
            frame = b"%d" % number
            session.deliver(frame, cast("str | None", value))
            expected.append((frame, cast("str | None", value)))
        elif what == "pause":
            session.pause()
        elif what == "resume":
            transport.room = cast("int | None", value)
            session.resume()
        else:
            session.forget_channel(cast("str", value))
            out = set(transport.sent)
            expected = [kept for kept in expected if kept[0] in out or kept[1] != value]
        transport.room = None if what != "resume" else transport.room
        assert transport.sent == [frame for frame, _ in expected][: len(transport.sent)]
    transport.room = None
    session.resume()
    assert transport.sent == [frame for frame, _ in expected]


# --- The allowance ---------------------------------------------------------------------------


def test_a_burst_of_twice_the_rate_then_the_rate() -> None:
    session = make()
    assert [session.allow(100.0, 10) for _ in range(21)] == [True] * 20 + [False]
    assert not session.allow(100.05, 10)
    assert session.allow(100.15, 10)
    assert not session.allow(100.15, 10)
    assert [session.allow(101.15, 10) for _ in range(11)] == [True] * 10 + [False]


def test_a_long_silence_earns_no_more_than_one_burst() -> None:
    session = make()
    assert [session.allow(1e6, 10) for _ in range(21)] == [True] * 20 + [False]


def test_a_clock_that_is_set_back_takes_nothing_from_a_client() -> None:
    session = make()
    assert session.allow(100.0, 10)
    assert session.allow(40.0, 10)
    assert [session.allow(40.0, 10) for _ in range(18)] == [True] * 18
    assert not session.allow(40.0, 10)
    assert session.allow(40.2, 10)


def test_a_rate_of_zero_is_no_limit() -> None:
    session = make()
    assert all(session.allow(100.0, 0) for _ in range(10_000))


@given(st.lists(st.integers(0, 2000), max_size=200), st.integers(1, 50))
def test_never_more_than_the_rate_and_one_burst(pauses: list[int], rate: int) -> None:
    session = make()
    now = 100.0
    taken = 0
    for pause in pauses:
        now += pause / 1024
        taken += session.allow(now, rate)
    assert taken <= 2 * rate + (now - 100.0) * rate + 1e-6


# --- Past the transport ----------------------------------------------------------------------


def make_direct(*, stuck: bool = False) -> Session:
    return make(max_outbox=10, descriptor=5, stuck=stuck)


def is_open(session: Session) -> bool:
    return bool(session.owner.wires.numbers[5])


def test_a_descriptor_is_open_while_nothing_is_kept() -> None:
    session = make_direct()
    assert is_open(session)
    session.pause()
    assert not is_open(session)
    session.deliver(b"1")
    session.resume()
    assert is_open(session)
    assert transport_of(session).sent == [b"1"]


def test_it_is_not_open_before_the_answer_to_the_opening_request_has_left() -> None:
    session = make_direct(stuck=True)
    assert not is_open(session)
    session.resume()
    assert is_open(session)


def test_it_stays_shut_while_the_transport_stops_again_and_again() -> None:
    session = make_direct()
    session.pause()
    session.deliver(b"1")
    session.deliver(b"2")
    transport_of(session).room = 1
    session.resume()
    assert transport_of(session).sent == [b"1"]
    assert not is_open(session)
    transport_of(session).room = None
    session.resume()
    assert transport_of(session).sent == [b"1", b"2"]
    assert is_open(session)


def test_a_client_that_is_too_slow_is_not_written_to_after_the_gap() -> None:
    session = make_direct()
    session.pause()
    session.deliver(b"more than ten bytes")
    assert session.ending
    session.resume()
    assert not is_open(session)


@pytest.mark.parametrize(
    "how",
    [
        close,
        lambda session: session.closing(),
        lambda session: session.lost(),
        lambda session: session.end_later(Disconnect(3000)),
    ],
)
def test_a_descriptor_is_shut_when_it_ends(how: Callable[[Session], None]) -> None:
    session = make_direct()
    how(session)
    assert not is_open(session)


def test_what_is_on_its_way_of_a_channel_that_is_taken_is_the_last() -> None:
    session = make_direct()
    transport_of(session).room, transport_of(session).stuck = 1, True
    session.deliver(b"1", "c")
    session.withdraw("c")
    assert transport_of(session).aborted
    assert not is_open(session)


def test_the_number_of_a_connection_that_is_lost_is_forgotten() -> None:
    session = make_direct()
    session.lost()
    assert session.descriptor == NO_DESCRIPTOR
