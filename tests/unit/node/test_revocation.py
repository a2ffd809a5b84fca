"""What the CMS takes from a client that is on its way, or whose frames wait, stays taken.

Each of these was found by ``tests/revocation``, which tries all at any moment.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.node.support import Tab, World, sign
from twisted_push.errors import Disconnect, Overloaded
from twisted_push.model import ChannelGrant
from twisted_push.node.targets import Target

Worlds = Any
YES = {"result": {"user": "42", "channels": ["news:a", "plain"]}}


def asking(world: World, token: str = "of-alice") -> Tab:
    """Give a client about which the CMS is being asked."""
    world.cms.answer = None
    tab = world.tab()
    tab.send("connect", token=token)
    assert world.cms.open
    return tab


@pytest.mark.parametrize("how", ["client", "session"])
async def test_a_kick_finds_a_client_that_the_cms_is_being_asked_about(
    make_world: Worlds, how: str
) -> None:
    """The CMS knows its id from the question."""
    world = await make_world(callback=True)
    tab = asking(world)
    by_client = how == "client"
    target = Target(client=tab.session.client) if by_client else Target(session=tab.session.secret)
    await world.node.backend.disconnect(target, Disconnect(4501, "no"))
    world.cms.reply(YES)
    assert tab.code == 4501
    assert tab.everything == []


async def test_a_kick_of_one_client_is_not_one_of_the_next(make_world: Worlds) -> None:
    world = await make_world(callback=True)
    tab = asking(world)
    await world.node.backend.disconnect(Target(client=tab.session.client), Disconnect(3503))
    other = world.tab()
    other.send("connect", token="of-alice")
    assert world.cms.open == 1
    world.cms.reply(YES)
    assert (tab.code, other.code) == (3503, None)
    assert "connect" in other.everything[0]


async def test_a_channel_is_taken_from_a_client_that_the_cms_is_being_asked_about(
    make_world: Worlds,
) -> None:
    world = await make_world(callback=True)
    tab = asking(world)
    await world.node.backend.unsubscribe(Target(client=tab.session.client), "plain")
    world.cms.reply(YES)
    [reply] = tab.new()
    assert "plain" not in reply["connect"]["subs"]
    await world.publish("plain", 1)
    assert tab.new() == []


async def test_a_channel_is_taken_from_a_token_that_the_cms_is_being_asked_about(
    make_world: Worlds,
) -> None:
    """Up to the answer; what the CMS says later counts."""
    world = await make_world(callback=True)
    tab = asking(world)
    await world.node.backend.unsubscribe(Target(token="of-alice"), "plain")
    world.cms.reply(YES)
    assert "plain" not in tab.new()[0]["connect"]["subs"]
    world.clock.advance(1.0)
    later = asking(world, "another-of-alice")
    world.cms.reply(YES)
    assert "plain" in later.new()[0]["connect"]["subs"]


async def test_what_is_noted_for_clients_on_their_way_is_forgotten(make_world: Worlds) -> None:
    world = await make_world(callback=True)
    first = asking(world)
    for number in range(100):
        await world.node.backend.disconnect(Target(user=str(number)), Disconnect(3503))
    second = asking(world, "of-bob")
    await world.node.backend.disconnect(Target(user="x"), Disconnect(3503))
    assert len(world.node.channels.arrivals._notes) == 101
    first.leave()
    assert len(world.node.channels.arrivals._notes) == 1
    second.leave()
    assert not world.node.channels.arrivals._notes
    assert not world.node.channels.arrivals._by_key


async def test_a_channel_that_is_taken_while_its_content_token_is_looked_up(
    make_world: Worlds,
) -> None:
    world = await make_world()
    tab = world.user("42")
    await world.node.content.register("page", "content-token")
    world.engine.hold.add("content_claim")
    tab.send("subscribe", channel="page", token="content-token")
    await world.node.backend.unsubscribe(Target(user="42"), "page")
    world.engine.release()
    [reply] = tab.new()
    assert reply["error"]["code"] == 103
    assert (await world.publish("page", 1)).recipients == 0


async def test_a_channel_that_is_taken_while_it_is_being_given(make_world: Worlds) -> None:
    """To the first of two tabs already, to the second not yet."""
    world = await make_world()
    one, two = world.user("42"), world.user("42")
    world.engine.hold.add("since")
    giving = Deferred.fromCoroutine(
        world.node.backend.subscribe(Target(user="42"), "news:a", ChannelGrant())
    )
    await world.node.backend.unsubscribe(Target(user="42"), "news:a")
    while world.engine.held:
        world.engine.release()
    assert giving.called
    await world.publish("news:a", 1)
    assert one.published() == two.published() == []


async def test_a_join_that_fails_does_not_end_one_that_came_after_it(make_world: Worlds) -> None:
    world = await make_world()
    tab = world.user("42")
    world.engine.hold_work.add("since")
    Target42 = Target(user="42")  # noqa: N806
    first = Deferred.fromCoroutine(world.node.backend.subscribe(Target42, "news:a", ChannelGrant()))
    await world.node.backend.unsubscribe(Target42, "news:a")
    world.engine.hold_work.clear()
    await world.node.backend.subscribe(Target42, "news:a", ChannelGrant())
    world.engine.broken["since"] = Overloaded("no")
    [held] = world.engine.held
    world.engine.held.clear()
    held._gate.errback(Overloaded("no"))
    await world.publish("news:a", 1)
    assert tab.published("news:a") == [1]
    assert first.called
    first.addErrback(lambda failure: failure.trap(Overloaded))


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
async def test_who_is_in_a_channel_is_not_told_after_it_was_taken(
    make_world: Worlds, method: str
) -> None:
    world = await make_world()
    tab = world.user("42")
    tab.ask("subscribe", channel="room:a")
    world.engine.hold.add("presence")
    tab.new()
    tab.send(method, channel="room:a")
    await world.node.backend.unsubscribe(Target(user="42"), "room:a")
    world.engine.release()
    assert tab.new()[-1]["error"]["code"] == 103
    tab.ask("subscribe", channel="room:a")
    world.engine.hold.clear()
    tab.session.pause()
    tab.send(method, channel="room:a")
    await world.node.backend.unsubscribe(Target(user="42"), "room:a")
    tab.new()
    tab.session.resume()
    assert [each["error"]["code"] for each in tab.new() if "error" in each] == [103]


async def test_a_reply_to_connect_that_waits_does_not_go_out_with_a_channel_that_was_taken(
    make_world: Worlds,
) -> None:
    """It has publications of the channel in it: the client is closed, and comes back."""
    world = await make_world()
    place = (await world.publish("news:a", 1)).position
    tab = world.tab()
    tab.session.pause()
    token = sign(sub="42", channels=["news:a", "plain"])
    subs = {"news:a": {"recover": True, "offset": 0, "epoch": place.epoch}}
    tab.send("connect", token=token, subs=subs)
    await world.node.backend.unsubscribe(Target(user="42"), "plain")
    assert not tab.session.ending
    await world.node.backend.unsubscribe(Target(user="42"), "news:a")
    tab.session.resume()
    world.clock.advance(0)
    assert tab.everything == []
    assert tab.code == 3011


async def test_the_notice_of_a_given_channel_that_waits_goes_with_the_channel(
    make_world: Worlds,
) -> None:
    world = await make_world()
    tab = world.user("42")
    tab.session.pause()
    given = ChannelGrant(data=b'"for 42 alone"')
    await world.node.backend.subscribe(Target(user="42"), "plain", given)
    await world.node.backend.unsubscribe(Target(user="42"), "plain")
    tab.session.resume()
    assert [list(each["push"]) for each in tab.new()] == [["channel", "unsubscribe"]]


async def test_a_renewal_does_not_give_back_what_was_taken_while_the_cms_was_asked(
    make_world: Worlds,
) -> None:
    """What it says to a later question counts."""
    world = await make_world(callback=True)
    tabs = [asking(world), asking(world, "of-bob")]

    tab = tabs[0]
    end = int(world.clock.seconds()) + 20
    for user in ("alice", "bob"):
        result = {"user": user, "channels": ["plain", "other"], "expire_at": end}
        world.cms.reply({"result": result})
    tabs[1].leave()
    world.advance(19)
    assert world.cms.open
    await world.node.backend.unsubscribe(Target(client=tab.session.client), "plain")
    world.cms.reply({"result": {"user": "alice", "channels": ["plain", "other"]}})
    world.advance(1)
    assert sorted(tab.session.subscriptions) == ["broadcast", "other"]
    await world.publish("plain", 1)
    assert tab.published("plain") == []
