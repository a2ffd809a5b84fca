"""Who is in a channel: told to its clients and to the CMS alike, through a page change."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Outcome
from tests.unit.node.support import Tab, World, sign
from twisted_push.config import PresenceConfig
from twisted_push.errors import Disconnect, NotConnected
from twisted_push.node.targets import Target

Worlds = Any
ROOM = "room:1"
ALICE = Target(user="alice")


def visit(world: World, user: str, channel: str = ROOM, **claims: Any) -> Tab:
    tab = world.user(user, **claims)
    tab.ask("subscribe", channel=channel)
    tab.new()
    return tab


def told(watcher: Tab) -> list[tuple[str, str]]:
    """Give who came and went since the last time: kind and client."""
    pushes = [each["push"] for each in watcher.new() if "push" in each]
    return [
        (kind, push[kind]["info"]["client"])
        for push in pushes
        for kind in ("join", "leave")
        if kind in push
    ]


async def present(world: World, channel: str = ROOM) -> set[str]:
    return {info.user for info in (await world.node.backend.presence(channel)).values()}


async def test_a_page_change_is_no_departure(make_world: Worlds) -> None:
    world: World = await make_world()
    watcher, page = visit(world, "bob"), visit(world, "alice")
    told(watcher)
    page.leave()
    world.advance(1.5)
    assert told(watcher) == []
    assert await present(world) == {"alice", "bob"}
    next_page = visit(world, "alice")
    world.advance(1)
    assert told(watcher) == [("join", next_page.session.client), ("leave", page.session.client)]
    assert await present(world) == {"alice", "bob"}
    world.advance(10)
    assert told(watcher) == []


async def test_who_does_not_come_back_has_left(make_world: Worlds) -> None:
    world: World = await make_world()
    watcher, page = visit(world, "bob"), visit(world, "alice")
    told(watcher)
    page.leave()
    world.advance(2.25)
    assert told(watcher) == [("leave", page.session.client)]
    assert await present(world) == {"bob"}


@pytest.mark.parametrize(
    ("code", "returning"), [(3001, True), (3008, True), (3503, False), (4000, True), (4500, False)]
)
async def test_the_close_code_says_who_may_come_back(
    make_world: Worlds, code: int, returning: bool
) -> None:
    world: World = await make_world()
    watcher, page = visit(world, "bob"), visit(world, "alice")
    told(watcher)
    world.node.finish(page.session, Disconnect(code))
    assert told(watcher) == ([] if returning else [("leave", page.session.client)])
    world.advance(2.25)
    assert told(watcher) == ([("leave", page.session.client)] if returning else [])


@pytest.mark.parametrize(
    "how",
    [
        lambda backend, page: backend.disconnect(ALICE, Disconnect(3503)),
        lambda backend, page: backend.disconnect(
            Target(client=page.session.client), Disconnect(4501)
        ),
        lambda backend, page: backend.disconnect(
            Target(session=page.session.secret), Disconnect(3503)
        ),
        lambda backend, page: backend.logout(user="alice"),
        lambda backend, page: backend.logout(token=sign(sub="alice")),
        lambda backend, page: backend.unsubscribe(ALICE, ROOM),
    ],
    ids=["kick", "kick a client", "kick a session", "logout", "logout of a token", "unsubscribe"],
)
@pytest.mark.parametrize("gone", [False, True])
async def test_what_the_cms_wants_is_done_at_once(make_world: Worlds, how: Any, gone: bool) -> None:
    """With a client that is here, and with one whose connection was lost just now."""
    world: World = await make_world()
    watcher, page, other = visit(world, "bob"), visit(world, "alice"), visit(world, "carol")
    if gone:
        page.leave()
        other.leave()
    told(watcher)
    await how(world.node.backend, page)
    assert told(watcher) == [("leave", page.session.client)]
    assert await present(world) == {"bob", "carol"}


async def test_a_removed_channel_has_nobody(make_world: Worlds) -> None:
    world: World = await make_world()
    here, gone = visit(world, "alice"), visit(world, "bob")
    gone.ask("subscribe", channel="room:2")
    gone.leave()
    await world.node.backend.remove_channel(ROOM)
    assert ROOM not in here.session.subscriptions
    assert await present(world) == set()
    assert await present(world, "room:2") == {"bob"}
    world.advance(2.25)
    assert await present(world, "room:2") == set()


async def test_whom_a_kick_spares(make_world: Worlds) -> None:
    """One that sends clients away to come back does not end what waits for them."""
    world: World = await make_world()
    one, two = visit(world, "alice"), visit(world, "alice")
    one.leave()
    two.leave()
    backend = world.node.backend
    await backend.disconnect(ALICE, Disconnect(3011))
    assert len(await backend.presence(ROOM)) == 2
    await backend.disconnect(ALICE, Disconnect(3503), [two.session.client])
    assert list(await backend.presence(ROOM)) == [two.session.client]


async def test_everybody_without_a_user_is_kicked(make_world: Worlds) -> None:
    world: World = await make_world()
    visit(world, "alice").leave()
    visitor = world.connected()
    visitor.ask("subscribe", channel=ROOM)
    visitor.leave()
    assert await present(world) == {"alice", ""}
    await world.node.backend.disconnect(Target(anonymous=True), Disconnect(3503))
    assert await present(world) == {"alice"}


async def test_without_grace(make_world: Worlds) -> None:
    world: World = await make_world(presence=PresenceConfig(online_grace=0.0))
    watcher, page = visit(world, "bob"), visit(world, "alice")
    told(watcher)
    page.leave()
    assert told(watcher) == [("leave", page.session.client)]


async def test_only_so_many_are_waited_for(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_connections": 2})
    watcher = visit(world, "bob")
    pages = [visit(world, f"user{number}") for number in range(3)]
    told(watcher)
    for page in pages:
        page.leave()
    assert told(watcher) == [("leave", pages[2].session.client)]
    world.advance(2.25)
    assert {client for _, client in told(watcher)} == {p.session.client for p in pages[:2]}


async def test_what_is_told_is_what_was_known(make_world: Worlds) -> None:
    world: World = await make_world()
    watcher, page = visit(world, "bob"), visit(world, "alice", info={"name": "A"})
    page.leave()
    watcher.new()
    world.advance(2.25)
    [push] = watcher.new()
    assert push["push"]["leave"]["info"] == {
        "user": "alice",
        "client": page.session.client,
        "conn_info": {"name": "A"},
    }


async def test_nobody_is_left_when_the_server_stops() -> None:
    world = await World().start()
    page, here = visit(world, "alice"), visit(world, "bob")
    page.leave()
    await world.node.stop()
    assert here.code == 3001
    assert await world.memory.presence(ROOM) == {}
    removed = {(args[0], args[1].user) for args in world.engine.named("presence_remove")}
    assert removed == {(ROOM, "alice"), (ROOM, "bob")}
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("grace", [0.0, 2.0])
async def test_nobody_is_told_of_those_who_are_sent_away_when_the_server_stops(
    grace: float,
) -> None:
    world = await World(presence=PresenceConfig(online_grace=grace)).start()
    pages = [visit(world, f"user{number}") for number in range(60)]
    for page in pages:
        told(page)
    drained = Outcome(Deferred.fromCoroutine(world.node.drain(20.0)))
    for _ in range(200):
        world.clock.advance(0.1)
    assert drained.done
    assert {page.code for page in pages} == {3001}
    assert [told(page) for page in pages] == [[]] * 60
    assert len(await present(world)) == 60
    await world.node.stop()
    assert await world.memory.presence(ROOM) == {}
    assert world.leftovers() == {}
    assert world.clock.getDelayedCalls() == []


async def test_one_who_leaves_for_good_while_the_server_stops_is_told() -> None:
    world = await World().start()
    watcher, page = visit(world, "bob"), visit(world, "alice")
    told(watcher)
    world.node.channels.presence.silence()
    await world.node.backend.disconnect(ALICE, Disconnect(3503))
    assert told(watcher) == [("leave", page.session.client)]
    await world.node.stop()


async def test_an_engine_that_cannot_take_them_out(make_world: Worlds) -> None:
    world: World = await make_world()
    visit(world, "alice").leave()
    world.engine.broken["presence_remove"] = NotConnected()
    world.advance(3)
    assert world.engine.named("presence_remove")
    assert world.node.channels.presence._leaving == {}
