"""The verbs of the CMS that mean clients by their token, or all who have no user."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Outcome
from tests.unit.node.support import Tab, World, sign
from twisted_push.errors import Disconnect, NotConnected, Refused
from twisted_push.model import ChannelGrant
from twisted_push.node.targets import Target

Worlds = Any
TOKEN = "token-of-alice"


def came(world: World, token: str = TOKEN, **answer: Any) -> Tab:
    """Give a client whose token the CMS was asked about."""
    world.cms.answer = {"result": {"user": "alice", **answer}}
    tab = world.tab()
    tab.send("connect", token=token)
    world.cms.agent.flush()
    assert "connect" in tab.everything[0], tab.everything
    tab.new()
    return tab


def received(tab: Tab) -> list[str]:
    return sorted(tab.session.subscriptions)


def test_a_target_keeps_its_token_to_itself() -> None:
    assert TOKEN not in repr(Target(token=TOKEN))


@pytest.mark.parametrize(
    ("target", "whole_user"),
    [
        (Target(user="alice"), True),
        (Target(user="alice", token=TOKEN), False),
        (Target(token=TOKEN), False),
        (Target(anonymous=True), False),
    ],
)
def test_who_is_meant(target: Target, whole_user: bool) -> None:
    assert target.named
    assert target.whole_user is whole_user


async def test_a_channel_by_token(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    one, two, other = came(world), came(world), came(world, "another-token")
    await world.node.backend.subscribe(Target(token=TOKEN), "chat", ChannelGrant())
    assert [received(tab) for tab in (one, two, other)] == [
        ["broadcast", "chat"],
        ["broadcast", "chat"],
        ["broadcast"],
    ]
    assert received(came(world)) == ["broadcast", "chat"]
    await world.node.backend.unsubscribe(Target(token=TOKEN), "chat")
    assert received(one) == ["broadcast"]
    assert received(came(world)) == ["broadcast"]


async def test_a_channel_by_token_of_one_user_alone(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = came(world)
    await world.node.backend.subscribe(Target(token=TOKEN, user="bob"), "chat", ChannelGrant())
    assert received(tab) == ["broadcast"]


async def test_a_logout_beats_a_channel_by_token(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    came(world)
    world.engine.hold.add("grant_get")
    backend = world.node.backend
    giving = Outcome(
        Deferred.fromCoroutine(backend.subscribe(Target(token=TOKEN), "chat", ChannelGrant()))
    )
    await backend.logout(token=TOKEN)
    world.engine.hold.clear()
    world.engine.release()
    assert giving.done
    assert not await backend.knows_token(TOKEN)


async def test_which_tokens_are_known(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    backend = world.node.backend
    assert not await backend.knows_token(TOKEN)
    came(world)
    assert await backend.knows_token(TOKEN)
    signed = sign(sub="bob")
    tab = world.connected(token=signed)
    assert await backend.knows_token(signed)
    tab.leave()
    assert not await backend.knows_token(signed)
    world.engine.broken["grant_get"] = NotConnected()
    with pytest.raises(NotConnected):
        await backend.knows_token("another-token")


async def test_everybody_without_a_user(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.connected(), world.connected(), world.user("alice")]
    anonymous = Target(anonymous=True)
    await world.node.backend.subscribe(anonymous, "chat", ChannelGrant())
    assert ["chat" in received(tab) for tab in tabs] == [True, True, False]
    assert received(world.connected()) == ["broadcast"]
    await world.node.backend.unsubscribe(anonymous, "chat")
    assert received(tabs[0]) == ["broadcast"]
    await world.node.backend.disconnect(anonymous, Disconnect(3503))
    assert [tab.code for tab in tabs] == [3503, 3503, None]
    with pytest.raises(Refused):
        await world.node.backend.disconnect(Target(), Disconnect(3503))


async def test_a_channel_is_taken_from_everybody(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.user("alice", channels=["chat", "other"]), world.user("bob", channels=["chat"])]
    visitor = world.connected()
    await world.node.backend.remove_channel("chat")
    assert [received(tab) for tab in tabs] == [["broadcast", "other"], ["broadcast"]]
    assert all("unsubscribe" in tab.new()[-1]["push"] for tab in tabs)
    assert visitor.new() == []
    assert received(world.user("alice", channels=["chat"])) == ["broadcast", "chat"]
