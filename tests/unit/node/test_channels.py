"""Who gets what: in order, once, and nothing after the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Outcome
from tests.unit.node.support import BROADCAST, Tab, World, sign
from twisted_push.errors import Disconnect, NotConnected, OutcomeUnknown, Refused
from twisted_push.model import ChannelGrant, StreamPosition
from twisted_push.node.targets import Target

Worlds = Any
ALICE = Target(user="alice")


def later(doing: Any) -> Outcome:
    """Begin something that waits."""
    return Outcome(Deferred.fromCoroutine(doing))


# --- Rules -----------------------------------------------------------------------------------


async def test_who_may_subscribe(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_channels_per_client": 3})
    tab = world.user("alice")

    def code(channel: str, **params: Any) -> int | None:
        error = tab.ask("subscribe", channel=channel, **params).get("error")
        return error["code"] if error else None

    assert code("other") == 103
    assert code(BROADCAST) == 105
    assert code("open:1") is None
    assert code("open:1") == 105
    assert code("token:1") == 103
    assert code("token:1", token="rubbish") == 103
    assert code("token:1", token=sign(sub="bob", channel="token:1")) == 103
    assert code("token:1", token=sign(sub="alice", channel="token:2")) == 103
    assert code("token:1", token=sign(sub="alice")) == 103
    assert code("token:1", token=sign(sub="alice", channel="token:1", exp=NOW - 1)) == 109
    assert code("token:1", token=sign(sub="alice", channel="token:1")) is None
    assert code("open:2") == 106
    tab.ask("unsubscribe", channel="open:1")
    assert code("open:2") is None


async def test_who_may_publish(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.user("alice", info={"name": "A"})

    def code(channel: str) -> int | None:
        error = tab.ask("publish", channel=channel, data={"x": 1}).get("error")
        return error["code"] if error else None

    assert code("open:1") == 103
    assert code(BROADCAST) == 103
    assert code("wall:1") is None
    tab.ask("subscribe", channel="open:1")
    assert code("open:1") is None
    [push] = [each["push"] for each in tab.everything if "push" in each]
    assert push["pub"]["info"] == {
        "user": "alice",
        "client": tab.session.client,
        "conn_info": {"name": "A"},
    }


async def test_presence(make_world: Worlds) -> None:
    world: World = await make_world()
    one, two = world.user("alice"), world.user("bob")
    assert one.ask("presence", channel="room:1")["error"]["code"] == 103
    one.ask("subscribe", channel="room:1")
    one.new()
    two.ask("subscribe", channel="room:1")
    client = two.session.client
    assert one.new() == [
        {"push": {"channel": "room:1", "join": {"info": {"user": "bob", "client": client}}}}
    ]
    assert set(one.ask("presence", channel="room:1")["presence"]["presence"]) == {
        one.session.client,
        client,
    }
    assert one.ask("presence_stats", channel="room:1")["presence_stats"] == {
        "num_clients": 2,
        "num_users": 2,
    }
    assert one.ask("presence", channel="open:1")["error"]["code"] == 108
    assert one.ask("presence", channel="news:1")["error"]["code"] == 103
    one.new()
    two.ask("unsubscribe", channel="room:1")
    assert one.new() == [
        {"push": {"channel": "room:1", "leave": {"info": {"user": "bob", "client": client}}}}
    ]


async def test_a_client_cannot_leave_what_the_cms_gave(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    assert tab.ask("unsubscribe", channel=BROADCAST)["error"]["code"] == 103
    assert "unsubscribe" in tab.ask("unsubscribe", channel="open:never")


async def test_sub_refresh(make_world: Worlds) -> None:
    world: World = await make_world(limits={"pong_timeout": 1000.0})
    tab = world.user("alice")

    def token(seconds: int) -> str:
        return sign(sub="alice", channel="token:1", exp=NOW + seconds)

    result = tab.ask("subscribe", channel="token:1", token=token(10))["subscribe"]
    assert (result["expires"], result["ttl"]) == (True, 10)
    result = tab.ask("sub_refresh", channel="token:1", token=token(60))["sub_refresh"]
    assert result["ttl"] == 60
    assert tab.ask("sub_refresh", channel="token:2", token=token(60))["error"]["code"] == 103
    assert tab.ask("sub_refresh", channel=BROADCAST, token=token(60))["error"]["code"] == 103
    world.advance(84)
    assert "token:1" in tab.session.subscriptions
    tab.new()
    world.advance(1.5)
    assert tab.new() == [
        {
            "push": {
                "channel": "token:1",
                "unsubscribe": {"code": 2501, "reason": "subscription expired"},
            }
        }
    ]
    await world.publish("token:1", 1)
    assert tab.new() == []


async def test_a_subscription_of_the_cms_ends_when_it_says(make_world: Worlds) -> None:
    """Nobody can renew it: no grace, and no waiting for the next ping."""
    world: World = await make_world(
        limits={"ping_interval": 1000.0, "pong_timeout": 1000.0},
    )
    tab = world.user("alice")
    await world.node.backend.subscribe(ALICE, "x", ChannelGrant(expires_at=NOW + 10))
    world.advance(5)
    late = world.user("alice")
    assert "x" in late.session.subscriptions
    world.advance(35)
    await world.publish("x", 1)
    assert tab.published() == late.published() == []
    assert "x" not in world.user("alice").session.subscriptions


async def test_what_a_grant_has_is_there_when_the_end_is_over(make_world: Worlds) -> None:
    world: World = await make_world()
    await world.node.backend.subscribe(ALICE, "x", ChannelGrant(expires_at=NOW + 10))
    world.advance(40)
    assert "x" in world.user("alice", channels=["x"]).session.subscriptions


# --- Publications ----------------------------------------------------------------------------


async def test_order_and_offsets(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    result = tab.ask("subscribe", channel="news:1")["subscribe"]
    assert result["recoverable"] is True
    assert result["positioned"] is True
    assert "offset" not in result
    results = [await world.publish("news:1", number) for number in range(5)]
    assert [each.position.offset for each in results] == [1, 2, 3, 4, 5]
    assert {each.recipients for each in results} == {1}
    assert tab.published() == [0, 1, 2, 3, 4]
    unkept = await world.publish("news:1", "unkept", skip_history=True)
    assert unkept.position is None
    assert tab.published()[-1] == "unkept"


async def test_one_encoding_for_all(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.connected() for _ in range(3)]
    await world.publish(BROADCAST, 1)
    assert len({id(tab.transport.sent[-1]) for tab in tabs}) == 1


async def test_recovery(make_world: Worlds) -> None:
    world: World = await make_world()
    epoch = world.connected().ask("subscribe", channel="news:1")["subscribe"]["epoch"]
    for number in range(12):
        await world.publish("news:1", number)

    def recovered(offset: int, epoch: str) -> tuple[Any, Any, Any]:
        result = world.connected().ask(
            "subscribe", channel="news:1", recover=True, offset=offset, epoch=epoch
        )["subscribe"]
        assert result["was_recovering"] is True
        assert result["offset"] == 12
        missed = [each["data"] for each in result.get("publications", [])]
        return (
            result.get("recovered"),
            missed,
            [each["offset"] for each in result.get("publications", [])],
        )

    assert recovered(12, epoch) == (True, [], [])
    assert recovered(10, epoch) == (True, [10, 11], [11, 12])
    assert recovered(2, epoch) == (True, list(range(2, 12)), list(range(3, 13)))
    assert recovered(1, epoch) == (None, [], [])
    assert recovered(10, "other") == (None, [], [])
    assert recovered(13, epoch) == (None, [], [])
    assert recovered(-1, epoch) == (None, [], [])
    world.advance(601)
    assert recovered(12, epoch) == (True, [], [])
    assert recovered(11, epoch) == (None, [], [])


async def test_recovery_of_server_side_subscriptions(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="alice", channels=["news:a", "log:a"])
    tab = world.tab()
    subs = tab.ask("connect", token=token)["connect"]["subs"]
    place = {"recover": True, "offset": 0, "epoch": subs["news:a"]["epoch"]}
    tab.leave()
    await world.publish("news:a", 1)
    await world.publish("log:a", 1)
    again = world.tab()
    log = {"recover": True, "offset": 0, "epoch": subs["log:a"]["epoch"]}
    given = {"news:a": place, "log:a": log, "never": place}
    subs = again.ask("connect", token=token, subs=given)["connect"]["subs"]
    assert subs["news:a"]["recovered"] is True
    assert [each["data"] for each in subs["news:a"]["publications"]] == [1]
    assert not subs["log:a"].get("recovered")
    assert "publications" not in subs["log:a"]
    assert "never" not in subs


@pytest.mark.parametrize("held", ["hold", "hold_work"])
async def test_what_comes_while_the_history_is_read(make_world: Worlds, held: str) -> None:
    world: World = await make_world()
    epoch = world.connected().ask("subscribe", channel="news:1")["subscribe"]["epoch"]
    await world.publish("news:1", "missed")
    tab = world.connected()
    getattr(world.engine, held).add("since")
    tab.send("subscribe", channel="news:1", recover=True, offset=0, epoch=epoch)
    await world.publish("news:1", "meanwhile 1")
    await world.publish("news:1", "meanwhile 2")
    await world.publish("news:1", "unkept", skip_history=True)
    assert tab.new() == []
    world.engine.release()
    await world.publish("news:1", "after")
    reply, *pushes = tab.new()
    data = [each["data"] for each in reply["subscribe"]["publications"]]
    data += [push["push"]["pub"]["data"] for push in pushes]
    kept = [each for each in data if each != "unkept"]
    assert kept == ["missed", "meanwhile 1", "meanwhile 2", "after"]
    assert data.count("unkept") == 1


async def test_a_second_client_waits_until_the_engine_announces(make_world: Worlds) -> None:
    """Else what is published between its reading of the history and the announcement is lost."""
    world: World = await make_world()
    first, second = world.connected(), world.connected()
    world.engine.hold_work.add("subscribe")
    first.send("subscribe", channel="news:1")
    second.send("subscribe", channel="news:1")
    await world.publish("news:1", "early")
    world.engine.release()
    await world.publish("news:1", "late")
    for tab in (first, second):
        reply, *pushes = tab.new()
        seen = [push["push"]["pub"]["data"] for push in pushes]
        if reply["subscribe"].get("offset", 0) < 1:
            assert seen == ["early", "late"]
        else:
            assert seen == ["late"]


async def test_a_failed_subscription_is_not_taken_for_one(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    world.engine.broken["subscribe"] = NotConnected()
    error = tab.ask("subscribe", channel="open:1")["error"]
    assert (error["code"], error["temporary"]) == (100, True)
    world.engine.broken.clear()
    assert "subscribe" in tab.ask("subscribe", channel="open:1")
    await world.publish("open:1", 1)
    assert tab.published() == [1]


async def test_a_subscription_that_was_given_up_is_not_taken_for_one(make_world: Worlds) -> None:
    world: World = await make_world()
    world.engine.hold_work.add("subscribe")
    tab = world.tab()
    tab.send("connect")
    tab.leave()
    world.engine.hold_work.clear()
    other = world.connected()
    await world.publish(BROADCAST, 1)
    assert other.published() == [1]


async def test_a_failed_history_leaves_no_subscription(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    world.engine.broken["since"] = OutcomeUnknown()
    assert tab.ask("subscribe", channel="news:1")["error"]["code"] == 100
    world.engine.broken.clear()
    assert "news:1" not in tab.session.subscriptions
    await world.publish("news:1", 1)
    assert "subscribe" in tab.ask("subscribe", channel="news:1")


async def test_a_client_that_leaves_while_it_subscribes(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    world.engine.hold.add("since")
    tab.send("subscribe", channel="news:1")
    tab.leave()
    world.engine.release()
    world.advance(11)
    assert world.leftovers() == {}


# --- Slow clients ----------------------------------------------------------------------------


async def test_a_slow_client_is_closed_and_nobody_else_notices(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_outbox": 1000})
    slow, quick = world.connected(), world.connected()
    slow.session.pause()
    for number in range(50):
        await world.publish(BROADCAST, [number, "x" * 50])
    world.clock.advance(0)
    assert slow.code == 3008
    assert slow.published() == []
    assert len(quick.published()) == 50
    assert quick.code is None


async def test_a_slow_client_sees_nothing_after_its_gap(make_world: Worlds) -> None:
    """Its last offset is where it recovers from: one after the gap would hide the gap."""
    world: World = await make_world(limits={"max_outbox": 300})
    tab = world.connected()
    tab.ask("subscribe", channel="news:1")
    tab.session.pause()
    for _ in range(5):
        await world.publish("news:1", "x" * 50)
    tab.session.resume()
    await world.publish("news:1", "after the gap")
    tab.session.resume()
    world.clock.advance(0)
    assert tab.code == 3008
    assert tab.published() == []


async def test_a_client_sees_nothing_after_a_reset(make_world: Worlds) -> None:
    """The same for a gap that the engine knows of."""
    world: World = await make_world()
    tab = world.connected()
    epoch = tab.ask("subscribe", channel="news:1")["subscribe"]["epoch"]
    world.node.reset("news:1", StreamPosition(7, epoch))
    await world.publish("news:1", "after the gap")
    world.clock.advance(0)
    assert tab.code == 3010
    assert tab.published() == []


async def test_a_slow_client_that_gets_going(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    tab.session.pause()
    for number in range(5):
        await world.publish(BROADCAST, number)
    assert tab.published() == []
    tab.transport.room = 2
    tab.session.resume()
    assert tab.published() == [0, 1]
    tab.transport.room = None
    tab.session.resume()
    await world.publish(BROADCAST, 5)
    assert tab.published() == [0, 1, 2, 3, 4, 5]


# --- The end ---------------------------------------------------------------------------------


async def end_by(world: World, how: str, token: str) -> None:
    if how == "kick":
        await world.node.backend.disconnect(ALICE, Disconnect(3503))
    elif how == "logout token":
        await world.node.backend.logout(token=token)
    else:
        await world.node.backend.logout(user="alice")


@pytest.mark.parametrize("how", ["kick", "logout token", "logout user"])
async def test_nothing_is_delivered_after_the_end(make_world: Worlds, how: str) -> None:
    world: World = await make_world()
    token = sign(sub="alice", channels=["a"])
    quick, slow, busy = (world.connected(token=token) for _ in range(3))
    bob = world.user("bob")
    slow.session.pause()
    await world.publish("a", "before")
    world.engine.hold.add("since")
    busy.send("subscribe", channel="news:1")
    await end_by(world, how, token)
    sent = [len(tab.transport.sent) for tab in (quick, slow, busy)]
    world.engine.hold.clear()
    world.engine.release()
    await world.publish("a", "after")
    await world.publish("news:1", "after")
    for tab in (quick, slow, busy):
        tab.session.resume()
        tab.send("ping")
    assert [len(tab.transport.sent) for tab in (quick, slow, busy)] == sent
    assert {tab.code for tab in (quick, slow, busy)} == {3503 if how == "kick" else 3500}
    assert bob.code is None
    assert quick.published() == ["before"]
    assert slow.published() == []


@pytest.mark.parametrize("how", ["kick", "logout token", "logout user", "channel"])
async def test_the_word_of_the_cms_counts_though_it_cannot_be_kept(
    make_world: Worlds, how: str
) -> None:
    """As with a full disk: those who are here do not wait for room."""
    world: World = await make_world()
    token = sign(sub="alice", channels=["a"])
    tab = world.connected(token=token)
    for name in ("grant_forget", "revoke_token", "revoke_user", "overlay_set"):
        world.engine.broken[name] = OutcomeUnknown()
    taking = world.node.backend.unsubscribe(ALICE, "a")
    with pytest.raises(OutcomeUnknown):
        await (taking if how == "channel" else end_by(world, how, token))
    taking.close()
    await world.publish("a", "after")
    assert tab.published() == []
    assert tab.code == {"kick": 3503, "channel": None}.get(how, 3500)


async def test_the_word_of_the_cms_does_not_wait_for_the_disk(make_world: Worlds) -> None:
    world: World = await make_world()
    tab, other = world.user("alice"), world.user("alice")
    world.engine.hold.update({"overlay_set", "revoke_user", "revoke_token", "presence_list_set"})
    given = later(world.node.backend.subscribe(ALICE, "x", ChannelGrant()))
    assert "x" in tab.session.subscriptions
    seen = later(world.node.online.see("alice", frozenset({"bob"})))
    assert "alice" in world.node.online._visible["bob"]
    ended = later(world.node.backend.logout(user="alice"))
    assert (tab.code, other.code) == (3500, 3500)
    assert [each.done for each in (given, seen, ended)] == [False] * 3
    while world.engine.held:
        world.engine.release()
    assert [each.done for each in (given, seen, ended)] == [True] * 3


async def test_a_logout_finds_who_came_while_the_engine_noted_it(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="alice")
    world.connected(token=token)
    world.engine.hold_work.update({"revoke_token", "revoke_user"})
    logout = later(world.node.backend.logout(user="alice"))
    late = world.connected(token=sign(sub="alice", jti="other"))
    while world.engine.held:
        world.engine.release()
    assert logout.done
    assert late.code == 3500


@pytest.mark.parametrize("what", ["token", "user"])
async def test_a_logout_lasts_as_long_as_the_token(make_world: Worlds, what: str) -> None:
    world: World = await make_world()
    token = sign(sub="alice", exp=NOW + 7 * 86400)
    await world.node.backend.logout(**{what: token if what == "token" else "alice"})
    for _ in range(25):
        world.clock.advance(3600)
    tab = world.tab()
    tab.send("connect", token=token)
    assert tab.code == 3500


async def test_a_channel_stays_taken_as_long_as_the_token(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="alice", exp=NOW + 7 * 86400, channels=["a"])
    await world.node.backend.unsubscribe(ALICE, "a")
    for _ in range(25):
        world.clock.advance(3600)
    subs = world.tab().ask("connect", token=token)["connect"]["subs"]
    assert "a" not in subs


async def test_a_removal_reaches_a_reply_that_waits(make_world: Worlds) -> None:
    """What was recovered stands in a reply that is not out yet: it is of that channel, too."""
    world: World = await make_world()
    tab = world.user("alice")
    position = (await world.publish("news:1", "secret")).position
    tab.session.pause()
    tab.send("subscribe", channel="news:1", recover=True, offset=0, epoch=position.epoch)
    await world.node.backend.unsubscribe(ALICE, "news:1")
    tab.session.resume()
    assert "secret" not in json.dumps(tab.everything)
    refusal, end = tab.new()
    assert refusal["error"]["code"] == 103
    assert end["push"]["unsubscribe"]["code"] == 2000


async def test_a_kick_spares_the_whitelist(make_world: Worlds) -> None:
    world: World = await make_world()
    one, two = world.user("alice"), world.user("alice")
    await world.node.backend.disconnect(ALICE, Disconnect(3503), [one.session.client])
    assert (one.code, two.code) == (None, 3503)


async def test_the_cms_takes_a_channel(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="alice", channels=["a", "b"])
    quick, slow = world.connected(token=token), world.connected(token=token)
    slow.session.pause()
    await world.publish("a", "secret")
    await world.publish("b", "fine")
    quick.new()
    await world.node.backend.unsubscribe(ALICE, "a")
    slow.session.resume()
    end = {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
    assert quick.new() == [end]
    assert slow.published() == ["fine"]
    assert end in slow.everything
    await world.publish("a", "more")
    assert slow.published("a") == []
    again = world.tab()
    assert "a" not in again.ask("connect", token=token)["connect"]["subs"]


async def test_the_cms_gives_a_channel(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="alice")
    tab = world.connected(token=token)
    await world.publish("news:a", 1)
    granted = ChannelGrant(b'{"role":"x"}', b'{"title":"News"}')
    await world.node.backend.subscribe(ALICE, "news:a", granted)
    [push] = tab.new()
    assert push["push"]["channel"] == "news:a"
    told = push["push"]["subscribe"]
    assert told["offset"] == 1
    assert told["positioned"] is True
    assert told["data"] == {"title": "News"}
    await world.publish("news:a", 2)
    assert tab.published() == [2]
    again = world.tab().ask("connect", token=token)["connect"]["subs"]
    assert again["news:a"]["data"] == {"title": "News"}
    other = world.tab().ask("connect", token=sign(sub="bob"))["connect"]["subs"]
    assert "news:a" not in other


async def test_a_channel_that_the_cms_gives_can_be_recovered(make_world: Worlds) -> None:
    """Clients bring a position only of what they were told to be recoverable."""
    world: World = await make_world()
    tab = world.user("alice")
    await world.node.backend.subscribe(ALICE, "news:a", ChannelGrant())
    [push] = tab.new()
    assert push["push"]["subscribe"]["recoverable"] is True


async def test_the_cms_gives_a_channel_and_what_was_missed(make_world: Worlds) -> None:
    world: World = await make_world()
    first = await world.publish("news:a", 1)
    for number in (2, 3):
        await world.publish("news:a", number)
    tab = world.user("alice")
    await world.node.backend.subscribe(ALICE, "news:a", ChannelGrant(), first.position)
    assert tab.published() == [2, 3]
    # Where the client is cut off between two of them, it comes back from the last that it has.
    pushes = [each["push"] for each in tab.new()]
    assert [(each.get("subscribe") or each["pub"])["offset"] for each in pushes] == [1, 2, 3]


async def test_the_cms_gives_a_channel_from_a_position_that_nobody_knows(
    make_world: Worlds,
) -> None:
    world: World = await make_world()
    last = (await world.publish("news:a", 1)).position
    tab = world.user("alice")
    await world.node.backend.subscribe(ALICE, "news:a", ChannelGrant(), StreamPosition(0, "other"))
    [push] = tab.new()
    assert (push["push"]["subscribe"]["offset"], push["push"]["subscribe"]["epoch"]) == (
        last.offset,
        last.epoch,
    )


async def test_a_channel_is_given_to_one_client_alone(make_world: Worlds) -> None:
    world: World = await make_world()
    one, two = world.user("alice"), world.user("alice")
    await world.node.backend.subscribe(Target(client=one.session.client), "x", ChannelGrant())
    await world.publish("x", 1)
    assert (one.published(), two.published()) == ([1], [])
    await world.node.backend.unsubscribe(Target(session=one.session.secret), "x")
    await world.publish("x", 2)
    assert one.published() == [1]
    with pytest.raises(Refused, match="107"):
        await world.node.backend.unsubscribe(Target(), "x")


async def test_a_client_that_leaves_while_another_is_given_a_channel(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.user("alice") for _ in range(2)]
    world.engine.hold.add("since")
    giving = later(world.node.backend.subscribe(ALICE, "news:a", ChannelGrant()))
    for tab in tabs:
        tab.leave()
    world.engine.hold.clear()
    while world.engine.held:
        world.engine.release()
    assert giving.done
    world.advance(11)
    assert world.leftovers() == {}
    assert await world.node.backend.presence("news:a") == {}


def granted(tab: Tab) -> dict[str, Any]:
    [result] = [each["connect"]["subs"] for each in tab.everything if "connect" in each]
    assert isinstance(result, dict)
    return result


async def test_a_channel_that_is_taken_during_the_connect(make_world: Worlds) -> None:
    """The answer to the removal was given: the connect reply must not bring the channel."""
    world: World = await make_world()
    await world.publish("news:a", "secret")
    position = (await world.publish("news:a", "secret too")).position
    world.engine.hold.add("since")
    tab = world.tab()
    place = {"recover": True, "offset": 0, "epoch": position.epoch}
    token = sign(sub="alice", channels=["news:a", "news:b"])
    tab.send("connect", token=token, subs={"news:a": place})
    world.engine.release()
    await world.node.backend.unsubscribe(ALICE, "news:a")
    before = len(tab.transport.sent)
    while world.engine.held:
        world.engine.release()
    assert "secret" not in json.dumps(tab.everything[before:])
    assert "news:a" not in granted(tab)


async def test_a_channel_that_is_taken_while_the_changes_are_read(make_world: Worlds) -> None:
    world: World = await make_world()
    world.engine.hold.add("overlays")
    tab = world.tab()
    tab.send("connect", token=sign(sub="alice", channels=["a"]))
    await world.node.backend.unsubscribe(ALICE, "a")
    world.engine.release()
    await world.publish("a", "secret")
    assert tab.published("a") == []


async def test_a_channel_that_is_given_during_the_connect(make_world: Worlds) -> None:
    """No push before the connect reply; and the channel is in one of the two."""
    world: World = await make_world()
    world.engine.hold.add("since")
    tab = world.tab()
    tab.send("connect", token=sign(sub="alice", channels=["news:b"]))
    giving = later(world.node.backend.subscribe(ALICE, "x", ChannelGrant()))
    world.engine.release()
    assert giving.done
    first, *rest = tab.everything
    assert "connect" in first
    told = [push["push"]["channel"] for push in rest if "subscribe" in push.get("push", {})]
    assert [*first["connect"]["subs"], *told].count("x") == 1


async def test_refresh_by_the_cms(make_world: Worlds) -> None:
    world: World = await make_world(limits={"pong_timeout": 1000.0})
    tab, gone = world.user("alice", channels=["room:1"]), world.user("bob")
    await world.node.backend.refresh(ALICE, expired=False, expire_at=NOW + 10, info=b'{"n":2}')
    assert {"push": {"refresh": {"expires": True, "ttl": 10}}} in tab.new()
    who = await world.node.backend.presence("room:1")
    assert [each.conn_info for each in who.values()] == [b'{"n":2}']
    await world.node.backend.refresh(Target(user="bob"), expired=True, expire_at=None, info=None)
    assert gone.code == 3005
    world.advance(36)
    assert tab.code == 3005


async def test_streams_that_nobody_wrote_to_are_not_kept_for_long(make_world: Worlds) -> None:
    """Clients choose the names: an hour of names must not stay for a day."""
    world: World = await make_world(limits={"max_commands_per_second": 0})
    tab = world.connected()
    for number in range(300):
        tab.send("subscribe", channel=f"news:{number}")
        tab.send("unsubscribe", channel=f"news:{number}")
    for _ in range(62):
        world.clock.advance(60)
    assert len(world.memory._streams.channels) < 10
