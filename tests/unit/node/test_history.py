"""What is kept, and what is given of it: to clients, to the CMS, to who comes from a page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.node.support import Tab, World, sign
from twisted_push.config import Namespace
from twisted_push.errors import NotConnected, Refused
from twisted_push.model import ChannelGrant, Recovered, StreamPosition
from twisted_push.node.interests import CHECK_INTERVAL
from twisted_push.node.targets import Target

Worlds = Any
KEPT: dict[str, Any] = {"history_size": 10, "history_ttl": 600.0, "recover": True}
NAMESPACES = (
    Namespace(prefix="past:", client_subscribe="anyone", client_history=True, **KEPT),
    Namespace(prefix="last:", client_subscribe="anyone", recovery_mode="cache", **KEPT),
    Namespace(prefix="token:", client_subscribe="token", **KEPT),
    Namespace(prefix="hidden:", client_subscribe="anyone", **KEPT),
    Namespace(prefix="log:", client_subscribe="anyone", history_size=10, client_history=True),
    Namespace(prefix="open:", client_subscribe="anyone"),
)


@pytest.fixture
def make(make_world: Worlds) -> Worlds:
    async def make(**options: Any) -> World:
        world: World = await make_world(namespaces=NAMESPACES, **options)
        return world

    return make


def data_of(found: dict[str, Any]) -> list[Any]:
    return [each["data"] for each in found.get("publications", [])]


async def place(world: World, channel: str) -> dict[str, Any]:
    """Give the position that a page of the CMS is rendered with."""
    found = (await world.node.backend.positions([channel]))[channel]
    return {"offset": found.offset, "epoch": found.epoch}


# --- History for clients ---------------------------------------------------------------------


async def test_a_client_asks_for_history(make: Worlds) -> None:
    world: World = await make()
    for number in range(1, 6):
        await world.publish("past:1", number, tags={"n": str(number)})
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")

    def history(**params: Any) -> dict[str, Any]:
        found: dict[str, Any] = tab.ask("history", channel="past:1", **params)["history"]
        assert found["offset"] == 5
        return found

    epoch = history()["epoch"]
    assert "publications" not in history()
    whole = history(limit=-1)
    assert data_of(whole) == [1, 2, 3, 4, 5]
    assert [each["offset"] for each in whole["publications"]] == [1, 2, 3, 4, 5]
    assert whole["publications"][0]["tags"] == {"n": "1"}
    assert whole["publications"][0]["time"] > 0
    assert data_of(history(limit=2)) == [1, 2]
    assert data_of(history(limit=2, reverse=True)) == [5, 4]
    since = {"offset": 2, "epoch": epoch}
    assert data_of(history(limit=2, since=since)) == [3, 4]
    assert data_of(history(limit=-1, since=since, reverse=True)) == [1]
    assert data_of(history(limit=-1, since={"offset": 5, "epoch": epoch})) == []


async def test_a_client_is_given_so_many_at_once(make: Worlds) -> None:
    world: World = await make(limits={"recovery_max_publication_limit": 3})
    before = await place(world, "past:1")
    for number in range(4):
        await world.publish("past:1", number)
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    for limit in (-1, 4, 2**70):
        found = tab.ask("history", channel="past:1", limit=limit)["history"]
        assert data_of(found) == [0, 1, 2]
    again = world.connected()
    result = again.ask("subscribe", channel="past:1", recover=True, **before)["subscribe"]
    assert "recovered" not in result
    assert data_of(result) == []
    before["offset"] = 1
    tab.ask("unsubscribe", channel="past:1")
    result = tab.ask("subscribe", channel="past:1", recover=True, **before)["subscribe"]
    assert result["recovered"] is True
    assert data_of(result) == [1, 2, 3]


async def test_which_clients_may_ask(make: Worlds) -> None:
    world: World = await make()
    await world.publish("past:1", 1)
    tab = world.connected()

    def code(channel: str, **params: Any) -> int:
        found: int = tab.ask("history", channel=channel, **params)["error"]["code"]
        return found

    assert code("past:1") == 103
    for channel in ("past:1", "hidden:1", "open:1"):
        tab.ask("subscribe", channel=channel)
    assert code("hidden:1") == 103
    assert code("open:1") == 108
    assert code("none:1") == 108
    assert code("") == 107
    assert code("past:1", limit=-2) == 107
    for since in ({"offset": 1, "epoch": "other"}, {"offset": 9}, {"offset": -1}):
        assert code("past:1", since=since, limit=1) == 112


async def test_a_channel_is_taken_while_its_history_is_read(make: Worlds) -> None:
    world: World = await make()
    await world.publish("past:1", "secret")
    tab = world.user("alice", channels=["past:1"])
    world.engine.hold.add("history")
    number = tab.send("history", channel="past:1", limit=-1)
    await world.node.backend.unsubscribe(Target(user="alice"), "past:1")
    world.engine.release()
    [reply] = [each for each in tab.new() if each.get("id") == number]
    assert reply["error"]["code"] == 103


async def test_a_channel_is_taken_while_its_history_waits_to_be_sent(make: Worlds) -> None:
    world: World = await make()
    await world.publish("past:1", "secret")
    tab = world.user("alice", channels=["past:1"])
    tab.session.pause()
    number = tab.send("history", channel="past:1", limit=-1)
    await world.node.backend.unsubscribe(Target(user="alice"), "past:1")
    tab.session.resume()
    [reply] = [each for each in tab.new() if each.get("id") == number]
    assert reply["error"]["code"] == 103


# --- From a page -----------------------------------------------------------------------------


async def test_positions(make: Worlds) -> None:
    world: World = await make()
    published = (await world.publish("past:1", 1)).position
    found = await world.node.backend.positions(["past:1", "open:1", "hidden:1", "past:1"])
    assert list(found) == ["past:1", "hidden:1"]
    assert found["past:1"] == published
    assert found["hidden:1"].offset == 0
    assert await world.node.backend.positions([]) == {}
    with pytest.raises(Refused):
        await world.node.backend.positions(["past:1", ""])
    world.engine.broken["since"] = NotConnected()
    with pytest.raises(NotConnected):
        await world.node.backend.positions(["past:1", "hidden:1"])


def by_subscribe(world: World, channel: str, since: dict[str, Any]) -> tuple[Tab, dict[str, Any]]:
    tab = world.user("alice")
    token = sign(sub="alice", channel=channel) if channel.startswith("token:") else ""
    given = {"channel": channel, "token": token, "recover": True, **since}
    return tab, tab.ask("subscribe", **given)["subscribe"]


def by_connect(world: World, channel: str, since: dict[str, Any]) -> tuple[Tab, dict[str, Any]]:
    tab = world.tab()
    subs = {channel: {"recover": True, **since}}
    reply = tab.ask("connect", token=sign(sub="alice", channels=[channel]), subs=subs)
    return tab, reply["connect"]["subs"][channel]


WAYS = [
    pytest.param(by_subscribe, "past:1", id="subscribe"),
    pytest.param(by_subscribe, "token:1", id="subscribe with a token"),
    pytest.param(by_connect, "token:1", id="connect"),
]


@pytest.mark.parametrize(("come", "channel"), WAYS)
@pytest.mark.parametrize("source", ["position", "publish"])
async def test_nothing_is_missed_from_the_page_on(
    make: Worlds, come: Any, channel: str, source: str
) -> None:
    world: World = await make()
    published = (await world.publish(channel, "in the page")).position
    since = await place(world, channel)
    if source == "publish":
        since = {"offset": published.offset, "epoch": published.epoch}
    await world.publish(channel, "meanwhile")
    await world.publish(channel, "meanwhile, too")
    tab, result = come(world, channel, since)
    assert (result["was_recovering"], result["recovered"]) == (True, True)
    assert data_of(result) == ["meanwhile", "meanwhile, too"]
    await world.publish(channel, "live")
    assert tab.published(channel) == ["live"]


@pytest.mark.parametrize(("come", "channel"), WAYS)
async def test_a_page_from_before_the_first_publication(
    make: Worlds, come: Any, channel: str
) -> None:
    world: World = await make()
    since = await place(world, channel)
    await world.publish(channel, "first")
    assert data_of(come(world, channel, since)[1]) == ["first"]


@pytest.mark.parametrize(("come", "channel"), WAYS)
async def test_a_page_that_is_too_old_is_told_so_once(
    make: Worlds, come: Any, channel: str
) -> None:
    world: World = await make()
    since = await place(world, channel)
    for number in range(12):
        await world.publish(channel, number)
    tab, result = come(world, channel, since)
    assert result["was_recovering"] is True
    assert "recovered" not in result
    assert data_of(result) == []
    assert tab.published(channel) == []
    tab.leave()
    since = {"offset": result["offset"], "epoch": result["epoch"]}
    await world.publish(channel, "next")
    result = come(world, channel, since)[1]
    assert result["recovered"] is True
    assert data_of(result) == ["next"]


async def test_the_cms_gives_a_channel_from_a_position_on(make: Worlds) -> None:
    world: World = await make()
    since = await place(world, "past:1")
    await world.publish("past:1", "missed")
    tab = world.user("alice")
    position = StreamPosition(since["offset"], since["epoch"])
    target, channel = Target(user="alice"), "past:1"
    await world.node.backend.subscribe(target, channel, ChannelGrant(), since=position)
    assert tab.published("past:1") == ["missed"]


# --- The latest alone ------------------------------------------------------------------------


@pytest.mark.parametrize("come", [by_subscribe, by_connect])
async def test_only_the_latest_is_recovered(make: Worlds, come: Any) -> None:
    world: World = await make()
    before = await place(world, "last:1")
    for number in range(30):
        await world.publish("last:1", number)

    def recovered(offset: int, epoch: str) -> tuple[bool, list[Any]]:
        tab, result = come(world, "last:1", {"offset": offset, "epoch": epoch})
        assert result["was_recovering"] is True
        assert result["offset"] == 30
        tab.leave()
        return result.get("recovered", False), data_of(result)

    epoch = before["epoch"]
    assert recovered(0, epoch) == (True, [29])
    assert recovered(29, epoch) == (True, [29])
    assert recovered(30, epoch) == (True, [])
    assert recovered(0, "") == (True, [29])
    assert recovered(30, "other") == (True, [29])
    world.advance(601)
    assert recovered(30, epoch) == (True, [])
    assert recovered(29, epoch) == (False, [])
    assert recovered(0, "") == (False, [])


async def test_the_latest_of_a_channel_without_any(make: Worlds) -> None:
    world: World = await make()
    before = await place(world, "last:1")
    assert by_subscribe(world, "last:1", before)[1]["recovered"] is True
    assert "recovered" not in by_subscribe(world, "last:1", {"offset": 0, "epoch": ""})[1]


async def test_a_quiet_channel_is_recovered_hours_after_everybody_left(make: Worlds) -> None:
    world: World = await make()
    for channel in ("past:1", "last:1"):
        tab, result = by_subscribe(world, channel, {"offset": 0, "epoch": ""})
        assert "recovered" not in result
        tab.leave()
        world.advance(60.0)
        world.clock.advance(7.9 * 3600.0)
        tab, again = by_subscribe(world, channel, {"offset": 0, "epoch": result["epoch"]})
        assert (again["recovered"], data_of(again)) == (True, [])
        tab.leave()
        await world.publish(channel, 1)
        _, again = by_subscribe(world, channel, {"offset": 0, "epoch": result["epoch"]})
        assert (again["recovered"], data_of(again)) == (True, [1])


async def test_who_comes_anew_is_not_given_the_latest(make: Worlds) -> None:
    world: World = await make()
    await world.publish("last:1", 1)
    result = world.connected().ask("subscribe", channel="last:1")["subscribe"]
    assert "publications" not in result
    assert result["offset"] == 1


async def test_what_comes_while_the_latest_is_read(make: Worlds) -> None:
    world: World = await make()
    await world.publish("last:1", "latest")
    tab = world.connected()
    world.engine.hold.add("history")
    tab.send("subscribe", channel="last:1", recover=True, offset=0, epoch="")
    await world.publish("last:1", "meanwhile")
    world.engine.release()
    reply, push = tab.new()
    assert data_of(reply["subscribe"]) == ["latest"]
    assert push["push"]["pub"]["data"] == "meanwhile"


# --- Idempotent publishes --------------------------------------------------------------------


async def test_the_same_publication_again(make: Worlds) -> None:
    world: World = await make()
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    first = await world.publish("past:1", "a", idempotency_key="k")
    again = await world.publish("past:1", "a", idempotency_key="k")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.position == first.position
    assert tab.published("past:1") == ["a"]


async def test_an_old_version_is_dropped(make: Worlds) -> None:
    world: World = await make()
    tab = world.connected()
    for channel in ("past:1", "open:1"):
        tab.ask("subscribe", channel=channel)
        for version in (3, 2, 3, 4):
            await world.publish(channel, version, version=version, version_epoch="e")
        await world.publish(channel, 1, version=1, version_epoch="f")
        assert tab.published(channel) == [3, 4, 1]


# --- The position check ----------------------------------------------------------------------


class Deaf:
    """Has the announcements of an engine get lost while ``deaf``."""

    def __init__(self, world: World) -> None:
        self.deaf = True
        self._announce = world.node.publication_received
        world.node.publication_received = self  # type: ignore[method-assign]

    def __call__(self, publication: Any) -> int:
        return 0 if self.deaf else self._announce(publication)


def looks(world: World) -> int:
    """Give how often it was asked where ``past:1`` stands, and forget it."""
    count = len([call for call in world.engine.named("since") if call[0] == "past:1"])
    world.engine.calls.clear()
    return count


@pytest.fixture
def patient() -> dict[str, Any]:
    """Give limits with which nobody is closed for not answering pings."""
    return {"limits": {"ping_interval": 10_000.0}}


async def test_a_gap_is_noticed(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tab, other = world.connected(), world.connected()
    tab.ask("subscribe", channel="past:1")
    other.ask("subscribe", channel="past:2")
    await world.publish("past:1", "heard")
    ears = Deaf(world)
    await world.publish("past:1", "missed")
    world.advance(CHECK_INTERVAL)
    assert [tab.code, other.code] == [None, None]
    world.advance(CHECK_INTERVAL + 0.5)
    assert [tab.code, other.code] == [3010, None]
    assert world.engine.named("subscribe")[-1] == ("past:1",)
    ears.deaf = False
    again = world.connected()
    since = {**await place(world, "past:1"), "offset": 1}
    result = again.ask("subscribe", channel="past:1", recover=True, **since)["subscribe"]
    assert data_of(result) == ["missed"]
    world.advance(5 * CHECK_INTERVAL)
    assert again.code is None


async def test_an_announcement_that_is_on_its_way_is_no_gap(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    ears = Deaf(world)
    await world.publish("past:1", 1)
    world.advance(CHECK_INTERVAL)
    ears.deaf = False
    await world.publish("past:1", 2)
    ears.deaf = True
    await world.publish("past:1", 3)
    world.advance(CHECK_INTERVAL)
    assert tab.code is None
    world.advance(CHECK_INTERVAL + 0.5)
    assert tab.code == 3010


async def test_what_is_looked_at_and_how_often(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tabs = [world.connected() for _ in range(3)]
    for tab in tabs:
        for channel in ("past:1", "open:1"):
            tab.ask("subscribe", channel=channel)
    await world.publish("past:1", 1)
    looks(world)
    world.advance(CHECK_INTERVAL)
    assert looks(world) == 1
    world.advance(10 * CHECK_INTERVAL)
    assert looks(world) in (9, 10)
    assert [tab.code for tab in tabs] == [None] * 3
    for tab in tabs:
        tab.leave()
    world.advance(10 * CHECK_INTERVAL)
    assert world.engine.named("since") == []


async def test_an_engine_that_does_not_say(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    world.engine.broken["since"] = NotConnected()
    world.advance(5 * CHECK_INTERVAL)
    assert tab.code is None
    world.engine.broken.clear()
    Deaf(world)
    await world.publish("past:1", 1)
    world.advance(2 * CHECK_INTERVAL + 0.5)
    assert tab.code == 3010


async def test_another_epoch_is_noticed(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    asked = world.memory.since

    def elsewhere(*given: Any) -> Any:
        def other(found: Recovered) -> Recovered:
            return Recovered((), StreamPosition(found.position.offset, "other"), True)

        return asked(*given).addCallback(other)

    world.memory.since = elsewhere  # type: ignore[method-assign, assignment]
    world.advance(2 * CHECK_INTERVAL + 0.5)
    assert tab.code == 3010


async def test_a_client_that_leaves_while_it_is_looked_at(make: Worlds, patient: Any) -> None:
    world: World = await make(**patient)
    tab = world.connected()
    tab.ask("subscribe", channel="past:1")
    world.engine.hold.add("since")
    world.advance(CHECK_INTERVAL)
    tab.leave()
    world.engine.release()
    world.advance(2 * CHECK_INTERVAL)
    assert world.engine.held == []
