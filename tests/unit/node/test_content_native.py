"""Content channels of the native dialect: a ``subscribe`` with a token that the CMS registered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.node.support import Tab, World, sign
from twisted_push.cms.grants import token_digest
from twisted_push.config import Namespace
from twisted_push.errors import NotConnected
from twisted_push.model import ChannelGrant, StreamPosition
from twisted_push.node.targets import Target

Worlds = Any
TTL = 60.0
GRACE = 2.0
QUIET = {"ping_interval": 1e6, "pong_timeout": 1e6}
JOINED: dict[str, Any] = {"subscribe": {}}
REFUSED = {"code": 103, "message": "permission denied"}
SPACES = (
    Namespace(prefix="kept:", history_size=10, recover=True),
    Namespace(prefix="open:", client_subscribe="anyone"),
    Namespace(prefix="token:", client_subscribe="token"),
    Namespace(prefix="room:", presence=True, client_presence=True, join_leave=True),
)


async def make(make_world: Worlds, **options: Any) -> World:
    world: World = await make_world(
        content_token_ttl=TTL, limits=QUIET, namespaces=SPACES, **options
    )
    return world


async def register(world: World, channel: str, token: str = "t", **options: Any) -> None:
    await world.node.content.register(channel, token, **options)


def subscribe(tab: Tab, channel: str, token: str = "t", **params: Any) -> dict[str, Any]:
    """Subscribe; give the reply without its id."""
    tab.new()
    reply = tab.ask("subscribe", channel=channel, token=token, **params)
    del reply["id"]
    return reply


async def test_a_page_joins_whatever_the_namespace_says(make_world: Worlds) -> None:
    world = await make(make_world)
    for number, channel in enumerate(("page", "kept:1", "open:1", "token:1", "room:1")):
        await register(world, channel, f"t{number}")
        tab = world.user("alice")
        assert "subscribe" in subscribe(tab, channel, f"t{number}")
        assert [each for each in tab.new() if "push" in each and channel != "room:1"] == []
        await world.publish(channel, number)
        assert tab.published(channel) == [number]
        assert world.node.content.users(channel) == [("alice", "")]


async def test_the_reply_is_all_that_the_client_is_told(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    assert subscribe(tab, "page") == JOINED
    assert len(tab.new()) == 1
    assert tab.ask("subscribe", channel="page", token="t")["error"]["code"] == 105


async def test_what_the_cms_said_is_for_the_client_and_the_others(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "room:1", data=b'{"seat": 7}')
    tab = world.user("alice")
    assert subscribe(tab, "room:1") == {"subscribe": {"data": {"seat": 7}}}
    [info] = tab.ask("presence", channel="room:1")["presence"]["presence"].values()
    assert info["chan_info"] == {"seat": 7}


@pytest.mark.parametrize("token", ["wrong", "", "x" * 9000, "t2", "a.b.c", "\udc00"])
async def test_a_token_that_is_not_good(make_world: Worlds, token: str) -> None:
    world = await make(make_world)
    await register(world, "page", "t")
    await register(world, "elsewhere", "t2")
    tab = world.user("alice")
    number = tab.send("subscribe", channel="page", token=token)
    if token == "\udc00":
        assert tab.code in (None, 3501)
    else:
        assert tab.everything[-1] == {"id": number, "error": REFUSED}
    assert "page" not in tab.session.subscriptions
    assert world.node.content.users("page") == []
    assert subscribe(world.user("bob"), "page") == JOINED


async def test_where_a_token_is_not_good_the_namespace_rules(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    assert subscribe(tab, "open:1", "wrong") == JOINED
    assert world.node.content.users("open:1") == []
    assert subscribe(tab, "token:1", "wrong")["error"] == REFUSED
    signed = sign(sub="alice", channel="token:1")
    assert "subscribe" in subscribe(tab, "token:1", signed)
    assert token_digest(signed) not in {call[0] for call in world.engine.named("content_claim")}


async def test_a_token_that_has_the_form_of_a_signed_one_is_one(make_world: Worlds) -> None:
    world = await make(make_world)
    signed = sign(sub="alice", channel="page")
    await register(world, "page", signed)
    assert subscribe(world.user("alice"), "page", signed)["error"] == REFUSED
    world = await make(make_world, token_secret=None)
    await register(world, "page", signed)
    assert subscribe(world.connected(token=""), "page", signed) == JOINED


async def test_a_page_comes_back_and_nobody_else(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    token = sign(sub="alice")
    tab = world.connected(token=token)
    assert subscribe(tab, "page") == JOINED
    assert subscribe(world.user("bob"), "page")["error"] == REFUSED
    assert subscribe(world.user("alice", jti="2"), "page")["error"] == REFUSED
    tab.leave()
    world.advance(TTL - 1)
    assert subscribe(world.user("bob"), "page")["error"] == REFUSED
    tab = world.connected(token=token)
    assert subscribe(tab, "page") == JOINED
    tab.leave()
    world.advance(TTL + 0.25)
    assert subscribe(world.connected(token=token), "page")["error"] == REFUSED


@pytest.mark.parametrize("who", [{"sub": "alice"}, {}])
async def test_a_page_that_brought_a_new_token_is_known_by_it(
    make_world: Worlds, who: dict[str, str]
) -> None:
    world = await make(make_world)
    await register(world, "page")
    old, new = sign(**who), sign(**who, jti="2")
    tab = world.connected(token=old)
    assert subscribe(tab, "page") == JOINED
    assert "refresh" in tab.ask("refresh", token=new)
    assert subscribe(world.connected(token=old), "page")["error"] == REFUSED
    again = world.connected(token=new)
    assert subscribe(again, "page") == JOINED
    tab.leave()
    again.leave()
    assert ("error" in subscribe(world.connected(token=old), "page")) is (not who)
    if not who:
        assert subscribe(world.connected(token=new), "page") == JOINED


async def test_a_new_token_takes_nothing_from_the_next_holder(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    first, bob = world.user("alice"), sign(sub="bob")
    subscribe(first, "page")
    await register(world, "page")  # Anew, for another page.
    puts = len(world.engine.named("content_put"))
    first.ask("refresh", token=sign(sub="alice", jti="2"))
    second = world.connected(token=bob)
    assert subscribe(second, "page") == JOINED
    first.ask("refresh", token=sign(sub="alice", jti="3"))
    assert len(world.engine.named("content_put")) == puts
    second.leave()
    assert subscribe(world.connected(token=bob), "page") == JOINED


async def test_what_was_missed_is_recovered(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "kept:1")
    token = sign(sub="alice")
    tab = world.connected(token=token)
    begin = subscribe(tab, "kept:1")["subscribe"]
    place = {"recover": True, "epoch": begin["epoch"], "offset": begin.get("offset", 0)}
    tab.leave()
    for number in range(3):
        await world.publish("kept:1", number)
    tab = world.connected(token=token)
    found = subscribe(tab, "kept:1", **place)["subscribe"]
    assert (found["was_recovering"], found["recovered"]) == (True, True)
    assert [each["data"] for each in found["publications"]] == [0, 1, 2]
    position = StreamPosition(3, begin["epoch"])
    assert tab.session.subscriptions["kept:1"].position == position


async def test_what_is_published_meanwhile_comes_after_the_reply(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    tab.new()
    world.engine.hold.add("subscribe")
    tab.send("subscribe", channel="page", token="t")
    await world.publish("page", 1)
    assert tab.new() == []
    world.engine.hold.clear()
    world.engine.release()
    reply, push = tab.new()
    assert "subscribe" in reply
    assert push["push"]["pub"]["data"] == 1


@pytest.mark.parametrize("what", ["leaves", "logout", "removed"])
async def test_one_who_is_gone_before_the_answer_is_not_in(make_world: Worlds, what: str) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    world.engine.hold.add("subscribe")
    number = tab.send("subscribe", channel="page", token="t")
    if what == "leaves":
        tab.leave()
    elif what == "logout":
        await world.node.backend.logout(user="alice")
    else:
        await world.node.backend.unsubscribe(Target(user="alice"), "page")
    world.engine.hold.clear()
    world.engine.release()
    assert world.node.content.users("page") == []
    await world.publish("page", 1)
    assert tab.published() == []
    replies = [each for each in tab.everything if each.get("id") == number]
    assert replies == ([{"id": number, "error": REFUSED}] if what == "removed" else [])


async def test_a_channel_that_the_cms_gives_meanwhile(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    world.engine.hold.add("content_claim")
    number = tab.send("subscribe", channel="page", token="t")
    await world.node.backend.subscribe(Target(user="alice"), "page", ChannelGrant())
    world.engine.hold.clear()
    world.engine.release()
    assert tab.everything[-1]["error"]["code"] == 105
    assert tab.everything[-1]["id"] == number
    assert "page" in tab.session.subscriptions


async def test_a_client_that_leaves_may_come_back(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    for _ in range(3):
        assert subscribe(tab, "page") == JOINED
        assert "unsubscribe" in tab.ask("unsubscribe", channel="page")
    assert world.node.content.users("page") == []


async def test_the_others_are_told_who_left(make_world: Worlds) -> None:
    world = await make(make_world)
    watcher = world.user("bob", channels=["page"])
    for token in ("t1", "t2"):
        await register(world, "page", token, notify_on_leave=True)
    first, second = world.user("alice"), world.user("alice", jti="2")
    for tab, token in ((first, "t1"), (second, "t2")):
        subscribe(tab, "page", token)
    first.leave()
    world.advance(2 * GRACE)
    assert watcher.published() == []
    second.leave()
    world.advance(GRACE - 0.25)
    assert watcher.published() == []
    world.advance(0.25)
    [push] = [each["push"] for each in watcher.new() if "push" in each]
    assert push == {
        "channel": "page",
        "pub": {
            "data": {"uid": "alice", "type": "disconnect"},
            "tags": {"contentChannelNotification": "true"},
        },
    }


async def test_an_engine_that_cannot_say(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page")
    tab = world.user("alice")
    world.engine.broken["content_claim"] = NotConnected()
    assert subscribe(tab, "page")["error"]["code"] == 100
    world.engine.broken.clear()
    assert subscribe(tab, "page") == JOINED


# --- How long --------------------------------------------------------------------------------


async def test_a_token_waits_as_long_as_the_cms_says(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page", "long")
    await register(world, "page", "short", ttl=5.0)
    world.advance(5)
    assert await world.node.content.exists("page")  # By the other one.
    assert subscribe(world.user("alice"), "page", "short")["error"] == REFUSED
    assert subscribe(world.user("alice"), "page", "long") == JOINED


async def test_not_longer_than_the_site_says(make_world: Worlds) -> None:
    world = await make(make_world)
    await register(world, "page", "t", ttl=TTL)
    with pytest.raises(Exception, match=r"ttl is above content_token_ttl \(60 s\)"):
        await register(world, "page", "t", ttl=TTL + 1)
