"""What every engine does. An engine takes part with a factory in `bench.ENGINES`.

No test looks inside an engine.
"""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.contract.bench import DAY, ENGINES, Bench, Factory, run, start
from tests.fakes import FakeEvents
from twisted_push.errors import Overloaded
from twisted_push.interfaces import IEngine, IEngineEvents
from twisted_push.model import (
    ChannelGrant,
    ChannelOverlay,
    ClientInfo,
    Grant,
    PresenceList,
    Publication,
    PublishOptions,
    Recovered,
    StreamPosition,
)


def info(client: str, user: str = "u", **more: bytes) -> ClientInfo:
    return ClientInfo(user, client, **more)


# --- The interface ---------------------------------------------------------------------------


def test_it_is_an_engine_and_the_fake_events_are_events(bench: Bench) -> None:
    assert verifyObject(IEngine, bench.engine)
    assert verifyObject(IEngineEvents, bench.events)


def test_stop_ends_every_timer_also_a_second_time_and_before_a_start(factory: Factory) -> None:
    clock = Clock()
    engine = factory(clock)
    run(engine.stop())
    run(engine.start(FakeEvents()))
    clock.advance(100.0)
    run(engine.stop())
    run(engine.stop())
    assert clock.getDelayedCalls() == []


def test_nothing_is_told_after_stop(factory: Factory) -> None:
    bench = start(factory)
    run(bench.engine.subscribe("a"))
    run(bench.engine.stop())
    bench.publish("a")
    run(bench.engine.presence_add("a", info("c")))
    assert bench.events.publications == []
    assert bench.events.told == []


def test_a_stopped_engine_does_not_hold_its_node(factory: Factory) -> None:
    bench = start(factory)
    run(bench.engine.stop())
    events = weakref.ref(bench.events)
    bench.events = FakeEvents()
    gc.collect()
    assert events() is None


# --- Publications ----------------------------------------------------------------------------


def test_only_subscribed_channels_are_announced(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    assert bench.publish("a") == (None, 1)
    assert bench.publish("b") == (None, 0)
    assert [p.channel for p in bench.events.publications] == ["a"]


def test_the_number_of_recipients_is_what_the_node_says(bench: Bench) -> None:
    bench.events.recipients = 17
    run(bench.engine.subscribe("a"))
    assert bench.publish("a") == (None, 17)


def test_subscribing_twice_announces_once_and_one_unsubscribe_ends_it(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    run(bench.engine.subscribe("a"))
    bench.publish("a")
    assert len(bench.events.publications) == 1
    run(bench.engine.unsubscribe("a"))
    run(bench.engine.unsubscribe("a"))
    bench.publish("a")
    assert len(bench.events.publications) == 1


def test_unsubscribing_from_the_unknown_is_nothing(bench: Bench) -> None:
    run(bench.engine.unsubscribe("never"))


def test_publications_are_announced_as_they_are_in_their_order(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    who = info("c", conn_info=b"{}")
    sent = [
        Publication(
            "a",
            b'{"n":%d}' % number,
            info=who,
            tags={"t": "1"},
            extra={"callback": b'"f"'},
            time=number,
        )
        for number in range(50)
    ]
    for publication in sent:
        run(bench.engine.publish(publication, PublishOptions(0, 60.0)))
    assert bench.events.publications == sent


def test_a_publication_is_announced_with_the_position_that_is_answered(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    positions = [bench.publish("a", b"%d" % n, size=10)[0] for n in range(5)]
    assert [p.position for p in bench.events.publications] == positions
    assert [p.offset for p in positions if p] == [1, 2, 3, 4, 5]
    assert len({p.epoch for p in positions if p}) == 1


def test_a_publication_without_history_has_no_position_and_takes_no_offset(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    bench.publish("a", size=10)
    assert bench.publish("a", size=0) == (None, 1)
    position, _ = bench.publish("a", size=10)
    assert position is not None
    assert position.offset == 2
    assert [p.position is None for p in bench.events.publications] == [False, True, False]


def test_it_is_in_the_stream_when_it_is_announced(factory: Factory) -> None:
    bench = start(factory)
    seen: list[int] = []

    class Looking(FakeEvents):
        def publication_received(self, publication: Publication) -> int:
            seen.append(bench.since("a").position.offset)
            return 0

    run(bench.engine.stop())
    bench.engine = factory(bench.clock)
    run(bench.engine.start(Looking()))
    run(bench.engine.subscribe("a"))
    for _ in range(3):
        bench.publish("a", size=10)
    assert seen == [1, 2, 3]
    run(bench.engine.stop())


def test_two_channels_and_two_engines_have_nothing_in_common(factory: Factory) -> None:
    one, other = start(factory), start(factory)
    run(other.engine.subscribe("a"))
    first, _ = one.publish("a", size=10)
    second, _ = one.publish("b", size=10)
    assert first is not None
    assert second is not None
    assert (first.offset, second.offset) == (1, 1)
    assert other.since("a").position.offset == 0
    assert other.since("a").position.epoch != first.epoch
    assert other.events.publications == []
    one.put(b"t", one.grant())
    assert other.get(b"t") is None
    run(one.engine.stop())
    run(other.engine.stop())


# --- History ---------------------------------------------------------------------------------


def test_where_a_new_stream_stands(bench: Bench) -> None:
    found = bench.since("a")
    assert found.complete
    assert found.publications == ()
    assert found.position.offset == 0
    assert found.position.epoch
    assert bench.since("a") == found


def test_the_position_of_a_stream_that_was_asked_for_holds_for_its_first_publication(
    bench: Bench,
) -> None:
    before = bench.since("a").position
    bench.publish("a", b"1", size=10)
    found = bench.since("a", before)
    assert found.complete
    assert [p.data for p in found.publications] == [b"1"]


def test_since_gives_what_was_missed_with_positions(bench: Bench) -> None:
    for number in range(1, 6):
        bench.publish("a", b"%d" % number, size=10)
    epoch = bench.since("a").position.epoch
    found = bench.since("a", StreamPosition(2, epoch))
    assert found.complete
    assert found.position == StreamPosition(5, epoch)
    assert [p.data for p in found.publications] == [b"3", b"4", b"5"]
    assert [p.position for p in found.publications] == [
        StreamPosition(offset, epoch) for offset in (3, 4, 5)
    ]


@pytest.mark.parametrize(
    ("offset", "limit", "complete"),
    [
        (5, 300, True),  # Nothing missed.
        (5, 0, True),
        (3, 2, True),  # As many as the limit.
        (2, 2, False),  # One more.
        (2, 3, True),  # All that is kept.
        (1, 300, False),  # One is gone.
        (0, 300, False),
        (6, 300, False),  # From the future.
        (2**63, 300, False),
        (-1, 300, False),
    ],
)
def test_all_that_was_missed_or_nothing(
    bench: Bench, offset: int, limit: int, complete: bool
) -> None:
    for number in range(1, 6):
        bench.publish("a", b"%d" % number, size=3)
    position = bench.since("a").position
    found = bench.since("a", StreamPosition(offset, position.epoch), limit)
    assert found.complete is complete
    assert found.position == position
    assert len(found.publications) == (5 - offset if complete else 0)


@pytest.mark.parametrize("epoch", ["", "other", "\u2028"])
def test_another_epoch_proves_nothing(bench: Bench, epoch: str) -> None:
    bench.publish("a", size=10)
    for offset in (0, 1):
        found = bench.since("a", StreamPosition(offset, epoch))
        assert not found.complete
        assert found.publications == ()


def test_publications_go_after_their_time_and_the_position_stays(bench: Bench) -> None:
    bench.publish("a", b"1", size=10, ttl=60.0)
    start = StreamPosition(0, bench.since("a").position.epoch)
    bench.later(59.0)
    assert bench.since("a", start).complete
    bench.publish("a", b"2", size=10, ttl=60.0)
    bench.later(1.0)
    assert not bench.since("a", start).complete
    assert bench.since("a", StreamPosition(1, start.epoch)).complete
    bench.later(3600.0)
    top = StreamPosition(2, start.epoch)
    assert bench.since("a", top) == Recovered((), top, complete=True)
    assert not bench.since("a", StreamPosition(1, start.epoch)).complete
    position, _ = bench.publish("a", b"3", size=10, ttl=60.0)
    assert position == StreamPosition(3, start.epoch)
    assert [p.data for p in bench.since("a", top).publications] == [b"3"]


def test_a_stream_in_use_keeps_its_epoch_for_days(bench: Bench) -> None:
    epoch = bench.since("a").position.epoch
    for _ in range(10):
        bench.publish("a", size=10)
        bench.later(DAY / 2)
    assert bench.since("a").position == StreamPosition(10, epoch)


def test_a_stream_that_nobody_uses_is_forgotten(bench: Bench) -> None:
    bench.publish("a", size=10, ttl=60.0)
    old = bench.since("a").position
    bench.later(7 * DAY)
    new = bench.since("a").position
    assert new.epoch != old.epoch
    assert new.offset == 0
    assert not bench.since("a", old).complete


def test_a_stream_that_somebody_here_follows_is_never_forgotten(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    run(bench.engine.subscribe("quiet"))
    bench.publish("a", size=10, ttl=60.0)
    positions = bench.since("a").position, bench.since("quiet").position
    bench.later(7 * DAY)
    assert (bench.since("a").position, bench.since("quiet").position) == positions


def test_a_stream_without_publications_outlives_a_reload_of_the_page(bench: Bench) -> None:
    position = bench.since("a").position
    bench.later(20.0)
    assert bench.since("a", position) == Recovered((), position, complete=True)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_use_never_fills_in_part(data: st.DataObject) -> None:
    factory = ENGINES[data.draw(st.sampled_from(sorted(ENGINES)))]
    bench = start(factory)
    sent: list[bytes] = []
    run(bench.engine.subscribe("a"))
    epoch = bench.since("a").position.epoch
    for _ in range(data.draw(st.integers(0, 25))):
        if data.draw(st.booleans()):
            sent.append(b"%d" % len(sent))
            bench.publish("a", sent[-1], size=data.draw(st.integers(1, 6)), ttl=60.0)
        elif data.draw(st.booleans()):
            bench.later(data.draw(st.sampled_from([1.0, 30.0, 61.0])))
        else:
            offset = data.draw(st.integers(0, len(sent) + 2))
            limit = data.draw(st.integers(0, 8))
            found = bench.since("a", StreamPosition(offset, epoch), limit)
            assert found.position == StreamPosition(len(sent), epoch)
            got = [p.data for p in found.publications]
            assert got == (sent[offset:] if found.complete else [])
            assert not (found.complete and offset > len(sent))
            assert len(got) <= limit
    run(bench.engine.stop())


# --- Presence --------------------------------------------------------------------------------


def test_who_is_in_a_channel(bench: Bench) -> None:
    one, two = info("c1", conn_info=b"1"), info("c2", chan_info=b"2")
    run(bench.engine.presence_add("a", one))
    run(bench.engine.presence_add("a", two))
    run(bench.engine.presence_add("b", one))
    assert run(bench.engine.presence("a")) == {"c1": one, "c2": two}
    assert run(bench.engine.presence("nobody")) == {}
    run(bench.engine.presence_remove("a", one))
    assert run(bench.engine.presence("a")) == {"c2": two}
    assert run(bench.engine.presence("b")) == {"c1": one}
    assert bench.events.told == [
        ("joined", "a", one),
        ("joined", "a", two),
        ("joined", "b", one),
        ("left", "a", one),
    ]


def test_new_info_of_one_who_is_there_is_no_second_join(bench: Bench) -> None:
    old, new = info("c1", conn_info=b"1"), info("c1", conn_info=b"2")
    run(bench.engine.presence_add("a", old))
    run(bench.engine.presence_add("a", new))
    assert run(bench.engine.presence("a")) == {"c1": new}
    run(bench.engine.presence_remove("a", old))
    assert bench.events.told == [("joined", "a", old), ("left", "a", new)]


def test_one_who_is_not_there_does_not_leave(bench: Bench) -> None:
    run(bench.engine.presence_remove("a", info("c1")))
    run(bench.engine.presence_add("a", info("c1")))
    run(bench.engine.presence_remove("a", info("c2")))
    run(bench.engine.presence_remove("a", info("c1")))
    run(bench.engine.presence_remove("a", info("c1")))
    assert [event[0] for event in bench.events.told] == ["joined", "left"]


def test_what_presence_gave_does_not_change(bench: Bench) -> None:
    run(bench.engine.presence_add("a", info("c1")))
    found = run(bench.engine.presence("a"))
    run(bench.engine.presence_add("a", info("c2")))
    assert list(found) == ["c1"]


# --- Grants and what ends them ---------------------------------------------------------------


def test_a_kept_grant_comes_back_until_its_time_is_over(bench: Bench) -> None:
    grant = Grant("u", bench.clock.seconds(), {"a": ChannelGrant(b"1")}, info=b"{}", raw=b"m")
    assert bench.get(b"t") is None
    assert bench.put(b"t", grant, bench.clock.seconds() + 60.0)
    assert bench.get(b"t") == grant
    assert bench.get(b"other") is None
    bench.later(59.5)
    assert bench.get(b"t") == grant
    bench.later(0.5)
    assert bench.get(b"t") is None


@pytest.mark.parametrize("past", [0.0, 0.001, 1e9])
def test_a_grant_whose_time_is_already_over_does_not_come_back(bench: Bench, past: float) -> None:
    bench.put(b"t", bench.grant())
    bench.put(b"t", bench.grant(), bench.clock.seconds() - past)
    assert bench.get(b"t") is None


def test_a_newer_grant_replaces_the_older(bench: Bench) -> None:
    bench.put(b"t", bench.grant("u"))
    bench.put(b"t", bench.grant("v"))
    found = bench.get(b"t")
    assert found is not None
    assert found.user == "v"


def test_a_grant_without_token_is_not_kept_but_answered(bench: Bench) -> None:
    assert bench.put(None, bench.grant())
    run(bench.engine.revoke_user("u", bench.clock.seconds() + DAY))
    assert not bench.put(None, bench.grant())


def test_logout_of_a_token_ends_it_and_no_other(bench: Bench) -> None:
    grant = bench.grant()
    bench.put(b"t", grant)
    bench.put(b"other", grant)
    run(bench.engine.revoke_token(b"t", bench.clock.seconds() + DAY))
    assert bench.get(b"t") is None
    assert bench.get(b"other") == grant
    assert not run(bench.engine.grant_valid(b"t", grant))
    assert run(bench.engine.grant_valid(b"other", grant))
    assert run(bench.engine.token_revoked(b"t"))
    assert not run(bench.engine.token_revoked(b"other"))
    bench.later(DAY + 1.0)
    assert not run(bench.engine.token_revoked(b"t"))


def test_a_late_yes_of_the_cms_does_not_beat_the_logout_of_a_token(bench: Bench) -> None:
    grant = bench.grant()  # Asked before the logout …
    bench.later(1.0)
    run(bench.engine.revoke_token(b"t", bench.clock.seconds() + DAY))
    bench.later(1.0)
    assert not bench.put(b"t", grant)  # … answered after it.
    assert not bench.put(b"t", bench.grant())  # Nor is one that is asked anew.
    assert bench.get(b"t") is None


def test_the_logout_of_a_token_that_nobody_knows_counts_as_well(bench: Bench) -> None:
    run(bench.engine.revoke_token(b"never seen", bench.clock.seconds() + DAY))
    assert not bench.put(b"never seen", bench.grant())


def test_logout_of_a_user_ends_every_token_that_is_known(bench: Bench) -> None:
    bench.put(b"t1", bench.grant("u"))
    bench.put(b"t2", bench.grant("u"))
    bench.put(b"t3", bench.grant("v"))
    run(bench.engine.revoke_user("u", bench.clock.seconds() + DAY))
    assert bench.get(b"t1") is None
    assert bench.get(b"t2") is None
    assert bench.get(b"t3") is not None
    bench.later(1.0)
    assert not bench.put(b"t1", bench.grant("u"))  # The token is refused, asked anew or not.
    assert bench.put(b"t4", bench.grant("u"))  # A new login is not.
    assert bench.get(b"t4") is not None


@pytest.mark.parametrize(("issued", "kept"), [(-1.0, False), (0.0, False), (0.5, True)])
def test_logout_of_a_user_beats_what_was_issued_up_to_it(
    bench: Bench, issued: float, kept: bool
) -> None:
    at = bench.clock.seconds()
    run(bench.engine.revoke_user("u", at + DAY))
    bench.later(1.0)
    grant = bench.grant("u", at + issued)
    assert run(bench.engine.grant_valid(b"t", grant)) is kept
    assert bench.put(b"t", grant) is kept
    assert (bench.get(b"t") is not None) is kept
    assert bench.put(b"t2", bench.grant("v", at + issued))


@pytest.mark.parametrize(("issued", "kept"), [(-1.0, False), (0.0, False), (0.5, True)])
def test_a_kick_beats_the_answers_that_were_on_their_way(
    bench: Bench, issued: float, kept: bool
) -> None:
    at = bench.clock.seconds()
    bench.put(b"t", bench.grant("u", at - 10.0))
    bench.put(b"v", bench.grant("v", at - 10.0))
    run(bench.engine.grant_forget("u"))
    assert bench.get(b"t") is None
    assert bench.get(b"v") is not None
    bench.later(1.0)
    assert bench.put(b"t", bench.grant("u", at + issued)) is kept
    assert (bench.get(b"t") is not None) is kept


def test_a_kick_does_not_end_a_signed_token(bench: Bench) -> None:
    grant = bench.grant("u")
    run(bench.engine.grant_forget("u"))
    assert run(bench.engine.grant_valid(b"t", grant))


def test_a_second_logout_counts_from_its_own_time(bench: Bench) -> None:
    run(bench.engine.revoke_user("u", bench.clock.seconds() + DAY))
    bench.later(10.0)
    between = bench.grant("u")
    assert bench.put(b"t", between)
    bench.later(10.0)
    run(bench.engine.revoke_user("u", bench.clock.seconds() + DAY))
    assert bench.get(b"t") is None
    assert not run(bench.engine.grant_valid(b"t2", between))


def test_a_revocation_holds_until_its_end_and_then_makes_room(bench: Bench) -> None:
    old = bench.grant("u")
    at = bench.clock.seconds()
    run(bench.engine.revoke_token(b"t", at + 600.0))
    run(bench.engine.revoke_user("u", at + 600.0))
    bench.later(599.0)
    assert not run(bench.engine.grant_valid(b"t", bench.grant("v")))
    assert not run(bench.engine.grant_valid(b"x", old))
    bench.later(DAY)
    assert run(bench.engine.grant_valid(b"t", bench.grant("v")))
    assert run(bench.engine.grant_valid(b"x", old))


def test_a_revocation_whose_end_is_over_does_not_stay(bench: Bench) -> None:
    at = bench.clock.seconds()
    run(bench.engine.revoke_token(b"t", at - 1.0))
    run(bench.engine.revoke_user("u", at - 1.0))
    assert bench.get(b"t") is None
    bench.later(DAY)
    assert bench.put(b"t", bench.grant("u", at))


def test_a_kick_holds_for_as_long_as_an_answer_can_be_on_its_way(bench: Bench) -> None:
    old = bench.grant("u")
    run(bench.engine.grant_forget("u"))
    bench.later(3600.0)
    assert not bench.put(b"t", old)


ACTIONS = ("put", "put old", "revoke token", "revoke user", "forget", "later")


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from("uv"), st.sampled_from("st"))))
@settings(max_examples=150, deadline=None)
def test_in_any_order_a_grant_never_outlives_what_ended_it(
    steps: list[tuple[str, str, str]],
) -> None:
    for factory in ENGINES.values():
        bench = start(factory)
        dead_tokens: set[str] = set()
        logout: dict[str, float] = {}
        kick: dict[str, float] = {}
        kept: dict[str, Grant] = {}
        for action, user, token in steps:
            now = bench.clock.seconds()
            if action.startswith("put"):
                grant = bench.grant(user, now if action == "put" else now - 5.0)
                beaten = token in dead_tokens or any(
                    grant.issued_at <= ended.get(user, 0.0) for ended in (logout, kick)
                )
                assert bench.put(token.encode(), grant, now + 1e6) is not beaten
                if not beaten:
                    kept[token] = grant
            elif action == "revoke token":
                run(bench.engine.revoke_token(token.encode(), now + 1e6))
                dead_tokens.add(token)
                kept.pop(token, None)
            elif action == "revoke user":
                run(bench.engine.revoke_user(user, now + 1e6))
                logout[user] = now
                dead_tokens |= {name for name, grant in kept.items() if grant.user == user}
                kept = {name: grant for name, grant in kept.items() if grant.user != user}
            elif action == "forget":
                run(bench.engine.grant_forget(user))
                kick[user] = now
                kept = {name: grant for name, grant in kept.items() if grant.user != user}
            else:
                bench.later(2.0)
            for name in "st":
                assert bench.get(name.encode()) == kept.get(name)
                probe = bench.grant("u", bench.clock.seconds() - 3.0)
                valid = name not in dead_tokens and probe.issued_at > logout.get("u", 0.0)
                assert run(bench.engine.grant_valid(name.encode(), probe)) is valid
        run(bench.engine.stop())


# --- Overlays --------------------------------------------------------------------------------


def test_the_last_word_on_a_channel_of_a_user_counts(bench: Bench) -> None:
    at = bench.clock.seconds()
    added = ChannelOverlay(at, ChannelGrant(b"1", b"2"), at + DAY)
    removed = ChannelOverlay(at + 1.0, None, at + DAY)
    run(bench.engine.overlay_set("u", "a", added))
    run(bench.engine.overlay_set("u", "b", added))
    run(bench.engine.overlay_set("v", "a", added))
    run(bench.engine.overlay_set("u", "a", removed))
    assert run(bench.engine.overlays("u")) == {"a": removed, "b": added}
    assert run(bench.engine.overlays("v")) == {"a": added}
    assert run(bench.engine.overlays("nobody")) == {}


def test_what_overlays_gave_does_not_change(bench: Bench) -> None:
    overlay = ChannelOverlay(bench.clock.seconds(), None, bench.clock.seconds() + DAY)
    run(bench.engine.overlay_set("u", "a", overlay))
    found = run(bench.engine.overlays("u"))
    run(bench.engine.overlay_set("u", "b", overlay))
    assert dict(found) == {"a": overlay}


def test_overlays_hold_as_long_as_they_say_and_are_gone_after_days(bench: Bench) -> None:
    now = bench.clock.seconds()
    overlay = ChannelOverlay(now, ChannelGrant(), now + 3700.0)
    run(bench.engine.overlay_set("u", "a", overlay))
    bench.later(3600.0)
    assert run(bench.engine.overlays("u")) == {"a": overlay}
    bench.later(3 * DAY)
    assert run(bench.engine.overlays("u")) == {}


# --- Presence lists --------------------------------------------------------------------------


def test_a_presence_list_is_what_was_said_last(bench: Bench) -> None:
    at = bench.clock.seconds()
    first = PresenceList(at, frozenset({"v", "w"}), at + DAY)
    last = PresenceList(at + 1.0, frozenset(), at + DAY)
    run(bench.engine.presence_list_set("u", first))
    run(bench.engine.presence_list_set("v", first))
    run(bench.engine.presence_list_set("u", last))
    assert run(bench.engine.presence_list("u")) == last
    assert run(bench.engine.presence_list("v")) == first
    assert run(bench.engine.presence_list("nobody")) is None


def test_a_presence_list_holds_as_long_as_it_says(bench: Bench) -> None:
    now = bench.clock.seconds()
    listed = PresenceList(now, frozenset({"v"}), now + 3700.0)
    run(bench.engine.presence_list_set("u", listed))
    bench.later(3600.0)
    assert run(bench.engine.presence_list("u")) == listed
    bench.later(3 * DAY)
    assert run(bench.engine.presence_list("u")) is None


# --- Content tokens --------------------------------------------------------------------------


def test_a_content_token_comes_back_held_by_who_used_it(bench: Bench) -> None:
    bench.put_content(b"t", notify_on_leave=True, data=b'{"a":1}')
    found = bench.claim(b"t", holder=b"h")
    assert found is not None
    assert (found.channel, found.holder) == ("a", b"h")
    assert (found.notify_on_leave, found.data) == (True, b'{"a":1}')


def test_a_content_token_that_is_not_known(bench: Bench) -> None:
    assert bench.claim(b"t") is None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + DAY))
    assert bench.claim(b"t") is None


def test_a_content_token_of_another_channel_and_who_tried_does_not_hold_it(bench: Bench) -> None:
    bench.put_content(b"t", channel="a")
    assert bench.claim(b"t", channel="b", holder=b"other") is None
    assert bench.claim(b"t", channel="a", holder=b"h") is not None


def test_the_first_holder_of_a_content_token_keeps_it(bench: Bench) -> None:
    bench.put_content(b"t")
    assert bench.claim(b"t", holder=b"h") is not None
    assert bench.claim(b"t", holder=b"other") is None
    assert bench.claim(b"t", holder=b"h") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    assert bench.claim(b"t", holder=b"other") is None
    assert bench.claim(b"t", holder=b"h") is not None


def test_a_content_token_is_not_for_another_user_who_comes_with_what_holds_it(bench: Bench) -> None:
    bench.put_content(b"t")
    assert bench.claim(b"t", holder=b"h", user="u") is not None
    for user in ("", "v"):
        assert bench.claim(b"t", holder=b"h", user=user) is None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    for user in ("", "v"):
        assert bench.claim(b"t", holder=b"h", user=user) is None
    assert bench.claim(b"t", holder=b"h", user="u") is not None


def test_a_user_may_hold_a_content_token_by_something_new_when_nobody_uses_it(bench: Bench) -> None:
    bench.put_content(b"t")
    assert bench.claim(b"t", holder=b"h", user="u") is not None
    assert bench.claim(b"t", holder=b"i", user="u") is None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(59.5)
    assert bench.claim(b"t", holder=b"i", user="v") is None
    found = bench.claim(b"t", holder=b"i", user="u")
    assert found is not None
    assert (found.holder, found.user) == (b"i", "u")
    assert bench.claim(b"t", holder=b"h", user="u") is None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(60.0)
    assert bench.claim(b"t", holder=b"i", user="u") is None


def test_one_anonymous_client_does_not_come_back_as_another(bench: Bench) -> None:
    bench.put_content(b"t")
    assert bench.claim(b"t", holder=b"h") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    assert bench.claim(b"t", holder=b"i") is None
    assert bench.claim(b"t", holder=b"h") is not None


@pytest.mark.parametrize("by", ["token", "user"])
def test_a_logout_ends_the_content_tokens_that_are_held(bench: Bench, by: str) -> None:
    end = bench.clock.seconds() + 60.0
    who = {b"t": (b"h", "u"), b"s": (b"h", "u"), b"u": (b"i", "u"), b"v": (b"j", "v")}
    bench.put_content(b"unused")
    for token, (holder, user) in who.items():
        bench.put_content(token)
        assert bench.claim(token, holder=holder, user=user) is not None
        run(bench.engine.content_release(token, end))
    if by == "token":
        run(bench.engine.revoke_token(b"h", end))
    else:
        run(bench.engine.revoke_user("u", end))
    left = [bench.claim(token, holder=h, user=u) is not None for token, (h, u) in who.items()]
    assert left == [False, False, by == "token", True]
    assert bench.claim(b"unused", holder=b"i", user="u") is not None


@pytest.mark.parametrize(
    ("user", "holder", "left"),
    [
        ("u", None, "scf-"),
        ("v", None, "tscf-"),
        ("", None, "tsf-"),
        (None, b"h", "scf-"),
        (None, b"other", "tscf-"),
        (None, None, "sf"),
    ],
)
def test_content_tokens_of_a_channel_are_forgotten(
    bench: Bench, user: str | None, holder: bytes | None, left: str
) -> None:
    """By their user, by their holder, or all; s is of the user in another channel."""
    who = {"t": (b"h", "u"), "s": (b"h", "u"), "c": (b"i", ""), "f": (b"j", "f"), "-": (b"k", "k")}
    channels = {"t": "a", "s": "b", "c": "a", "f": "b", "-": "a"}
    for name, (held_by, of) in who.items():
        token, channel = name.encode(), channels[name]
        bench.put_content(token, channel=channel)
        if name != "-":  # Nobody used this one yet.
            assert bench.claim(token, channel=channel, holder=held_by, user=of) is not None
            run(bench.engine.content_release(token, bench.clock.seconds() + 60.0))
    run(bench.engine.content_forget("a", user, holder))
    found = [
        name
        for name, (held_by, of) in who.items()
        if bench.claim(name.encode(), channel=channels[name], holder=held_by, user=of)
    ]
    assert "".join(found) == left


@pytest.mark.parametrize("held", [True, False])
def test_a_content_token_is_handed_over_by_its_holder_alone(bench: Bench, held: bool) -> None:
    bench.put_content(b"t")
    if held:
        assert bench.claim(b"t", holder=b"h") is not None
    run(bench.engine.content_hand_over(b"t", b"other", b"i"))
    run(bench.engine.content_hand_over(b"unknown", b"h", b"i"))
    assert bench.claim(b"t", holder=b"h") is not None
    run(bench.engine.content_hand_over(b"t", b"h", b"i"))
    assert bench.claim(b"t", holder=b"h") is None
    assert bench.claim(b"t", holder=b"i") is not None
    assert bench.claim(b"unknown", holder=b"i") is None


def test_a_content_token_that_nobody_used_ends(bench: Bench) -> None:
    bench.put_content(b"t", life=60.0)
    bench.put_content(b"u", life=60.0)
    bench.later(59.5)
    assert bench.claim(b"t") is not None
    bench.later(0.5)
    assert bench.claim(b"u") is None


def test_a_content_token_in_use_has_no_end_until_it_is_released(bench: Bench) -> None:
    bench.put_content(b"t", life=60.0)
    assert bench.claim(b"t") is not None
    bench.later(DAY)
    assert bench.claim(b"t") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(59.5)
    assert bench.claim(b"t") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(60.0)
    assert bench.claim(b"t") is None
    bench.later(DAY)
    assert bench.claim(b"t") is None


def test_a_refused_use_changes_nothing_of_a_content_token(bench: Bench) -> None:
    bench.put_content(b"t")
    assert bench.claim(b"t", holder=b"h") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(30.0)
    assert bench.claim(b"t", holder=b"other") is None
    assert bench.claim(b"t", channel="b", holder=b"h") is None
    bench.later(30.0)
    assert bench.claim(b"t", holder=b"h") is None


def test_a_content_token_that_is_put_again_is_a_new_one(bench: Bench) -> None:
    bench.put_content(b"t", data=b"1")
    assert bench.claim(b"t", holder=b"h") is not None
    bench.put_content(b"t", channel="b", data=b"2")
    assert bench.claim(b"t", channel="a", holder=b"h") is None
    found = bench.claim(b"t", channel="b", holder=b"other")
    assert found is not None
    assert (found.holder, found.data) == (b"other", b"2")


@pytest.mark.parametrize("held", [True, False])
def test_a_content_token_that_is_removed_is_not_known(bench: Bench, held: bool) -> None:
    for token in (b"t", b"u"):
        bench.put_content(token)
    if held:
        assert bench.claim(b"t") is not None
    for token in (b"t", b"unknown"):
        run(bench.engine.content_remove(token))
    assert bench.claim(b"t") is None
    assert bench.claim(b"u") is not None
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    assert bench.claim(b"t") is None


def test_content_tokens_have_a_limit_that_those_in_use_count_for(bench: Bench) -> None:
    for token in (b"1", b"2", b"3"):
        bench.put_content(token, limit=3, life=60.0)
    assert bench.claim(b"1") is not None
    with pytest.raises(Overloaded):
        bench.put_content(b"4", limit=3)
    assert bench.claim(b"4") is None
    bench.put_content(b"3", limit=3, life=120.0)  # One that is known takes no more room.
    bench.later(60.0)
    bench.put_content(b"4", limit=3)  # The second is over.
    with pytest.raises(Overloaded):
        bench.put_content(b"5", limit=3)
    run(bench.engine.content_release(b"1", bench.clock.seconds()))
    bench.put_content(b"5", limit=3)


def test_a_channel_is_known_by_its_content_tokens(bench: Bench) -> None:
    assert not bench.knows("a")
    bench.put_content(b"t", channel="a", life=60.0)
    bench.put_content(b"u", channel="a", life=120.0)
    bench.put_content(b"v", channel="b", life=60.0)
    assert (bench.knows("a"), bench.knows("b"), bench.knows("c")) == (True, True, False)
    assert run(bench.engine.content_channels()) == 2
    bench.put_content(b"v", channel="c", life=60.0)  # One token is for one channel.
    assert (bench.knows("b"), bench.knows("c")) == (False, True)
    assert run(bench.engine.content_channels()) == 2
    bench.later(60.0)
    assert (bench.knows("a"), bench.knows("c")) == (True, False)
    bench.later(60.0)
    assert not bench.knows("a")
    bench.later(60.0)
    assert run(bench.engine.content_channels()) == 0


def test_a_channel_is_known_while_its_content_token_is_held(bench: Bench) -> None:
    bench.put_content(b"t", life=60.0)
    assert bench.claim(b"t") is not None
    bench.later(120.0)
    assert bench.knows("a")
    run(bench.engine.content_release(b"t", bench.clock.seconds() + 60.0))
    bench.later(59.5)
    assert bench.knows("a")
    bench.later(0.5)
    assert not bench.knows("a")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_in_any_order_a_content_token_is_had_by_its_first_holder_or_the_same_user(
    data: st.DataObject,
) -> None:
    bench = start(ENGINES[data.draw(st.sampled_from(sorted(ENGINES)))])
    known: dict[bytes, tuple[str, float, tuple[bytes, str] | None]] = {}
    for _ in range(data.draw(st.integers(0, 25))):
        action = data.draw(st.sampled_from(["put", "claim", "claim", "release", "later"]))
        token, channel = data.draw(st.sampled_from([b"t", b"u"])), data.draw(st.sampled_from("ab"))
        now = bench.clock.seconds()
        if action == "put":
            bench.put_content(token, channel=channel, life=50.0)
            known[token] = (channel, now + 50.0, None)
        elif action == "claim":
            who = data.draw(st.sampled_from([(b"h", "u"), (b"i", "u"), (b"j", "v"), (b"k", "")]))
            of, until, held_by = known.get(token, ("", 0.0, None))
            back = held_by is not None and held_by[1] == who[1] != "" and until < math.inf
            good = of == channel and until > now and (held_by in (None, who) or back)
            found = bench.claim(token, channel=channel, holder=who[0], user=who[1])
            assert (found is not None) is good
            if found is not None:
                assert (found.holder, found.user) == who
                known[token] = (channel, math.inf, who)
        elif action == "release" and token in known and known[token][1] == math.inf:
            run(bench.engine.content_release(token, now + 50.0))
            known[token] = (known[token][0], now + 50.0, known[token][2])
        elif action == "later":
            bench.later(data.draw(st.sampled_from([1.0, 25.0, 50.0])))
        now = bench.clock.seconds()
        for name in "ab":
            kept = any(each[0] == name and each[1] > now for each in known.values())
            assert bench.knows(name) is kept
    run(bench.engine.stop())


# --- Channels that were added ----------------------------------------------------------------


def added(bench: Bench) -> str:
    return "".join(name for name in "abcd" if run(bench.engine.channel_added(name)))


def test_a_channel_that_was_added_is_known_until_it_is_removed(bench: Bench) -> None:
    assert added(bench) == ""
    for name in "ab":
        run(bench.engine.channel_add(name, 10))
    bench.later(2 * DAY)
    assert added(bench) == "ab"
    for name in "ac":
        run(bench.engine.channel_remove(name))
    assert added(bench) == "b"


def test_of_too_many_added_channels_the_oldest_is_forgotten(bench: Bench) -> None:
    for name in "abc":
        run(bench.engine.channel_add(name, 3))
    run(bench.engine.channel_add("d", 3))
    assert added(bench) == "bcd"


def test_a_channel_that_is_added_again_is_the_latest(bench: Bench) -> None:
    for name in "abcad":
        run(bench.engine.channel_add(name, 3))
    assert added(bench) == "acd"


# --- Memory ----------------------------------------------------------------------------------


class Marked(dict[str, str]):
    """Tags, or the channels of a grant, whose end can be seen."""


def test_a_publication_over_its_time_is_let_go(bench: Bench) -> None:
    tags = Marked(a="b")
    watched = weakref.ref(tags)
    run(bench.engine.publish(Publication("a", b"1", tags=tags), PublishOptions(10, 60.0)))
    del tags
    gc.collect()
    assert watched() is not None
    bench.later(120.0)
    gc.collect()
    assert watched() is None


def test_a_publication_without_history_is_let_go_at_once(bench: Bench) -> None:
    tags = Marked(a="b")
    watched = weakref.ref(tags)
    run(bench.engine.publish(Publication("a", b"1", tags=tags), PublishOptions(0, 60.0)))
    del tags
    gc.collect()
    assert watched() is None


def test_a_publication_that_is_pushed_out_is_let_go(bench: Bench) -> None:
    tags = Marked(a="b")
    watched = weakref.ref(tags)
    run(bench.engine.publish(Publication("a", b"1", tags=tags), PublishOptions(2, 600.0)))
    del tags
    bench.publish("a", size=2)
    bench.publish("a", size=2)
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("end", ["time", "forget", "token", "user"])
def test_a_grant_that_ended_is_let_go(bench: Bench, end: str) -> None:
    tokens = Marked(a="b")
    watched = weakref.ref(tokens)
    now = bench.clock.seconds()
    bench.put(b"t", Grant("u", now, content_tokens=tokens), now + 60.0)
    del tokens
    gc.collect()
    assert watched() is not None
    if end == "time":
        bench.later(120.0)
    elif end == "forget":
        run(bench.engine.grant_forget("u"))
    elif end == "token":
        run(bench.engine.revoke_token(b"t", now + DAY))
    else:
        run(bench.engine.revoke_user("u", now + DAY))
    gc.collect()
    assert watched() is None


def test_when_all_is_over_an_engine_is_as_small_as_it_was(bench: Bench) -> None:
    """Objects of ours that are alive, counted before and after a busy day."""

    def alive() -> int:
        gc.collect()
        kinds = (type(each) for each in gc.get_objects())
        # Elsewhere a class may have a `__module__` that is no text.
        return sum(str(kind.__module__).startswith("twisted_push") for kind in kinds)

    before = alive()
    for number in range(200):
        name, token = f"n{number}", b"t%d" % number
        now = bench.clock.seconds()
        bench.publish(name, size=5, ttl=60.0)
        bench.since(name + "x")
        bench.put(token, bench.grant(name))
        run(bench.engine.revoke_token(token + b"r", now + 600.0))
        run(bench.engine.revoke_user(name, now + 600.0))
        run(bench.engine.grant_forget(name))
        run(bench.engine.overlay_set(name, "a", ChannelOverlay(now, ChannelGrant(), now + DAY)))
        run(bench.engine.presence_list_set(name, PresenceList(now, frozenset(name), now + DAY)))
        run(bench.engine.presence_add(name, info("c")))
        run(bench.engine.presence_remove(name, info("c")))
        run(bench.engine.channel_add(name, 1000))
        run(bench.engine.channel_remove(name))
        bench.put_content(token, limit=1000)
        if number % 2:
            bench.claim(token)
            run(bench.engine.content_release(token, now + 600.0))
    bench.events.told.clear()
    assert alive() > before + 200
    bench.later(3 * DAY)
    assert alive() <= before
