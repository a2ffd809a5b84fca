"""Grants with an end are renewed before it, once for a token, and the clients stay."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Log
from tests.unit.node.support import BROADCAST, Tab, World
from twisted_push.config import Namespace
from twisted_push.errors import Disconnect, NotConnected
from twisted_push.model import ChannelGrant
from twisted_push.node.renewals import RENEW_AGAIN, RENEW_FROM, RENEW_OVER
from twisted_push.node.targets import Target

Worlds = Any

LIFE = 1000.0
DAY = 86400.0
STALE = 300.0
REFRESH = {"refresh_url": "http://cms.test/refresh"}
QUIET = {"pong_timeout": 1e6, "max_commands_per_second": 0}


def grant(user: str = "alice", *channels: str, life: float | None = LIFE, **more: Any) -> Any:
    result = {"user": user, "channels": list(channels), **more}
    if life is not None:
        result["expire_at"] = int(NOW + life)
    return {"result": result}


async def make(make_world: Worlds, answer: Any = None, **callback: Any) -> World:
    callback = {"serve_stale": STALE, **callback}
    world: World = await make_world(callback=callback, limits=QUIET)
    world.cms.answer = grant("alice", "news") if answer is None else answer
    return world


def come(world: World, token: str = "t") -> Tab:
    tab = world.connected(token=token)
    tab.new()
    return tab


def asked(world: World) -> int:
    return len(world.cms.asked)


def at(world: World, seconds: float) -> None:
    """Let time pass until so long after the beginning."""
    world.advance(NOW + seconds - world.clock.seconds())


def until_asked(world: World) -> None:
    """Let time pass until the CMS is asked something that it does not answer."""
    while not world.cms.open:
        world.advance(0.25)


def told(tab: Tab) -> list[dict[str, Any]]:
    """Give what a client was told lately, but for pings."""
    return [each["push"] for each in tab.new() if each]


def notifications(tab: Tab) -> list[tuple[str, str]]:
    """Give whom a client was told of that came or went."""
    data = [each["push"]["message"]["data"] for each in tab.everything if "push" in each]
    found = [each["presenceNotification"] for each in data if "presenceNotification" in each]
    return [(each["uid"], each["event"]) for each in found]


def channels(tab: Tab) -> set[str]:
    return set(tab.session.subscriptions) - {BROADCAST}


@pytest.mark.parametrize("url", [{}, REFRESH])
async def test_it_is_renewed_before_its_end_and_the_client_stays(
    make_world: Worlds, url: dict[str, str]
) -> None:
    world = await make(make_world, **url)
    tab = come(world)
    at(world, RENEW_FROM * LIFE - 1)
    assert asked(world) == 1
    world.cms.answer = grant("alice", "news", life=3 * LIFE)
    at(world, (RENEW_FROM + RENEW_OVER) * LIFE + 1)
    assert asked(world) == 2
    at(world, LIFE + STALE + 1)
    assert (tab.code, told(tab)) == (None, [])
    assert tab.session.grant is not None
    assert tab.session.grant.expires_at == NOW + 3 * LIFE
    # And what is kept for others with the token is the new one.
    come(world)
    assert asked(world) == 2
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    at(world, 3 * LIFE)
    assert asked(world) == 3


async def test_the_questions(make_world: Worlds) -> None:
    world = await make(make_world, grant("alice", "news", meta={"sid": 7}), **REFRESH)
    tab = world.tab()
    tab.ask("connect", token="t", data={"page": 1}, name="js", subs={"news": {"recover": True}})
    world.cms.answer = grant("alice", life=9 * LIFE)
    at(world, LIFE)
    first, second = world.cms.asked
    assert (first.request.uri, second.request.uri) == (b"/push", b"/refresh")
    assert second.json == {
        "client": tab.session.client,
        "transport": "fake",
        "protocol": "json",
        "encoding": "json",
        "user": "alice",
        "token": "t",
        "meta": {"sid": 7},
    }


async def test_the_question_of_the_beginning_is_repeated(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.tab()
    tab.ask("connect", token="t", data={"page": 1}, name="js", subs={"news": {"recover": True}})
    world.cms.answer = grant("alice", life=9 * LIFE)
    at(world, LIFE)
    first, second = world.cms.asked
    assert first.json == {**second.json, "channels": ["news"]}


async def test_a_client_without_a_token_is_asked_about_by_its_cookie(make_world: Worlds) -> None:
    world = await make(make_world)
    tabs = [world.tab() for _ in range(2)]
    for number, tab in enumerate(tabs):
        cookie = {"cookie": f"sid={number}"}
        tab.transport.request = evolve(tab.transport.request, headers=cookie)
        assert "connect" in tab.ask("connect")
    world.cms.answer = grant("alice", life=9 * LIFE)
    at(world, LIFE)
    assert [each.header("Cookie") for each in world.cms.asked[:2]] == [b"sid=0", b"sid=1"]
    assert {each.header("Cookie") for each in world.cms.asked[2:]} == {b"sid=0", b"sid=1"}
    assert asked(world) == 4


async def test_one_question_however_many_tabs(make_world: Worlds) -> None:
    world = await make(make_world)
    tabs = [come(world) for _ in range(50)]
    at(world, 300)
    tabs += [come(world) for _ in range(50)]
    world.cms.answer = grant("alice", "news", "more", life=3 * LIFE)
    at(world, LIFE)
    assert asked(world) == 2
    assert {tab.code for tab in tabs} == {None}
    assert all(channels(tab) == {"news", "more"} for tab in tabs)


async def test_many_are_spread_and_few_are_asked_at_once(make_world: Worlds) -> None:
    world = await make(make_world, max_concurrent=8, timeout=1e6)
    tabs = [come(world, f"t-{number}") for number in range(200)]
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    counts = []
    for _ in range(int(LIFE / 10)):
        before = asked(world)
        world.advance(10)
        counts.append(asked(world) - before)
    assert sum(counts) == 200
    assert sum(counts[:69]) == sum(counts[91:]) == 0
    assert max(counts) < 40
    world.cms.answer = None
    at(world, 9 * LIFE - 1)
    assert world.cms.open == 2  # A quarter: the others are for those who come.
    assert {tab.code for tab in tabs} == {None}
    world.cms.answer = grant("alice", "news", life=99 * LIFE)
    for _ in range(2):
        world.cms.reply(world.cms.answer)
    assert asked(world) == 600  # The others follow.


# --- No --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"result": {"expired": True}}, 3005),
        ({"error": {"code": 103}}, 3005),
        ({"error": {"code": 4242, "message": "no"}}, 3005),
        (grant(life=10), 3005),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, 4501),
        ({"disconnect": {"code": 4001, "reason": "come again"}}, 4001),
    ],
    ids=str,
)
async def test_the_cms_says_no(make_world: Worlds, answer: object, code: int) -> None:
    world = await make(make_world, **REFRESH)
    tabs = [come(world) for _ in range(3)]
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    other = come(world, "other")
    world.cms.answer = answer
    at(world, LIFE - 50)
    assert [tab.code for tab in tabs] == [code] * 3
    assert other.code is None
    # What was kept is gone with it: whoever comes back is asked about.
    before = asked(world)
    world.cms.answer = {"disconnect": {"code": 3500}}
    again = world.tab()
    again.send("connect", token="t")
    assert (asked(world), again.code) == (before + 1, 3500)


async def test_a_logout_beats_a_renewal_that_is_under_way(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = None
    until_asked(world)
    await world.node.backend.logout(token="t")
    assert tab.code == 3500
    world.cms.reply(grant("alice", "news", life=9 * LIFE))
    again = world.tab()
    again.send("connect", token="t")
    assert again.code == 3500
    assert world.cms.open == 0


async def test_a_kick_that_spares_a_client_and_a_renewal_under_way(make_world: Worlds) -> None:
    """What the CMS says of a moment before the kick does not count, and it is asked again."""
    world = await make(make_world)
    spared, kicked = come(world), come(world)
    world.cms.answer = None
    until_asked(world)
    await world.node.backend.disconnect(
        Target(user="alice"), Disconnect(3503), [spared.session.client]
    )
    assert (spared.code, kicked.code) == (None, 3503)
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    world.cms.reply(grant("alice", "old", life=9 * LIFE))
    assert channels(spared) == {"news"}
    world.advance(2 * RENEW_AGAIN + 1)
    assert spared.code is None
    assert asked(world) == 3
    assert spared.session.grant is not None
    assert spared.session.grant.expires_at == NOW + 9 * LIFE


# --- What the CMS says nothing of ------------------------------------------------------------


def silent(**said: Any) -> dict[str, Any]:
    return {"result": {"expire_at": int(NOW + 9 * LIFE), **said}}


@pytest.mark.parametrize("by", ["client", "session"])
@pytest.mark.parametrize("named", [False, True])
async def test_a_channel_that_was_taken_from_one_client(
    make_world: Worlds, by: str, named: bool
) -> None:
    """It comes back if the CMS names it again, and not by itself."""
    world = await make(make_world, grant("alice", "news", "secret"), **REFRESH)
    tab, other = come(world), come(world)
    client = Target(client=tab.session.client)
    target = client if by == "client" else Target(session=tab.session.secret)
    await world.node.backend.unsubscribe(target, "secret")
    world.cms.answer = silent(channels=["secret", "news"]) if named else silent()
    at(world, LIFE)
    await world.publish("secret", "after")
    assert channels(tab) == ({"news", "secret"} if named else {"news"})
    assert tab.published() == (["after"] if named else [])
    assert other.published() == ["after"]


async def test_who_sees_a_user_is_what_the_cms_said_last(make_world: Worlds) -> None:
    world = await make(make_world, grant("bob", life=None), **REFRESH)
    bob = come(world, "of-bob")
    world.cms.answer = grant("alice", presence_to=["bob"])
    come(world)
    await world.node.online.see("alice", frozenset())
    expected = [("alice", "online"), ("alice", "offline")]
    assert notifications(bob) == expected
    world.cms.answer = silent()
    at(world, LIFE)
    assert asked(world) == 3
    assert notifications(bob) == expected
    world.cms.answer = {"result": {"presence_to": ["bob"]}}
    at(world, 9 * LIFE)
    assert notifications(bob) == [*expected, ("alice", "online")]


async def test_what_the_cms_said_outlives_the_time_for_which_it_is_noted(
    make_world: Worlds,
) -> None:
    callback = {**REFRESH, "grant_ttl": 10 * DAY}
    world: World = await make_world(callback=callback, limits=QUIET, token_secret="")
    world.cms.answer = grant("bob", life=None)
    bob = come(world, "of-bob")
    world.cms.answer = grant("alice", "news", "secret", presence_to=["bob"], life=DAY)
    tab = come(world)
    await world.node.online.see("alice", frozenset())
    await world.node.backend.unsubscribe(Target(user="alice"), "secret")
    world.cms.answer = {"result": {"expire_at": int(NOW + 3 * DAY)}}
    for _ in range(26):
        world.clock.advance(3600.0)
    tab.leave()
    world.advance(11)
    assert channels(come(world)) == {"news"}
    assert notifications(bob) == [("alice", "online"), ("alice", "offline")]


async def test_what_others_learn_of_a_client_stays(make_world: Worlds) -> None:
    world = await make(make_world, grant("alice", "news", info={"name": "A"}), **REFRESH)
    tab = come(world)
    await world.node.backend.refresh(
        Target(user="alice"), expired=False, expire_at=None, info=b'{"name":"B"}'
    )
    world.cms.answer = silent()
    at(world, LIFE)
    for page in (tab, come(world)):
        assert page.session.grant is not None
        assert page.session.grant.info == b'{"name":"B"}'


async def test_nothing_of_one_user_is_another_ones(make_world: Worlds) -> None:
    alice = grant("alice", "news", info={"a": 1}, meta={"b": 2}, presence_to=["carol"])
    world = await make(make_world, alice, **REFRESH)
    tab = come(world)
    world.cms.answer = silent(user="bob")
    at(world, LIFE)
    assert tab.code == 3014
    again = come(world)
    assert asked(world) == 2
    assert (again.session.user, channels(again)) == ("bob", set())
    found = again.session.grant
    assert found is not None
    assert (found.info, found.raw, found.presence_to) == (None, None, None)


# --- Nobody can say --------------------------------------------------------------------------


def down(world: World) -> None:
    world.cms.code, world.cms.answer = 503, b"down"


def up(world: World, answer: object) -> None:
    world.cms.code, world.cms.answer = 200, answer


async def test_a_cms_that_is_down_is_asked_again_and_they_stay(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    down(world)
    at(world, LIFE + STALE - 50)
    assert tab.code is None
    assert asked(world) > 5
    up(world, grant("alice", "news", life=9 * LIFE))
    at(world, LIFE + STALE + 100)
    assert (tab.code, told(tab)) == (None, [])


async def test_they_stay_for_as_long_as_stale_grants_serve(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    down(world)
    at(world, LIFE + STALE - 0.5)
    assert tab.code is None
    world.advance(1)
    assert tab.code == 3005


async def test_they_do_not_where_none_serve(make_world: Worlds) -> None:
    world = await make(make_world, serve_stale=0.0)
    tab = come(world)
    down(world)
    at(world, LIFE - 0.5)
    assert tab.code is None
    world.advance(1)
    assert tab.code == 3005


async def test_who_comes_with_a_stale_grant_is_renewed_when_the_cms_is_back(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    come(world).leave()
    down(world)
    at(world, LIFE + 10)
    tab = come(world)  # It serves.
    assert channels(tab) == {"news"}
    up(world, grant("alice", "other", life=9 * LIFE))
    world.advance(30)
    assert (tab.code, channels(tab)) == (None, {"other"})


async def test_a_stale_grant_lasts_only_as_long_as_stale_ones_serve(make_world: Worlds) -> None:
    world = await make(make_world)
    come(world).leave()
    down(world)
    at(world, LIFE + 10)
    tab = come(world)
    at(world, LIFE + STALE - 0.5)
    assert tab.code is None
    world.advance(1)
    assert tab.code == 3005


async def test_a_temporary_error_and_an_engine_that_fails_are_tried_again(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = {"error": {"code": 100}}
    at(world, LIFE - 60)
    assert asked(world) > 2
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    world.engine.broken["token_revoked"] = NotConnected()
    at(world, LIFE)
    before = asked(world)
    world.advance(20)
    assert (asked(world), tab.code) == (before, None)
    world.engine.broken.clear()
    world.advance(20)
    assert (asked(world), tab.code) == (before + 1, None)


async def test_thousands_that_cannot_be_renewed_do_not_storm_the_cms(make_world: Worlds) -> None:
    world = await make(make_world)
    for number in range(300):
        come(world, f"t-{number}")
    before = asked(world)
    down(world)
    at(world, LIFE)
    assert asked(world) - before < 60  # A probe each half minute, after the first few.


# --- Another answer than before --------------------------------------------------------------


@pytest.mark.parametrize("url", [{}, REFRESH])
async def test_channels_follow_the_answer(make_world: Worlds, url: dict[str, str]) -> None:
    world = await make(make_world, grant("alice", "old", "both"), **url)
    tabs = [come(world) for _ in range(2)]
    more = {"subs": {"new": {"data": {"a": 1}}}}
    world.cms.answer = grant("alice", "both", life=9 * LIFE, **more)
    at(world, LIFE)
    for tab in tabs:
        assert channels(tab) == {"both", "new"}
        assert told(tab) == [
            {"channel": "old", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}},
            {"channel": "new", "subscribe": {"data": {"a": 1}}},
        ]
    await world.publish("old", 1)
    await world.publish("new", 2)
    assert [tab.published() for tab in tabs] == [[2], [2]]


async def test_what_a_refresh_does_not_name_stays(make_world: Worlds) -> None:
    first = grant("alice", "news", info={"n": 1}, meta={"m": 1}, presence_to=["bob"])
    world = await make(make_world, first, **REFRESH)
    tab = come(world)
    before = tab.session.grant
    world.cms.answer = {"result": {"expire_at": int(NOW + 5 * LIFE)}}
    at(world, LIFE)
    after = tab.session.grant
    assert before is not None
    assert after is not None
    assert (after.user, after.channels, after.info, after.raw, after.presence_to) == (
        "alice",
        before.channels,
        b'{"n": 1}',
        b'{"m": 1}',
        frozenset({"bob"}),
    )
    assert after.expires_at == NOW + 5 * LIFE
    world.cms.answer = {"result": {"info": {"n": 2}, "meta": 3, "presence_to": []}}
    at(world, 5 * LIFE)
    assert tab.session.grant is not None
    assert tab.session.info().conn_info == b'{"n": 2}'
    assert (tab.session.grant.raw, tab.session.grant.presence_to) == (b"3", frozenset())
    assert tab.session.grant.expires_at is None
    asked_before = asked(world)
    world.advance(5 * LIFE)
    assert (tab.code, asked(world)) == (None, asked_before)


async def test_what_the_cms_took_does_not_come_back_by_a_refresh(make_world: Worlds) -> None:
    world = await make(make_world, grant("alice", "news", "chat"), **REFRESH)
    tab = come(world)
    await world.node.backend.unsubscribe(Target(user="alice"), "chat")
    await world.node.backend.subscribe(Target(user="alice"), "room", ChannelGrant())
    world.cms.answer = {"result": {"expire_at": int(NOW + 5 * LIFE)}}
    at(world, LIFE)
    assert channels(tab) == channels(come(world)) == {"news", "room"}


async def test_what_came_by_other_ways_stays(make_world: Worlds) -> None:
    space = (Namespace(prefix="open:", client_subscribe="anyone"),)
    world = await make_world(callback=True, limits=QUIET, namespaces=space)
    world.cms.answer = grant("alice", "news")
    tab = come(world)
    tab.ask("subscribe", channel="open:1")
    await world.node.backend.subscribe(
        Target(client=tab.session.client), "for-this-one", ChannelGrant()
    )
    world.cms.answer = grant("alice", life=9 * LIFE)
    at(world, LIFE)
    assert channels(tab) == {"open:1", "for-this-one"}


async def test_a_channel_that_is_taken_while_it_is_being_given(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = grant("alice", "news", "secret", life=9 * LIFE)
    world.engine.hold.add("overlays")
    at(world, LIFE)
    assert asked(world) == 2
    world.engine.hold.clear()
    await world.node.backend.unsubscribe(Target(user="alice"), "secret")
    while world.engine.held:
        world.engine.release()
    assert channels(tab) == {"news"}
    assert channels(come(world)) == {"news"}


async def test_a_client_that_goes_while_it_is_given_channels(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = grant("alice", "more", life=9 * LIFE)
    world.engine.hold.add("subscribe")
    at(world, LIFE)
    tab.leave()
    world.engine.hold.clear()
    while world.engine.held:
        world.engine.release()
    assert tab.transport.ignored == 0


async def test_more_channels_than_a_client_may_have(make_world: Worlds, log: Log) -> None:
    limits = {**QUIET, "max_channels_per_client": 3}
    world = await make_world(callback=True, limits=limits)
    world.cms.answer = grant("alice", "a")
    tab = come(world)
    world.cms.answer = grant("alice", "b", "c", "d", life=9 * LIFE)
    at(world, LIFE)
    assert channels(tab) == {"b", "c"}
    assert len([line for line in log.lines if "left out" in line]) == 1


async def test_an_engine_that_fails_sends_the_client_to_come_back(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = grant("alice", "more", life=9 * LIFE)
    world.engine.broken["subscribe"] = NotConnected()
    at(world, LIFE)
    assert tab.code == 3004


@pytest.mark.parametrize("url", [{}, REFRESH])
async def test_another_user_ends_the_client(make_world: Worlds, url: dict[str, str]) -> None:
    world = await make(make_world, **url)
    tabs = [come(world) for _ in range(2)]
    world.cms.answer = grant("bob", "of-bob", life=9 * LIFE)
    at(world, LIFE)
    assert [tab.code for tab in tabs] == [3014, 3014]
    assert tabs[0].published() == []
    again = come(world)  # The client library comes back by itself.
    assert (again.session.user, channels(again)) == ("bob", {"of-bob"})
    assert asked(world) == 2


# --- Other ends ------------------------------------------------------------------------------


async def test_signed_tokens_are_the_clients_to_renew(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice", exp=NOW + 100)
    world.advance(99)
    assert (asked(world), tab.code) == (0, None)
    world.advance(27)
    assert (asked(world), tab.code) == (0, 3005)


async def test_without_an_end_nobody_is_asked_again(make_world: Worlds) -> None:
    world = await make(make_world, grant(life=None), grant_ttl=100.0)
    tab = come(world)
    world.advance(3000)
    assert (asked(world), tab.code) == (1, None)
    come(world)
    assert asked(world) == 2


@pytest.mark.parametrize("life", [100.0, 5000.0])
async def test_an_end_that_the_cms_moves(make_world: Worlds, life: float) -> None:
    world = await make(make_world)
    tab = come(world)
    await world.node.backend.refresh(
        Target(user="alice"), expired=False, expire_at=NOW + life, info=None
    )
    at(world, RENEW_FROM * life - 1)
    assert asked(world) == 1
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    at(world, life)
    assert (asked(world), tab.code) == (2, None)


async def test_an_end_that_the_cms_sets_by_itself_is_final(make_world: Worlds) -> None:
    world = await make(make_world, grant(life=None))
    tab = come(world)
    await world.node.backend.refresh(
        Target(user="alice"), expired=False, expire_at=NOW + 100, info=None
    )
    world.advance(100.5)
    assert (asked(world), tab.code) == (1, 3005)


async def test_a_client_that_brings_another_token(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world, "one")
    world.advance(100)
    assert "refresh" in tab.ask("refresh", token="two")
    world.cms.answer = grant("alice", "news", life=9 * LIFE)
    at(world, LIFE)
    assert [each.json["token"] for each in world.cms.asked] == ["one", "two", "two"]
    assert tab.code is None


async def test_an_end_that_is_very_near_is_no_storm(make_world: Worlds) -> None:
    world = await make(make_world)
    world.cms.answer = grant("alice", "news", life=2)
    come(world)
    world.advance(1.75)
    assert asked(world) <= 3


async def test_nobody_is_asked_about_who_left(make_world: Worlds) -> None:
    world = await make(make_world)
    tabs = [come(world) for _ in range(2)]
    tabs[0].leave()
    assert len(world.node.renewals._entries) == 1
    tabs[1].leave()
    at(world, LIFE)
    assert asked(world) == 1


async def test_an_answer_after_all_left_is_kept_for_their_return(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = come(world)
    world.cms.answer = None
    until_asked(world)
    tab.leave()
    world.cms.reply(grant("alice", "new", life=9 * LIFE))
    assert channels(come(world)) == {"new"}
    assert asked(world) == 2


async def test_stopping_in_the_middle() -> None:
    world = await World(callback=True, limits=QUIET).start()
    world.cms.answer = grant()
    for number in range(20):
        come(world, f"t-{number}")
    world.cms.answer = None
    until_asked(world)
    await world.node.stop()
    assert world.clock.getDelayedCalls() == []


async def test_one_who_connects_while_its_token_is_renewed(make_world: Worlds) -> None:
    world = await make(make_world)
    come(world)
    world.cms.answer = None
    until_asked(world)
    tab = come(world)  # By what is kept: it is good, and nobody need wait.
    assert channels(tab) == {"news"}
    world.cms.reply(grant("alice", "new", life=9 * LIFE))
    assert channels(tab) == {"new"}
    assert asked(world) == 2


async def test_one_who_is_just_joining_its_channels(make_world: Worlds) -> None:
    world = await make(make_world, grant("alice", "a", "b"))
    come(world)
    world.cms.answer = None
    until_asked(world)
    tab = world.tab()
    world.engine.hold.add("overlays")
    tab.send("connect", token="t")
    world.engine.hold.clear()
    world.cms.reply(grant("alice", "b", "c", life=9 * LIFE))
    while world.engine.held:
        world.engine.release()
    assert channels(tab) == {"b", "c"}
    [reply] = [each for each in tab.everything if "connect" in each]
    heard = set(reply["connect"]["subs"])
    heard |= {e["push"]["channel"] for e in tab.everything if "subscribe" in e.get("push", {})}
    assert heard - {BROADCAST} == {"b", "c"}


def test_the_token_is_not_shown() -> None:
    world = World(callback=True)
    now(world.start())
    world.cms.answer = grant()
    tab = come(world, "secret-token")
    assert tab.session.asked is not None
    assert "secret-token" not in repr(tab.session) + repr(tab.session.asked)
    now(world.end())


def now(doing: Any) -> Any:
    done: list[Any] = []
    Deferred.fromCoroutine(doing).addCallback(done.append)
    assert done
    return done[0]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("ab")),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("cms"), st.sampled_from(["yes", "no", "down", "slow"])),
        st.tuples(st.just("wait"), st.sampled_from([5.0, 40.0, 200.0])),
        st.tuples(st.just("logout"), st.sampled_from("ab")),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=100)
@given(EVENTS)
def test_nobody_outlives_what_the_cms_said(events: list[tuple[str, Any]]) -> None:
    """Whoever is here has a grant that is good, or that may serve while the CMS is silent."""
    world = World(callback={"serve_stale": STALE, "timeout": 3.0}, limits=QUIET)
    now(world.start())
    tabs: list[Tab] = []
    dead: set[str] = set()
    for what, which in events:
        life = world.clock.seconds() - NOW + 100
        if what == "come":
            tabs.append(tab := world.tab())
            tab.send("connect", token=which)
        elif what == "leave" and tabs:
            tabs[which % len(tabs)].leave()
        elif what == "logout":
            dead.add(which)
            now(world.node.backend.logout(token=which))
        elif what == "cms":
            world.cms.code = 503 if which == "down" else 200
            no = {"disconnect": {"code": 3500}}
            answers = {"yes": grant(life=life), "no": no, "down": b"", "slow": None}
            world.cms.answer = answers[which]
        elif what == "wait":
            world.advance(which)
        for session in world.context.hub.clients.values():
            assert session.grant is not None
            end = session.grant.expires_at
            assert end is None or world.clock.seconds() <= end + STALE + 0.5
            assert session.asked is None or session.asked.token not in dead
    now(world.end())
