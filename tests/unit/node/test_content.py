"""Content channels: one token, one holder; who is in, who left, and who is told."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Log, Outcome
from tests.unit.node.support import Tab, World, sign
from twisted_push.cms.gate import MAX_TOKEN_LENGTH
from twisted_push.cms.grants import token_digest
from twisted_push.config import PresenceConfig
from twisted_push.errors import Disconnect, EngineRefused, NotConnected, OutcomeUnknown, Refused
from twisted_push.model import ChannelGrant, ContentToken
from twisted_push.node.content import Content
from twisted_push.node.targets import Target

Worlds = Any
ALICE = Target(user="alice")
TTL = 60.0
GRACE = 2.0
QUIET = {"ping_interval": 1e6, "pong_timeout": 1e6}
"""Nobody answers pings here."""


def later(doing: Any) -> Outcome:
    """Begin something that waits."""
    return Outcome(Deferred.fromCoroutine(doing))


async def code_of(doing: Awaitable[Any]) -> int | None:
    """Give the code of a refusal; None if there was none."""
    try:
        await doing
    except Refused as error:
        return error.code
    return None


def content(world: World) -> Content:
    return world.node.content


async def register(world: World, *tokens: str, channel: str = "page", **options: Any) -> None:
    for token in tokens:
        await content(world).register(channel, token, **options)


def join(
    world: World, tab: Tab, token: str, channel: str = "page", **options: Any
) -> Awaitable[ContentToken]:
    return content(world).join(tab.session, channel, token, **options)


def left(uid: str | int) -> dict[str, Any]:
    return {"uid": uid, "type": "disconnect"}


async def make(make_world: Worlds, limits: Any = None, **options: Any) -> World:
    quiet = {**QUIET, **(limits or {})}
    world: World = await make_world(content_token_ttl=TTL, limits=quiet, **options)
    return world


# --- Tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "token"),
    [
        ("", "t"),
        ("a\nb", "t"),
        ("x" * 256, "t"),
        ("page", ""),
        ("page", "x" * (MAX_TOKEN_LENGTH + 1)),
        ("page", "\ud800"),
    ],
)
async def test_what_cannot_be_registered(make_world: Worlds, channel: str, token: str) -> None:
    world = await make(make_world)
    assert await code_of(content(world).register(channel, token)) == 107
    assert not await content(world).exists(channel)
    assert world.engine.named("content_put") == []


async def test_a_page_joins_with_its_token(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    assert not await content(world).exists("page")
    await register(world, "t", notify_on_leave=True, data=b'{"who":"a"}')
    assert await content(world).exists("page")
    assert content(world).users("page") == []
    joined = await join(world, tab, "t")
    assert (joined.channel, joined.notify_on_leave, joined.data) == ("page", True, b'{"who":"a"}')
    assert content(world).users("page") == [("alice", "")]
    await world.publish("page", 1)
    told, push = tab.new()
    assert told["push"]["channel"] == "page"
    assert "subscribe" in told["push"]
    assert push["push"]["pub"]["data"] == 1


async def test_the_engine_is_given_digests_and_the_limit(make_world: Worlds) -> None:
    world = await make(make_world, limits={"max_content_tokens": 7})
    tab = world.user("alice")
    await register(world, "secret")
    await join(world, tab, "secret")
    digest = token_digest("secret")
    [(put, kept, limit)] = world.engine.named("content_put")
    assert (put, kept, limit) == (digest, ContentToken("page", NOW + TTL), 7)
    held_by = (tab.session.token_digest, "alice")
    assert world.engine.named("content_claim") == [(digest, "page", *held_by)]
    assert "secret" not in repr(world.engine.calls)


async def test_a_channel_that_the_client_has_is_joined_in_silence(make_world: Worlds) -> None:
    world = await make(make_world, limits={"max_channels_per_client": 2})
    tab = world.user("alice", channels=["page"])
    subscription = tab.session.subscriptions["page"]
    await register(world, "t")
    await join(world, tab, "t")
    assert tab.new() == []
    assert tab.session.subscriptions["page"] is subscription
    assert content(world).users("page") == [("alice", "")]
    await world.publish("page", 1)
    assert tab.published() == [1]


@pytest.mark.parametrize(
    "token", ["", "unknown", "elsewhere", "bobs", "over", "x" * 8193, "\udfff"]
)
async def test_a_token_that_is_not_good(make_world: Worlds, token: str) -> None:
    world = await make(make_world)
    bob, alice = world.user("bob"), world.user("alice")
    await register(world, "over")
    world.advance(TTL)
    await register(world, "elsewhere", channel="other")
    await register(world, "bobs")
    await join(world, bob, "bobs")
    assert await code_of(join(world, alice, token)) == 103
    assert await code_of(join(world, alice, token, "bad\nname")) == 107
    assert alice.new() == []
    assert content(world).users("page") == [("bob", "")]
    await world.publish("page", 1)
    assert (bob.published(), alice.published()) == ([1], [])


async def test_a_refused_attempt_changes_nothing_of_a_token(make_world: Worlds) -> None:
    world = await make(make_world)
    bob, alice = world.user("bob"), world.user("alice")
    await register(world, "t")
    await join(world, bob, "t")
    bob.leave()
    world.advance(TTL - 1)
    assert await code_of(join(world, alice, "t")) == 103
    assert await code_of(join(world, alice, "t", "other")) == 103
    world.advance(1)
    assert await code_of(join(world, world.user("bob"), "t")) == 103
    assert len(world.engine.named("content_release")) == 1


async def test_a_token_again_begins_anew(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "t")
    world.advance(TTL - 1)
    await register(world, "t", notify_on_leave=True)
    world.advance(TTL - 1)
    assert await content(world).exists("page")
    assert (await join(world, world.user("alice"), "t")).notify_on_leave


# --- Bounds ----------------------------------------------------------------------------------


async def test_too_many_tokens(make_world: Worlds) -> None:
    world = await make(make_world, limits={"max_content_tokens": 3})
    await register(world, "1", "2", "3")
    assert await code_of(content(world).register("page", "4")) == 106
    assert await code_of(content(world).register("page", "3")) is None
    world.advance(TTL)
    await register(world, "4")


async def test_there_are_no_more_channels_than_tokens(make_world: Worlds) -> None:
    """One token, registered for one channel after the other, is for the last."""
    world = await make(make_world, limits={"max_content_tokens": 3})
    for channel in "abcd":
        await register(world, "t", channel=channel)
    assert [await content(world).exists(channel) for channel in "abcd"] == [False] * 3 + [True]
    assert await content(world).count() == 1


async def test_an_engine_that_fails_registers_nothing(make_world: Worlds) -> None:
    world = await make(make_world)
    world.engine.broken["content_put"] = NotConnected()
    with pytest.raises(NotConnected):
        await register(world, "t")
    assert not await content(world).exists("page")


async def test_a_client_with_too_many_channels(make_world: Worlds) -> None:
    """The token is not used up: neither for this client nor for another."""
    world = await make(make_world, limits={"max_channels_per_client": 2})
    alice, bob = world.user("alice", channels=["a"]), world.user("bob")
    await register(world, "t")
    assert await code_of(join(world, alice, "t")) == 106
    assert world.engine.named("content_claim") == []
    await join(world, bob, "t")
    assert content(world).users("page") == [("bob", "")]


# --- The holder ------------------------------------------------------------------------------


async def test_content_tokens_hold_after_a_reconnect(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t")
    await join(world, tab, "t")
    world.advance(10 * TTL)  # While it is in use there is no end.
    for _ in range(3):
        tab.leave()
        world.advance(TTL - 1)
        tab = world.user("alice")
        assert await code_of(join(world, world.user("bob"), "t")) == 103
        await join(world, tab, "t")
        await world.publish("page", 1)
        assert tab.published() == [1]
    tab.leave()
    world.advance(TTL)
    assert await code_of(join(world, world.user("alice"), "t")) == 103


async def test_an_old_connection_that_is_not_known_to_be_dead(make_world: Worlds) -> None:
    """Its end, later, is not the end of the token, which is in use by the new one."""
    world = await make(make_world)
    old, new = world.user("alice"), world.user("alice")
    await register(world, "t", notify_on_leave=True)
    for tab in (old, new):
        await join(world, tab, "t")
    assert content(world).users("page") == [("alice", "")]
    old.leave()
    world.advance(2 * TTL)
    assert content(world).users("page") == [("alice", "")]
    assert new.published() == []
    new.leave()
    world.advance(TTL - 1)
    await join(world, world.user("alice"), "t")


async def test_an_old_connection_that_ends_while_the_new_one_asks(make_world: Worlds) -> None:
    world = await make(make_world)
    old, new = world.user("alice"), world.user("alice")
    await register(world, "t")
    await join(world, old, "t")
    world.engine.hold.add("content_claim")
    joining = later(join(world, new, "t"))
    old.leave()
    world.engine.release()
    assert joining.done
    assert joining.error is None
    assert world.engine.named("content_release") == []
    world.engine.hold.clear()
    world.advance(2 * TTL)
    new.leave()
    await join(world, world.user("alice"), "t")


async def test_a_stranger_who_asks_while_the_holder_leaves(make_world: Worlds) -> None:
    """The token gets its end all the same, or it would be kept for ever."""
    world = await make(make_world)
    bob, alice = world.user("bob"), world.user("alice")
    await register(world, "t")
    await join(world, bob, "t")
    world.engine.hold.add("content_claim")
    joining = later(join(world, alice, "t"))
    bob.leave()
    world.engine.release()
    assert joining.says == "Refused 103 permission denied"
    assert len(world.engine.named("content_release")) == 1
    world.engine.hold.clear()
    world.advance(TTL)
    assert await code_of(join(world, world.user("bob"), "t")) == 103


async def test_an_anonymous_client_without_a_token_holds_by_its_connection(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    one, two = world.connected(), world.connected()
    await register(world, "t")
    await join(world, one, "t")
    assert await code_of(join(world, two, "t")) == 103
    assert content(world).users("page") == [("", "")]
    one.leave()
    assert await code_of(join(world, world.connected(), "t")) == 103


def asked_for(world: World, user: str, **params: Any) -> Tab:
    """Give a client of which the CMS says who it is: by its cookie, if there is no token."""
    tab = world.tab()
    tab.transport.request = evolve(tab.transport.request, headers={"cookie": f"user={user}"})
    tab.send("connect", **params)
    world.cms.agent.flush()
    world.cms.reply({"result": {"user": user}})
    assert tab.session.user == user
    return tab


async def test_a_page_comes_back_with_another_connection_token(make_world: Worlds) -> None:
    world = await make(make_world)
    old, bob = world.user("alice", jti="1"), world.user("bob")
    await register(world, "t")
    await join(world, old, "t")
    assert await code_of(join(world, world.user("alice", jti="2"), "t")) == 103
    for number in range(2, 5):
        old.leave()
        world.advance(TTL - 1)
        assert await code_of(join(world, bob, "t")) == 103
        new = world.user("alice", jti=f"{number}")
        await join(world, new, "t")
        assert await code_of(join(world, world.user("alice", jti="1"), "t")) == 103
        old = new
    old.leave()
    world.advance(TTL)
    assert await code_of(join(world, world.user("alice", jti="4"), "t")) == 103


async def test_a_page_that_is_known_by_its_cookie_comes_back(make_world: Worlds) -> None:
    world = await make(make_world, callback=True)
    tab = asked_for(world, "alice")
    await register(world, "t", "u")
    await join(world, tab, "t")
    assert await code_of(join(world, asked_for(world, "alice"), "t")) == 103
    tab.leave()
    assert await code_of(join(world, asked_for(world, "bob"), "t")) == 103
    assert await code_of(join(world, asked_for(world, ""), "t")) == 103
    await join(world, asked_for(world, "alice"), "t")
    # One without a name is nobody who could come back.
    stranger = asked_for(world, "")
    await join(world, stranger, "u")
    stranger.leave()
    assert await code_of(join(world, asked_for(world, ""), "u")) == 103


async def test_a_connection_token_that_is_another_users_by_now(make_world: Worlds) -> None:
    """What the page of one user was given is not for the next who logs in by the same token."""
    world = await make(make_world, callback=True)
    for user, code in (("alice", None), ("bob", 103), ("", 103)):
        tab = asked_for(world, user, token="session")
        if user == "alice":
            await register(world, "t")
        assert await code_of(join(world, tab, "t")) == code
        tab.leave()
        await world.node.backend.disconnect(Target(user=user, anonymous=True), Disconnect(3503))


async def test_joining_again_is_no_second_seat(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t", "u")
    first = await join(world, tab, "t")
    tab.new()
    assert await join(world, tab, "t") == first
    assert world.engine.named("content_release") == []
    await join(world, tab, "u")
    assert tab.new() == []
    assert world.engine.named("content_release") == [(token_digest("t"), NOW + TTL)]
    await world.publish("page", 1)
    assert tab.published() == [1]
    tab.leave()
    assert len(world.engine.named("content_release")) == 2
    assert content(world).users("page") == []


async def test_a_token_again_while_its_page_is_there(make_world: Worlds) -> None:
    """It is a new token: the page stays in, and leaving does not put off the new one's end."""
    world = await make(make_world)
    alice, bob = world.user("alice"), world.user("bob")
    await register(world, "t")
    await join(world, alice, "t")
    await register(world, "t")
    world.advance(TTL)
    assert content(world).users("page") == [("alice", "")]
    alice.leave()
    assert world.engine.named("content_release") == []
    assert await code_of(join(world, bob, "t")) == 103


# --- While the engine is asked ---------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize("held", ["hold", "hold_work"])
@pytest.mark.parametrize("call", ["content_claim", "subscribe", "since"])
async def test_a_session_that_ends_meanwhile(
    make_world: Worlds, call: str, held: str, cancelled: bool
) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t", channel="news:1")
    getattr(world.engine, held).add(call)
    joining = later(join(world, tab, "t", "news:1"))
    if cancelled:
        tab.session.work = joining.deferred
    tab.leave()
    if world.engine.held and not cancelled:
        world.engine.release()
    assert joining.done
    assert joining.error is not None
    assert content(world).users("news:1") == []
    assert world.engine.named("content_release") == [(token_digest("t"), NOW + TTL)]
    world.engine.hold.clear()
    world.engine.hold_work.clear()
    world.advance(TTL - 1)
    again = world.user("alice")
    await join(world, again, "t", "news:1")
    await world.publish("news:1", 1)
    assert again.published() == [1]


async def test_a_granted_channel_that_is_taken_while_the_token_is_asked_for(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    tab = world.user("alice", channels=["page"])
    await register(world, "t")
    world.engine.hold.add("content_claim")
    joining = later(join(world, tab, "t"))
    await world.node.backend.unsubscribe(ALICE, "page")
    world.engine.release()
    assert joining.says == "Refused 103 permission denied"
    assert "page" not in tab.session.subscriptions
    assert world.engine.named("content_release") == [(token_digest("t"), NOW + TTL)]


async def test_a_channel_that_is_taken_while_it_is_joined(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t")
    world.engine.hold_work.add("subscribe")
    joining = later(join(world, tab, "t"))
    await world.node.backend.unsubscribe(ALICE, "page")
    world.engine.release()
    assert joining.says == "Refused 103 permission denied"
    assert content(world).users("page") == []
    await world.publish("page", 1)
    assert tab.published() == []
    assert len(world.engine.named("content_release")) == 1


async def test_a_channel_that_is_granted_while_the_token_is_asked_for(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t")
    world.engine.hold.add("content_claim")
    joining = later(join(world, tab, "t"))
    await world.node.backend.subscribe(ALICE, "page", ChannelGrant())
    world.engine.release()
    assert joining.error is None
    assert content(world).users("page") == [("alice", "")]
    await world.publish("page", 1)
    assert tab.published() == [1]


async def test_two_tokens_for_one_channel_at_the_same_time(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t", "u")
    world.engine.hold_work.add("subscribe")
    first, second = later(join(world, tab, "t")), later(join(world, tab, "u"))
    assert second.done
    world.engine.release()
    assert (first.says, second.says) == ("", "")
    await world.publish("page", 1)
    assert tab.published() == [1]
    tab.leave()
    released = {digest for digest, _ in world.engine.named("content_release")}
    assert released == {token_digest("t"), token_digest("u")}


async def test_what_comes_while_it_is_joined_comes_once(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t", channel="news:1")
    await world.publish("news:1", "before")
    world.engine.hold.add("since")
    joining = later(join(world, tab, "t", "news:1"))
    await world.publish("news:1", "meanwhile")
    world.engine.release()
    assert joining.done
    await world.publish("news:1", "after")
    told, *_ = tab.new()
    assert told["push"]["subscribe"]["offset"] == 1
    assert tab.published() == ["meanwhile", "after"]


@pytest.mark.parametrize("error", [NotConnected(), OutcomeUnknown(), EngineRefused()])
async def test_an_engine_that_fails_uses_up_no_token(make_world: Worlds, error: Any) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t")
    for call in ("content_claim", "subscribe"):
        world.engine.broken[call] = error
        with pytest.raises(type(error)):
            await join(world, tab, "t")
        assert content(world).users("page") == []
        world.engine.broken.clear()
    # Of a claim that was not done there is nothing to release.
    released = 2 if isinstance(error, OutcomeUnknown) else 1
    assert len(world.engine.named("content_release")) == released
    world.advance(TTL - 1)
    await join(world, tab, "t")


async def test_an_engine_that_fails_when_somebody_leaves(make_world: Worlds, log: Log) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "secret", notify_on_leave=True)
    await join(world, tab, "secret")
    world.engine.broken.update(content_release=NotConnected(), publish=NotConnected())
    tab.leave()
    world.advance(GRACE + 0.25)
    assert len(log.lines) == 2
    assert "secret" not in log.everything
    assert content(world).users("page") == []


# --- Who is in -------------------------------------------------------------------------------


async def test_users(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, too, bob = world.user("alice"), world.user("alice", jti="2"), world.user("bob")
    shared = [world.connected(token=sign(jti="shared")) for _ in range(2)]
    other = world.connected(token=sign(jti="other"))
    await register(world, "1", "2", "3", "4", "5")
    await join(world, alice, "1")
    await join(world, too, "2")
    await join(world, bob, "3")
    for tab in shared:
        await join(world, tab, "4", label="shared")
    await join(world, other, "5", label="other")
    assert content(world).users("page") == [
        ("alice", ""),
        ("bob", ""),
        ("", "shared"),
        ("", "other"),
    ]
    assert content(world).users("elsewhere") == []
    shared[0].leave()
    alice.leave()
    bob.leave()
    assert content(world).users("page") == [("alice", ""), ("", "shared"), ("", "other")]


async def test_users_of_a_content_channel_after_a_kick(make_world: Worlds) -> None:
    """The original answered 500 from then on."""
    world = await make(make_world)
    alice, bob = world.user("alice"), world.user("bob")
    await register(world, "1", "2")
    await join(world, alice, "1")
    await join(world, bob, "2")
    await world.node.backend.disconnect(ALICE, Disconnect(3503))
    assert content(world).users("page") == [("bob", "")]


async def test_a_channel_exists_while_somebody_is_in_or_may_come_back(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    world.clock.advance(0.1)
    await register(world, "t", channel="unused")
    world.advance(TTL - 0.25)
    assert await content(world).exists("unused")
    world.clock.advance(0.25)
    assert not await content(world).exists("unused")
    await register(world, "t")
    await join(world, tab, "t")
    world.advance(TTL - 0.25)
    assert await content(world).exists("page")
    world.advance(TTL)
    assert await content(world).exists("page")
    tab.leave()
    world.advance(TTL - 0.25)
    assert await content(world).exists("page")
    world.advance(0.25)
    assert not await content(world).exists("page")
    assert content(world).users("page") == []


async def test_only_tokens_within_their_time_are_left_when_everybody_left(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    tabs = [world.user(f"u{number}") for number in range(5)]
    for number, tab in enumerate(tabs):
        await register(world, f"t{number}", channel=f"c{number}", notify_on_leave=True)
        await join(world, tab, f"t{number}", f"c{number}")
        tab.leave()
    world.advance(11)
    assert world.leftovers() == {}
    assert await content(world).count() == 5
    world.advance(TTL)
    assert [await content(world).exists(f"c{number}") for number in range(5)] == [False] * 5
    assert world.leftovers() == {}
    world.clock.advance(30)
    assert await content(world).count() == 0
    assert len(world.memory._contents.table) == 0


# --- Who left --------------------------------------------------------------------------------


async def watched(world: World, **options: Any) -> tuple[Tab, Tab]:
    """Give alice in the channel by the token ``t``, and bob who looks on."""
    alice, bob = world.user("alice"), world.user("bob")
    await register(world, "t", **{"notify_on_leave": True, **options})
    await register(world, "bobs")
    await join(world, alice, "t")
    await join(world, bob, "bobs")
    bob.new()
    return alice, bob


async def test_the_others_are_told_after_the_grace(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    alice.leave()
    world.advance(GRACE - 0.25)
    assert bob.new() == []
    world.advance(0.25)
    [told] = bob.new()
    assert told["push"]["channel"] == "page"
    assert told["push"]["pub"]["data"] == left("alice")
    assert told["push"]["pub"]["tags"] == {"contentChannelNotification": "true"}
    world.advance(60)
    assert bob.published() == [left("alice")]


async def test_the_notice_of_one_who_left_is_not_kept(make_world: Worlds) -> None:
    world = await make(make_world)
    alice = world.user("alice")
    await register(world, "t", channel="news:1", notify_on_leave=True)
    await join(world, alice, "t", "news:1")
    alice.leave()
    world.advance(GRACE)
    [(publication, options)] = world.engine.named("publish")
    assert options.history_size == 0
    assert publication.data == b'{"uid":"alice","type":"disconnect"}'
    assert publication.extra == {"contentChannelNotification": b"true"}


async def test_without_notify_nobody_is_told(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world, notify_on_leave=False)
    alice.leave()
    world.advance(10)
    assert bob.published() == []


async def test_one_who_came_back_within_the_grace_is_not_told_as_gone(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    for _ in range(5):
        alice.leave()
        world.advance(GRACE - 0.25)
        alice = world.user("alice")
        await join(world, alice, "t")
    world.advance(10)
    assert bob.published() == []
    alice.leave()
    world.advance(GRACE)
    assert bob.published() == [left("alice")]


async def test_one_who_came_back_by_another_token_is_not_told_as_gone(make_world: Worlds) -> None:
    """The next page has a new token; that it wants no notice does not bring the old one back."""
    world = await make(make_world)
    alice, bob = await watched(world)
    alice.leave()
    world.advance(1)
    alice = world.user("alice")
    await register(world, "next")
    await join(world, alice, "next")
    alice.leave()
    world.advance(10)
    assert bob.published() == []


async def test_another_tab_of_the_user_is_in(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    other = world.user("alice", jti="other device")
    await register(world, "u", notify_on_leave=True)
    await join(world, other, "u")
    alice.leave()
    world.advance(10)
    assert bob.published() == []
    other.leave()
    world.advance(1)
    assert bob.published() == []
    world.advance(1)
    assert bob.published() == [left("alice")]


@pytest.mark.parametrize("first", ["with", "without"])
async def test_that_one_of_the_tabs_wants_it_told_is_enough(make_world: Worlds, first: str) -> None:
    """Whichever of them is closed last."""
    world = await make(make_world)
    alice, bob = await watched(world)
    other = world.user("alice", jti="other device")
    await register(world, "u")
    await join(world, other, "u")
    tabs = [alice, other] if first == "with" else [other, alice]
    tabs[0].leave()
    world.advance(10)
    assert bob.published() == []
    tabs[1].leave()
    world.advance(GRACE - 0.25)
    assert bob.published() == []
    world.advance(10)
    assert bob.published() == [left("alice")]


async def test_a_tab_that_changes_its_token_leaves_as_it_was_to(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    await register(world, "u")
    await join(world, alice, "u")
    alice.leave()
    world.advance(10)
    assert bob.published() == [left("alice")]


async def test_tabs_that_leave_together_are_one_notice(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    tabs = [alice, *(world.user("alice") for _ in range(20))]
    for tab in tabs[1:]:
        await join(world, tab, "t")
    for tab in tabs:
        tab.leave()
        world.advance(0.25)
    assert len(content(world)._leaving) == 1
    world.advance(10)
    assert bob.published() == [left("alice")]


async def test_anonymous_clients_leave_each_on_their_own(make_world: Worlds) -> None:
    world = await make(make_world)
    bob = world.user("bob")
    labelled = [world.connected(token=sign(jti=name)) for name in "ab"]
    unlabelled = [world.connected() for _ in range(2)]
    await register(world, "bobs")
    await register(world, "1", "2", "3", "4", notify_on_leave=True)
    await join(world, bob, "bobs")
    for number, tab in enumerate(labelled):
        await join(world, tab, f"{number + 1}", label="ab"[number])
    for number, tab in enumerate(unlabelled):
        await join(world, tab, f"{number + 3}")
    labelled[0].leave()
    unlabelled[0].leave()
    world.advance(GRACE)
    assert bob.published() == [left(0), left(0)]
    assert content(world).users("page") == [("bob", ""), ("", "b"), ("", "")]


async def test_a_grace_of_nothing(make_world: Worlds) -> None:
    world = await make(make_world, presence=PresenceConfig(online_grace=0.0))
    alice, bob = await watched(world)
    alice.leave()
    assert bob.published() == []
    world.advance(0.25)
    assert bob.published() == [left("alice")]


async def test_a_channel_that_the_cms_takes_away(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    await world.node.backend.unsubscribe(ALICE, "page")
    await world.publish("page", "secret")
    assert alice.published() == []
    assert content(world).users("page") == [("bob", "")]
    world.advance(GRACE)
    assert bob.published() == ["secret", left("alice")]
    [(digest, end)] = world.engine.named("content_release")
    assert digest == token_digest("t")
    assert end == NOW + TTL
    assert alice.code is None
    assert await code_of(join(world, alice, "t")) == 103
    await register(world, "another")
    await join(world, alice, "another")
    await world.publish("page", "again")
    assert alice.published() == ["again"]


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("by", ["user", "token", "channel"])
async def test_what_is_taken_does_not_come_back_by_a_content_token(
    make_world: Worlds, by: str, here: bool
) -> None:
    """Neither for who is here nor for who may come back, and for nobody else is it taken."""
    world = await make(make_world)
    alice, bob, carol = world.user("alice"), world.user("bob"), world.user("carol")
    await register(world, "alices", "bobs", "unused")
    await register(world, "elsewhere", channel="other")
    await join(world, alice, "alices")
    await join(world, bob, "bobs")
    await join(world, alice, "elsewhere", "other")
    if not here:
        alice.leave()
        alice = world.user("alice")
    backend = world.node.backend
    if by == "user":
        await backend.unsubscribe(ALICE, "page")
    elif by == "token":
        await backend.unsubscribe(Target(token=sign(sub="alice")), "page")
    else:
        await backend.remove_channel("page")
    assert await code_of(join(world, alice, "alices")) == 103
    assert await code_of(join(world, world.user("alice", jti="2"), "alices")) == 103
    await join(world, alice, "elsewhere", "other")
    gone = 103 if by == "channel" else None
    assert await code_of(join(world, bob, "bobs")) == gone
    assert await code_of(join(world, carol, "unused")) == gone


async def test_a_channel_is_taken_from_those_who_have_no_name(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, tab = world.user("alice"), world.connected(token=sign(jti="1"))
    await register(world, "alices", "t", "unused")
    await join(world, alice, "alices")
    await join(world, tab, "t")
    await world.node.backend.unsubscribe(Target(anonymous=True), "page")
    assert await code_of(join(world, tab, "t")) == 103
    await join(world, alice, "alices")
    await join(world, tab, "unused")


async def test_one_client_from_which_a_channel_is_taken_keeps_its_token(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    alice, _ = await watched(world)
    await world.node.backend.unsubscribe(Target(client=alice.session.client), "page")
    assert content(world).users("page") == [("bob", "")]
    await join(world, alice, "t")


async def test_a_new_connection_token_brings_back_nothing_that_was_taken(
    make_world: Worlds,
) -> None:
    world = await make(make_world)
    alice, _ = await watched(world)
    world.engine.hold.add("content_forget")
    taking = later(world.node.backend.unsubscribe(ALICE, "page"))
    new = sign(sub="alice", jti="2")
    assert "refresh" in alice.ask("refresh", token=new)
    world.engine.release()
    assert taking.done
    assert await code_of(join(world, alice, "t")) == 103
    assert await code_of(join(world, world.connected(token=new), "t")) == 103


@pytest.mark.parametrize("everybody", [True, False])
async def test_an_engine_that_fails_keeps_nobody_in_a_channel(
    make_world: Worlds, everybody: bool
) -> None:
    world = await make(make_world)
    tab = world.connected(token=sign(jti="1"))
    await register(world, "t")
    await join(world, tab, "t")
    world.engine.broken["content_forget"] = NotConnected()
    backend, nameless = world.node.backend, Target(anonymous=True)
    with pytest.raises(NotConnected):
        await (
            backend.remove_channel("page") if everybody else backend.unsubscribe(nameless, "page")
        )
    await world.publish("page", 1)
    assert tab.published() == []


async def test_a_channel_that_is_taken_away_and_given_back_at_once(make_world: Worlds) -> None:
    """It was given by the CMS then, and is no longer had by the token."""
    world = await make(make_world)
    alice, bob = await watched(world)
    await world.node.backend.unsubscribe(ALICE, "page")
    await world.node.backend.subscribe(ALICE, "page", ChannelGrant())
    assert content(world).users("page") == [("bob", "")]
    await register(world, "another")
    await join(world, alice, "another")
    assert content(world).users("page") == [("bob", ""), ("alice", "")]
    world.advance(10)
    assert bob.published() == []
    assert len(world.engine.named("content_release")) == 1


async def test_a_channel_that_is_given_back_is_no_seat(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    await world.node.backend.unsubscribe(ALICE, "page")
    await world.node.backend.subscribe(ALICE, "page", ChannelGrant())
    world.advance(GRACE + 1)
    assert bob.published() == [left("alice")]
    assert len(world.engine.named("content_release")) == 1
    alice.leave()
    assert len(world.engine.named("content_release")) == 1


async def test_a_client_that_leaves_the_channel_itself(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    assert "unsubscribe" in alice.ask("unsubscribe", channel="page")
    assert content(world).users("page") == [("bob", "")]
    world.advance(GRACE + 1)
    assert bob.published() == [left("alice")]


# --- The end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kick", "logout token", "logout user"])
async def test_the_channel_is_silent_at_once(make_world: Worlds, how: str) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    slow = world.user("alice")
    await join(world, slow, "t")
    slow.session.pause()
    await world.publish("page", "before")
    sent = [len(tab.transport.sent) for tab in (alice, slow)]
    if how == "kick":
        await world.node.backend.disconnect(ALICE, Disconnect(3503))
    elif how == "logout token":
        await world.node.backend.logout(token=sign(sub="alice"))
    else:
        await world.node.backend.logout(user="alice")
    await world.publish("page", "after")
    for tab in (alice, slow):
        tab.session.resume()
    assert [len(tab.transport.sent) for tab in (alice, slow)] == sent
    world.advance(GRACE)
    assert bob.published() == ["before", "after", left("alice")]


async def test_a_kicked_client_may_come_back_by_its_token(make_world: Worlds) -> None:
    """A kick is no logout: who the CMS lets in again has its channels again."""
    world = await make(make_world)
    await watched(world)
    await world.node.backend.disconnect(ALICE, Disconnect(3503))
    await join(world, world.user("alice"), "t")


@pytest.mark.parametrize("by", ["token", "user"])
async def test_the_tokens_of_a_logged_out_client_are_of_no_use(make_world: Worlds, by: str) -> None:
    """Its connection token does not get in, and nobody else holds its content tokens."""
    world = await make(make_world)
    _, bob = await watched(world)
    token = sign(sub="alice")
    await world.node.backend.logout(**{by: token if by == "token" else "alice"})
    tab = world.tab()
    tab.send("connect", token=token)
    assert tab.code == 3500
    assert await code_of(join(world, tab, "t")) == 103
    new_login = world.user("alice", iat=NOW + 1, jti="new login")
    for other in (new_login, bob):
        assert await code_of(join(world, other, "t")) == 103


async def test_a_logout_while_the_token_is_asked_for(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    await register(world, "t")
    world.engine.hold_work.add("content_claim")
    joining = later(join(world, tab, "t"))
    await world.node.backend.logout(user="alice")
    world.engine.release()
    assert joining.says == "Refused 103 permission denied"
    assert content(world).users("page") == []
    await world.publish("page", 1)
    assert tab.published() == []


async def test_while_the_server_drains_nobody_is_told(make_world: Worlds) -> None:
    world = await make(make_world)
    alice, bob = await watched(world)
    content(world).silence()
    world.node.finish(alice.session, Disconnect(3001))
    world.advance(10)
    assert bob.published() == []


async def test_after_the_stop_nothing_is_told() -> None:
    world = await World(limits=QUIET).start()
    alice, _ = await watched(world)
    alice.leave()
    world.advance(1)
    await world.node.stop()
    world.clock.advance(TTL)
    assert world.engine.named("publish") == []
    assert world.clock.getDelayedCalls() == []


# --- Any order -------------------------------------------------------------------------------

CHANNELS = ("c", "d")
TOKENS = ("t", "u", "v")
HOLDERS = ("alice/1", "alice/2", "bob/1", "/3", "/")
"""User and connection token; none for the last."""


@define
class ModelToken:
    """What the CMS and the engine know of a token; ``uses`` are sessions that are in or ask."""

    channel: str
    notify: bool
    expires: float
    holder: str | None = None


@define(eq=False)
class ModelSeat:
    tab: Tab
    channel: str
    token: str
    notify: bool
    person: str


@define
class Asking:
    """A join whose claim was made, and whose answer waits."""

    outcome: Outcome
    tab: Tab
    channel: str
    token: str
    notify: bool
    good: bool


@define
class Model:
    """The rules, as plainly as can be: lists that are searched."""

    now: float = NOW
    tokens: dict[str, ModelToken] = field(factory=dict)
    seats: list[ModelSeat] = field(factory=list)
    claimed: set[str] = field(factory=set)
    owed: set[tuple[str, str]] = field(factory=set)
    leaving: dict[tuple[str, str], float] = field(factory=dict)
    told: dict[str, list[str]] = field(factory=lambda: {channel: [] for channel in CHANNELS})
    asking: Asking | None = None

    def register(self, token: str, channel: str, notify: bool) -> None:
        self.tokens[token] = ModelToken(channel, notify, self.now + TTL)
        self.claimed.discard(token)

    def seat(self, tab: Tab, channel: str) -> ModelSeat | None:
        found = [seat for seat in self.seats if seat.tab is tab and seat.channel == channel]
        return found[0] if found else None

    def claim(self, token: str, channel: str, holder: str) -> bool:
        known = self.tokens.get(token)
        if known is None or known.channel != channel or known.expires <= self.now:
            return False
        user = holder.partition("/")[0]
        back = user and known.holder is not None and known.holder.startswith(f"{user}/")
        if known.holder not in (None, holder) and not (back and known.expires < float("inf")):
            return False
        known.holder, known.expires = holder, float("inf")
        self.claimed.add(token)
        return True

    def sit(self, new: ModelSeat) -> None:
        old = self.seat(new.tab, new.channel)
        if old is not None:
            self.seats.remove(old)
        self.seats.append(new)
        if old is not None:
            self.done_with(old.token)
        if new.notify:
            self.owed.add((new.channel, new.person))
        self.leaving.pop((new.channel, new.person), None)

    def done_with(self, token: str) -> None:
        asked = self.asking is not None and self.asking.token == token
        if asked or any(seat.token == token for seat in self.seats):
            return
        if token in self.claimed:
            self.claimed.discard(token)
            self.tokens[token].expires = self.now + TTL

    def leave(self, seat: ModelSeat) -> None:
        self.seats.remove(seat)
        self.done_with(seat.token)
        who = seat.channel, seat.person
        if who in self.owed and seat.person not in self.users(seat.channel):
            self.owed.remove(who)
            self.leaving[who] = self.now + GRACE

    def tick(self) -> None:
        self.now += 0.25
        for (channel, person), due in list(self.leaving.items()):
            if due <= self.now:
                del self.leaving[channel, person]
                self.told[channel].append(person.partition("/")[0])

    def users(self, channel: str) -> set[str]:
        return {seat.person for seat in self.seats if seat.channel == channel}

    def exists(self, channel: str) -> bool:
        kept = (
            token.expires > self.now and token.channel == channel for token in self.tokens.values()
        )
        return any(kept) or bool(self.users(channel))


class Play:
    """A world and its model, side by side."""

    def __init__(self) -> None:
        self.world = World(content_token_ttl=TTL, limits=QUIET)
        self.model = Model()
        self.tabs: list[tuple[Tab, str]] = []
        self.must(self.world.start())
        self.watcher = self.world.user("watcher", channels=list(CHANNELS))

    def must(self, doing: Any) -> Any:
        outcome = later(doing)
        assert outcome.done
        assert outcome.error is None
        return outcome.value

    def register(self, token: str, channel: str, notify: bool) -> None:
        self.must(self.world.node.content.register(channel, token, notify_on_leave=notify))
        self.model.register(token, channel, notify)

    def connect(self, holder: str) -> None:
        user, _, token = holder.partition("/")
        tab = self.world.user(user, jti=token) if token else self.world.connected()
        self.tabs.append((tab, holder))

    def end(self, tab: Tab) -> None:
        self.tabs = [each for each in self.tabs if each[0] is not tab]
        tab.leave()
        for seat in [seat for seat in self.model.seats if seat.tab is tab]:
            self.model.leave(seat)

    def take(self, tab: Tab, channel: str) -> None:
        target = Target(client=tab.session.client)
        self.must(self.world.node.backend.unsubscribe(target, channel))
        seat = self.model.seat(tab, channel)
        if seat is not None:
            self.model.leave(seat)

    def person(self, tab: Tab, holder: str) -> str:
        user, _, token = holder.partition("/")
        return f"{user}/" if user else f"/{token or tab.session.client}"

    def join(self, tab: Tab, holder: str, channel: str, token: str, wait: bool) -> None:
        model, engine = self.model, self.world.engine
        known = model.tokens.get(token)
        notify = known is not None and known.notify
        who = holder if not holder.endswith("/") else tab.session.client
        good = model.claim(token, channel, who)
        if wait:
            engine.hold.add("content_claim")
        label = "" if tab.session.user else self.person(tab, holder)[1:]
        joining = self.world.node.content.join(tab.session, channel, token, label=label)
        asking = Asking(later(joining), tab, channel, token, notify, good)
        engine.hold.clear()
        if wait:
            self.model.asking = asking
        else:
            self.arrive(asking)

    def answer(self) -> None:
        """Let the join that waits go on."""
        asking, self.model.asking = self.model.asking, None
        if asking is not None:
            self.world.engine.release()
            self.arrive(asking)

    def arrive(self, asking: Asking) -> None:
        tab, model = asking.tab, self.model
        assert asking.outcome.done
        if not asking.good or tab.session.closed:
            assert asking.outcome.says == "Refused 103 permission denied"
            model.done_with(asking.token)
            return
        assert asking.outcome.error is None
        [holder] = [holder for each, holder in self.tabs if each is tab]
        person = self.person(tab, holder)
        model.sit(ModelSeat(tab, asking.channel, asking.token, asking.notify, person))

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.world.advance(0.25)
            self.model.tick()
            self.check()

    def check(self) -> None:
        for channel in CHANNELS:
            found = self.world.node.content.users(channel)
            persons = {f"{user}/" if user else f"/{label}" for user, label in found}
            assert persons == self.model.users(channel)
            assert len(found) == len(persons)
            exists = self.must(self.world.node.content.exists(channel))
            assert exists is self.model.exists(channel)
            told = [str(each["uid"] or "") for each in self.watcher.published(channel)]
            assert sorted(told) == sorted(self.model.told[channel])

    def finish(self) -> None:
        self.answer()
        self.must(self.world.end())


def busy(play: Play, tab: Tab) -> bool:
    return play.model.asking is not None and play.model.asking.tab is tab


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_in_any_order_only_the_first_holder_has_a_seat(data: st.DataObject) -> None:
    play = Play()
    for token in TOKENS:
        play.register(token, data.draw(st.sampled_from(CHANNELS)), data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(0, 30))):
        step = data.draw(
            st.sampled_from(
                [
                    "register",
                    "connect",
                    "join",
                    "join",
                    "slow join",
                    "answer",
                    "end",
                    "take",
                    "pass",
                ]
            )
        )
        channel, token = data.draw(st.sampled_from(CHANNELS)), data.draw(st.sampled_from(TOKENS))
        if step == "register":
            play.register(token, channel, data.draw(st.booleans()))
        elif step == "connect" or not play.tabs:
            play.connect(data.draw(st.sampled_from(HOLDERS)))
        elif step == "answer":
            play.answer()
        elif step == "pass":
            play.advance(data.draw(st.sampled_from([0.25, 1.0, GRACE, 5.0, TTL])))
        else:
            tab, holder = data.draw(st.sampled_from(play.tabs))
            if step == "end":
                play.end(tab)
            elif busy(play, tab):
                play.answer()
            elif step == "take":
                play.take(tab, channel)
            elif step == "join" or play.model.asking is None:
                play.join(tab, holder, channel, token, wait=step == "slow join")
        play.check()
    play.finish()
