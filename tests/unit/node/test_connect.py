"""Who is let in, and what a connection begins and goes on with."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW
from tests.unit.node.support import BROADCAST, World, sign
from twisted_push.errors import Disconnect, NotConnected, OutcomeUnknown
from twisted_push.node.targets import Target
from twisted_push.policy import Policy

Worlds = Any


async def test_anonymous(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.tab()
    reply = tab.ask("connect")
    result = reply["connect"]
    assert result["client"] == tab.session.client
    assert result["ping"] == 25
    assert result["pong"] is True
    assert result["time"] == int(NOW * 1000)
    assert result["session"] == tab.session.secret
    assert list(result["subs"]) == [BROADCAST]
    assert "expires" not in result
    await world.publish(BROADCAST, {"a": 1})
    assert tab.published() == [{"a": 1}]


async def test_no_anonymous_clients(make_world: Worlds) -> None:
    world: World = await make_world(anonymous=False)
    tab = world.tab()
    tab.send("connect")
    assert tab.code == 3500
    assert tab.new() == []


async def test_a_signed_token(make_world: Worlds) -> None:
    world: World = await make_world(user_channel="user:{user}")
    tab = world.tab()
    token = sign(sub="42", exp=NOW + 60, info={"name": "Zoë"}, channels=["of:42"])
    result = tab.ask("connect", token=token)["connect"]
    assert (result["expires"], result["ttl"]) == (True, 60)
    assert sorted(result["subs"]) == [BROADCAST, "of:42", "user:42"]
    assert tab.session.user == "42"
    await world.publish("of:42", 1)
    assert tab.published("of:42") == [1]


@pytest.mark.parametrize("token", [sign(sub="42")[:-3] + "AAA", "not a token", "x" * 9000])
async def test_a_bad_token(make_world: Worlds, token: str) -> None:
    world: World = await make_world()
    tab = world.tab()
    tab.send("connect", token=token)
    assert tab.code == 3500


async def test_an_expired_token_may_be_followed_by_a_better_one(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.tab()
    assert tab.ask("connect", token=sign(sub="42", exp=NOW - 1))["error"]["code"] == 109
    assert tab.code is None
    assert "connect" in tab.ask("connect", token=sign(sub="42"))


async def test_a_refused_client_that_does_not_come_again_is_stale(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.tab()
    tab.send("connect", token=sign(sub="42", exp=NOW - 1))
    world.advance(11)
    assert tab.code == 3502


async def test_a_silent_client_is_stale(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.tab()
    world.advance(9.5)
    assert tab.code is None
    world.advance(1)
    assert tab.code == 3502


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1,"subscribe":{"channel":"a"}}',
        '{"id":1,"ping":{}}',
        '{"send":{}}',
        '{"id":1,"magic":{}}',
        '{"id":0,"connect":{}}',
        '{"connect":{}}',
        '{"id":1}',
        '{"id":1,"connect":{},"ping":{}}',
        '{"id":-1,"connect":{}}',
        '{"id":1.0,"connect":{}}',
        '{"id":"1","connect":{}}',
        '{"id":4294967296,"connect":{}}',
        "null",
        "[]",
        "",
        "\n",
        "{",
        '{"id":1,"connect":{"a":NaN}}',
        '{"id":1,"connect":' + "[" * 5000,
        '{"id":1,"connect":{"data":' + "[" * 200 + "]" * 200 + "}}",
        "\n".join(["{}"] * 1001),
    ],
)
async def test_what_is_no_beginning(make_world: Worlds, text: str) -> None:
    world: World = await make_world(limits={"max_commands_per_second": 0})
    tab = world.tab()
    tab.raw(text)
    assert tab.code == 3501


async def test_a_second_connect(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    tab.send("connect")
    assert tab.code == 3501


async def test_two_connects_in_one_message(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.raw('{"id":1,"connect":{"token":"a"}}\n{"id":2,"connect":{"token":"b"}}')
    assert world.cms.open == 1
    world.cms.reply({"result": {"user": "1"}})
    assert tab.code == 3501
    assert len(world.cms.asked) == 1


async def test_binary(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.tab()
    tab.session.received_binary(b"\x00")
    assert tab.code == 3506


# --- The callback ----------------------------------------------------------------------------


async def test_the_cms_lets_in(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque", data={"x": 1}, name="js", version="1")
    assert tab.new() == []
    question = world.cms.asked[0].json
    assert (question["token"], question["data"], question["name"]) == ("opaque", {"x": 1}, "js")
    world.cms.reply({"result": {"user": "7", "channels": ["mine"], "data": {"hello": True}}})
    [reply] = tab.new()
    assert reply["connect"]["data"] == {"hello": True}
    assert "mine" in reply["connect"]["subs"]
    assert tab.session.user == "7"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"disconnect": {"code": 4501, "reason": "banned"}}, 4501),
        ({"disconnect": {"code": 12, "reason": "banned"}}, 3500),
        ({"whatever": 1}, 3004),
        (b"<html>", 3004),
        ({"result": {"user": "1", "expire_at": 5}}, None),
    ],
)
async def test_the_cms_does_not(make_world: Worlds, answer: object, code: int | None) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    world.cms.reply(answer)
    assert tab.code == code
    if code is None:
        [reply] = tab.new()
        assert reply["error"]["code"] == 109
    assert world.context.hub.clients == {}


async def test_an_error_of_the_cms_is_the_commands_error(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    world.cms.reply({"error": {"code": 1234, "message": "no such tenant"}})
    [reply] = tab.new()
    assert reply == {"id": 1, "error": {"code": 1234, "message": "no such tenant"}}
    tab.send("connect", token="other")
    world.cms.reply({"result": {"user": "1"}})
    assert "connect" in tab.new()[0]


async def test_a_client_is_told_when_to_come_back(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    world.cms.code, world.cms.answer = 503, b""
    world.cms.headers["Retry-After"] = "30"
    first, second = world.tab(), world.tab()
    first.send("connect", token="one")
    second.send("connect", token="two")
    [told] = first.new()
    advice = told["error"].pop("message")
    assert told == {"id": 1, "error": {"code": 100, "temporary": True}}
    assert advice in [f"try again in {n} s" for n in (30, 31, 32)]
    assert str(first.transport.closed_with) == f"3004 {advice}"
    [told] = second.new()
    assert told["error"]["message"] in [f"try again in {n} s" for n in (30, 31, 32)]
    assert len(world.cms.asked) == 1


async def test_a_client_for_which_there_is_no_room(make_world: Worlds) -> None:
    world: World = await make_world(callback={"max_concurrent": 1, "max_waiting": 0})
    world.tab().send("connect", token="one")
    tab = world.tab()
    tab.send("connect", token="two")
    [told] = tab.new()
    assert (told["error"]["code"], told["error"]["temporary"]) == (111, True)
    assert tab.transport.closed_with is not None
    assert tab.transport.closed_with.code == 3013
    assert tab.transport.closed_with.text == told["error"]["message"]
    world.cms.reply({"result": {"user": "1"}})


async def test_a_new_token_that_nobody_can_judge_now_does_not_end_the_client(
    make_world: Worlds,
) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="one")
    world.cms.reply({"result": {"user": "1"}})
    world.cms.code, world.cms.answer = 500, b""
    assert tab.ask("refresh", token="two")["error"]["temporary"]
    assert tab.code is None


async def test_a_client_that_leaves_while_the_cms_is_asked(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    tab.send("subscribe", channel="open:1")
    assert world.cms.open == 1
    tab.leave()
    assert world.cms.open == 1  # It is being answered, and that is worth keeping.
    world.cms.reply({"result": {"user": "alice"}})
    assert world.leftovers() == {}
    assert tab.transport.ignored == 0
    again = world.tab()
    assert "connect" in again.ask("connect", token="opaque")
    assert len(world.cms.asked) == 1


async def test_commands_wait_for_the_connect_and_keep_their_order(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    tab.send("subscribe", channel="open:1")
    tab.send("publish", channel="open:1", data="first")
    tab.send("unsubscribe", channel="open:1")
    assert tab.new() == []
    world.cms.reply({"result": {"user": "7"}})
    got = tab.new()
    assert [reply.get("id") for reply in got] == [1, 2, None, 3, 4]
    assert got[2]["push"]["pub"]["data"] == "first"


async def test_a_kick_beats_the_answer_of_the_cms(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    await world.node.backend.disconnect(Target(user="7"), Disconnect(3503))
    world.cms.reply({"result": {"user": "7"}})
    assert tab.code == 3503
    assert world.context.hub.clients == {}
    assert not world.cms.open


async def test_who_is_kicked_meanwhile_is_told_what_the_others_are(make_world: Worlds) -> None:
    """To come back, for instance; and all who wait for the answer, and nobody else."""
    world: World = await make_world(callback=True)
    tabs = [world.tab() for _ in range(3)]
    for tab in tabs:
        tab.send("connect", token="opaque")
    await world.node.backend.disconnect(Target(user="8"), Disconnect(4000, "others"))
    await world.node.backend.disconnect(Target(user="7"), Disconnect(3011))
    world.cms.reply({"result": {"user": "7"}})
    assert [tab.code for tab in tabs] == [3011] * 3
    assert not world.cms.open


async def test_whom_a_kick_spares_is_asked_about_again(make_world: Worlds) -> None:
    """What the CMS said of a moment before the kick lets nobody in."""
    world: World = await make_world(callback=True)
    spared, kicked = world.tab(), world.tab()
    for tab in (spared, kicked):
        tab.send("connect", token="opaque")
    whitelist = [spared.session.client]
    await world.node.backend.disconnect(Target(user="7"), Disconnect(3503), whitelist)
    world.clock.advance(0.5)
    world.cms.reply({"result": {"user": "7", "channels": ["old"]}})
    assert (spared.code, kicked.code) == (None, 3503)
    assert spared.new() == []
    world.cms.reply({"result": {"user": "7", "channels": ["new"]}})
    [reply] = spared.new()
    assert set(reply["connect"]["subs"]) == {BROADCAST, "new"}


async def test_who_is_kicked_again_and_again_comes_back(make_world: Worlds) -> None:
    world: World = await make_world(callback=True)
    tab = world.tab()
    tab.send("connect", token="opaque")
    for _ in range(2):
        whitelist = [tab.session.client]
        await world.node.backend.disconnect(Target(user="7"), Disconnect(3503), whitelist)
        world.clock.advance(0.5)
        world.cms.reply({"result": {"user": "7"}})
    assert tab.code == 3004
    assert not world.cms.open


@pytest.mark.parametrize("what", [{"user": "7"}, {"token": "opaque"}])
async def test_a_logout_beats_the_answer_of_the_cms(
    make_world: Worlds, what: dict[str, str]
) -> None:
    world: World = await make_world(callback=True)
    tab, later = world.tab(), world.tab()
    tab.send("connect", token="opaque")
    await world.node.backend.logout(**what)
    world.cms.reply({"result": {"user": "7"}})
    assert tab.code == 3500
    assert tab.new() == []
    if "token" in what:
        later.send("connect", token="opaque")
        if world.cms.open:
            world.cms.reply({"result": {"user": "7"}})
        assert later.code == 3500


async def test_a_token_that_was_logged_out_stays_so(make_world: Worlds) -> None:
    world: World = await make_world()
    token = sign(sub="42", exp=NOW + 7 * 86400)
    tab = world.connected(token=token)
    await world.node.backend.logout(token=token)
    assert tab.code == 3500
    again = world.tab()
    again.send("connect", token=token)
    assert again.code == 3500


async def test_a_connect_that_the_engine_fails_leaves_nothing_half_open(
    make_world: Worlds,
) -> None:
    """The client must be sent away, or be able to connect again; and no buffer may grow."""
    world: World = await make_world()
    tab = world.tab()
    world.engine.broken["subscribe"] = NotConnected()
    tab.send("connect", token=sign(sub="42"))
    world.engine.broken.clear()
    if tab.code is None:
        tab.send("connect", token=sign(sub="42"))
        assert "connect" in tab.everything[-1]
    else:
        assert tab.code < 3500
        assert world.context.hub.clients == {}


async def test_a_connect_that_the_engine_fails_half_way_collects_nothing(
    make_world: Worlds,
) -> None:
    world: World = await make_world()
    tab = world.tab()
    world.engine.broken["since"] = OutcomeUnknown()
    tab.send("connect", token=sign(sub="42", channels=["plain", "news:1"]))
    assert tab.code is not None
    world.advance(11)
    assert world.leftovers() == {}


# --- Staying ---------------------------------------------------------------------------------


async def test_ping_and_pong(make_world: Worlds) -> None:
    world: World = await make_world()
    answering, silent = world.connected(), world.connected()
    world.advance(25.5)
    assert answering.new() == [{}]
    answering.raw("{}")
    world.advance(9)
    assert silent.code is None
    world.advance(1.5)
    assert silent.code == 3012
    assert answering.code is None
    pings = 0
    for _ in range(25):
        world.advance(5)
        for ping in answering.new():
            assert ping == {}
            answering.raw("{}")
            pings += 1
    assert answering.code is None
    assert pings == 5


async def test_a_token_expires_after_its_grace(make_world: Worlds) -> None:
    world: World = await make_world(limits={"pong_timeout": 1000.0})
    tab = world.user("42", exp=NOW + 10)
    world.advance(34)
    assert tab.code is None
    world.advance(1.5)
    assert tab.code == 3005


async def test_refresh(make_world: Worlds) -> None:
    world: World = await make_world(limits={"pong_timeout": 1000.0})
    tab = world.user("42", exp=NOW + 10)
    fresh = sign(sub="42", exp=NOW + 100)
    result = tab.ask("refresh", token=fresh)["refresh"]
    assert (result["expires"], result["ttl"], result["client"]) == (True, 100, tab.session.client)
    world.advance(60)
    assert tab.code is None
    await world.node.backend.logout(token=fresh)
    assert tab.code == 3500


async def test_refresh_as_somebody_else(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.user("42")
    tab.send("refresh", token=sign(sub="43"))
    assert tab.code == 3500


async def test_refresh_without_or_with_an_expired_token(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.user("42")
    assert tab.ask("refresh")["error"]["code"] == 107
    assert tab.ask("refresh", token=sign(sub="42", exp=NOW - 1))["error"]["code"] == 109
    assert tab.code is None


async def test_the_rate_of_commands(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_commands_per_second": 10})
    tab = world.connected()
    for _ in range(19):
        tab.ask("ping")
    world.advance(1)
    for _ in range(10):
        tab.ask("ping")
    tab.send("ping")
    assert tab.code == 3013


async def test_frames_of_the_transport_count_as_commands(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_commands_per_second": 10})
    tab = world.connected()
    answered = sum(tab.session.allow_frame() for _ in range(1000))
    assert answered == 19
    assert tab.code == 3013


async def test_a_clock_that_is_put_back_closes_nobody(make_world: Worlds) -> None:
    world: World = await make_world(limits={"max_commands_per_second": 10})
    tab = world.connected()
    world.clock.rightNow -= 30
    tab.send("ping")
    world.clock.rightNow += 30
    assert tab.code is None


async def test_too_many_pending_commands(make_world: Worlds) -> None:
    limits = {"max_commands_per_second": 0, "max_pending_commands": 5}
    world: World = await make_world(callback=True, limits=limits)
    tab = world.tab()
    tab.send("connect", token="opaque")
    for _ in range(5):
        tab.send("ping")
    assert tab.code is None
    tab.send("ping")
    assert tab.code == 3013
    world.cms.reply({"result": {"user": "alice"}})
    assert world.leftovers() == {}


async def test_not_available(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    assert tab.ask("rpc", method="news:1", data=1)["error"]["code"] == 108


async def test_unknown_and_misshapen_commands(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    assert tab.ask("magic")["error"]["code"] == 104
    assert tab.ask("__class__")["error"]["code"] == 104
    assert tab.ask("subscribe", channel=5)["error"]["code"] == 107
    assert tab.ask("subscribe")["error"]["code"] == 107
    assert tab.ask("subscribe", channel="")["error"]["code"] == 107
    assert tab.ask("subscribe", channel="open:\n")["error"]["code"] == 107
    assert tab.ask("subscribe", channel="open:" + "ä" * 126)["error"]["code"] == 107
    tab.raw('{"send":{"data":1}}')
    assert tab.code is None


async def test_error_codes_of_the_cms_make_no_new_labels(make_world: Worlds) -> None:
    """Counters are kept for ever: their keys come from closed sets."""
    world: World = await make_world(callback=True, limits={"max_commands_per_second": 0})
    tab = world.tab()
    for number in range(50):
        tab.send("connect", token=f"token {number}")
        world.cms.reply({"error": {"code": 100_000 + number, "message": "no"}})
    assert len(world.stats.command_errors) < 5


async def test_shutdown_tells_few_clients_at_once(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.connected() for _ in range(20)]
    await world.node.drain(20.0)
    assert {tab.code for tab in tabs} == {3001}


async def test_shutdown_spreads_many_clients(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.connected() for _ in range(400)]
    draining = Deferred.fromCoroutine(world.node.drain(1.0))
    left = []
    for _ in range(12):
        left.append(sum(tab.code is None for tab in tabs))
        world.clock.advance(0.1)
    assert left[:11] == [360, 320, 280, 240, 200, 160, 120, 80, 40, 0, 0]
    assert draining.called
    assert {tab.code for tab in tabs} == {3001}


async def test_shutdown_without_time(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.connected() for _ in range(50)]
    await world.node.drain(0.0)
    assert {tab.code for tab in tabs} == {3001}


async def test_nothing_is_left_when_all_are_gone(make_world: Worlds) -> None:
    world: World = await make_world()
    tabs = [world.user("42", channels=["news:1", "room:1"]) for _ in range(3)]
    for tab in tabs:
        tab.ask("subscribe", channel="open:1")
    tabs[0].leave()
    await world.node.backend.disconnect(Target(user="42"), Disconnect(3503))
    assert await world.node.backend.presence("room:1") == {}
    world.advance(10.5)
    assert world.leftovers() == {}
    assert len(world.engine.named("unsubscribe")) == len(world.engine.named("subscribe")) == 4


async def test_presence_ends_also_when_a_reload_took_it_away(make_world: Worlds) -> None:
    world: World = await make_world()
    tab = world.connected()
    tab.ask("subscribe", channel="room:1")
    quiet = tuple(evolve(n, presence=False, join_leave=False) for n in world.site.namespaces)
    world.node.reconfigure(Policy(evolve(world.site, namespaces=quiet), world.limits))
    tab.leave()
    world.advance(2.25)
    world.node.reconfigure(Policy(world.site, world.limits))
    assert await world.node.backend.presence("room:1") == {}


async def test_a_client_that_left_is_let_go_at_once(make_world: Worlds) -> None:
    """Not when its next ping would have been due: connections come and go by the thousand."""
    world: World = await make_world(limits={"ping_interval": 3600.0})
    tab = world.connected()
    tab.ask("subscribe", channel="room:1")
    watched = weakref.ref(tab.session)
    tab.leave()
    del tab
    gc.collect()
    assert watched() is None
