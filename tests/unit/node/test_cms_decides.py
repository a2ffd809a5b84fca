"""What the CMS decides of a client's acts: subscribe, publish, rpc, send, and renewals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW
from tests.unit.node.support import Tab, World, sign
from twisted_push.config import Namespace
from twisted_push.errors import Disconnect, NotConnected
from twisted_push.model import ChannelGrant
from twisted_push.node.renewals import RENEW_AGAIN
from twisted_push.node.targets import Target

Worlds = Any
T0 = int(NOW)
YES: dict[str, Any] = {"result": {}}
NO: dict[str, Any] = {"error": {"code": 4001, "message": "not for you"}}
DENIED = {"code": 103, "message": "permission denied"}
AGAIN = {"code": 100, "message": "internal server error", "temporary": True}
QUIET = {"ping_interval": 1e6, "pong_timeout": 1e6}
STALE = 100.0
URLS = {
    "url": "",
    "subscribe_url": "http://cms.test/s",
    "sub_refresh_url": "http://cms.test/r",
    "publish_url": "http://cms.test/p",
    "rpc_url": "http://cms.test/c",
}
SPACES = (
    Namespace(
        prefix="cms:",
        client_subscribe="cms",
        client_publish="cms",
        presence=True,
        client_presence=True,
    ),
    Namespace(prefix="kept:", client_subscribe="cms", history_size=10, recover=True),
    Namespace(
        prefix="latest:",
        client_subscribe="cms",
        history_size=1,
        recover=True,
        recovery_mode="cache",
    ),
    Namespace(prefix="open:", client_subscribe="anyone", client_publish="subscriber"),
)


async def make(make_world: Worlds, answer: object = None, **callback: Any) -> World:
    world: World = await make_world(
        callback={**URLS, "serve_stale": STALE, "timeout": 5.0, **callback},
        namespaces=SPACES,
        limits=QUIET,
        content_token_ttl=60.0,
    )
    world.cms.answer = answer
    return world


def ask(tab: Tab, method: str, /, **params: Any) -> dict[str, Any]:
    """Send a command; give its reply without its id."""
    reply = tab.ask(method, **params)
    del reply["id"]
    return reply


def waits(tab: Tab, world: World, method: str, /, **params: Any) -> Callable[[object], list[Any]]:
    """Send a command that the CMS is asked about; what is given has the CMS answer it."""
    tab.new()
    tab.send(method, **params)
    assert tab.new() == []
    assert world.cms.open == 1

    def answer(said: object) -> list[Any]:
        world.cms.reply(said)
        return tab.new()

    return answer


# --- Subscribe -------------------------------------------------------------------------------


async def test_a_client_gets_a_channel_if_the_cms_says_so(make_world: Worlds) -> None:
    world = await make(make_world, {"result": {"info": {"seat": 7}, "data": "hello"}})
    tab = world.user("alice", meta={"sid": 7})
    reply = ask(tab, "subscribe", channel="cms:1", token="its-own", data={"page": 1})
    assert reply == {"subscribe": {"data": "hello"}}
    assert world.cms.asked[0].request.path == b"/s"
    assert world.cms.asked[0].json == {
        "client": tab.session.client,
        "transport": "fake",
        "protocol": "json",
        "encoding": "json",
        "user": "alice",
        "channel": "cms:1",
        "token": "its-own",
        "data": {"page": 1},
        "meta": {"sid": 7},
    }
    await world.publish("cms:1", 1)
    assert tab.published("cms:1") == [1]
    [present] = ask(tab, "presence", channel="cms:1")["presence"]["presence"].values()
    assert present["chan_info"] == {"seat": 7}
    assert "unsubscribe" in ask(tab, "unsubscribe", channel="cms:1")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NO, {"code": 4001, "message": "not for you"}),
        ({"error": {"code": 2**32 - 1}}, {"code": 2**32 - 1, "message": "refused"}),
        (b"<html>", AGAIN),
        ({"result": {"expire_at": T0}}, {"code": 110, "message": "expired"}),
    ],
)
async def test_a_client_gets_no_channel(
    make_world: Worlds, answer: object, error: dict[str, Any]
) -> None:
    world = await make(make_world, answer)
    tab = world.user("alice")
    assert ask(tab, "subscribe", channel="cms:1") == {"error": error}
    await world.publish("cms:1", 1)
    assert tab.published() == []
    assert tab.code is None


async def test_a_silent_cms_costs_one_error_and_no_connection(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    for method, params in (
        ("subscribe", {"channel": "cms:1"}),
        ("publish", {"channel": "cms:1", "data": 1}),
        ("rpc", {"method": "a"}),
    ):
        waits(tab, world, method, **params)
        world.advance(5.25)
        assert [each["error"] for each in tab.new()] == [AGAIN]
    assert tab.code is None


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscribe", {"channel": "cms:1"}),
        ("publish", {"channel": "cms:1", "data": 1}),
        ("rpc", {"method": "a"}),
    ],
)
async def test_the_cms_may_close_a_client(
    make_world: Worlds, method: str, params: dict[str, Any]
) -> None:
    world = await make(make_world, {"disconnect": {"code": 4501, "reason": "banned"}})
    tab = world.user("alice")
    tab.send(method, **params)
    closed = tab.transport.closed_with
    assert closed is not None
    assert (closed.code, closed.text) == (4501, "banned")


async def test_the_cms_is_not_asked_about_what_is_clear(make_world: Worlds) -> None:
    world = await make(make_world, YES)
    world.context.policy = type(world.context.policy)(
        world.site, type(world.limits)(max_channels_per_client=2)
    )
    tab = world.user("alice")  # In the broadcast channel.
    assert ask(tab, "subscribe", channel="other")["error"] == DENIED
    assert "subscribe" in ask(tab, "subscribe", channel="cms:1")
    assert ask(tab, "subscribe", channel="cms:1")["error"]["code"] == 105
    assert ask(tab, "subscribe", channel="cms:2")["error"]["code"] == 106
    assert ask(tab, "subscribe", channel="cms:\n")["error"]["code"] == 107
    assert len(world.cms.asked) == 1


async def test_a_granted_channel_and_a_content_token_need_no_question(make_world: Worlds) -> None:
    world = await make(make_world, NO)
    tab = world.user("alice", channels=["cms:granted"])
    assert "cms:granted" in tab.session.subscriptions
    await world.node.content.register("cms:page", "t")
    assert "subscribe" in ask(tab, "subscribe", channel="cms:page", token="t")
    assert world.cms.asked == []
    assert ask(tab, "subscribe", channel="cms:other", token="t")["error"]["code"] == 4001


async def test_where_there_is_no_cms_to_ask_it_is_denied(make_world: Worlds) -> None:
    world = await make_world(namespaces=SPACES, limits=QUIET)
    tab = world.user("alice")
    assert ask(tab, "subscribe", channel="cms:1") == {"error": DENIED}
    assert ask(tab, "publish", channel="cms:1", data=1) == {"error": DENIED}
    assert ask(tab, "rpc", method="a", data=1)["error"]["code"] == 108
    tab.raw('{"send": {"data": 1}}')
    assert tab.code is None


async def test_recovery_comes_after_the_answer(make_world: Worlds) -> None:
    world = await make(make_world, YES)
    tab = world.user("alice")
    begin = ask(tab, "subscribe", channel="kept:1")["subscribe"]
    place = {"recover": True, "offset": begin.get("offset", 0), "epoch": begin["epoch"]}
    tab.leave()
    await world.publish("kept:1", 1)
    world.cms.answer = None
    tab = world.user("alice")
    answer = waits(tab, world, "subscribe", channel="kept:1", **place)
    await world.publish("kept:1", 2)
    [reply] = answer(YES)
    await world.publish("kept:1", 3)
    result = reply["subscribe"]
    assert (result["recovered"], result["was_recovering"]) == (True, True)
    assert [each["data"] for each in result["publications"]] == [1, 2]
    assert tab.published() == [3]


@pytest.mark.parametrize(("flag", "refused"), [(0, False), (1, False), (2, True), (3, True)])
async def test_a_client_that_takes_no_gap_is_told(
    make_world: Worlds, flag: int, refused: bool
) -> None:
    world = await make(make_world, YES)
    tab = world.user("alice")
    lost = {"recover": True, "offset": 7, "epoch": "of another life", "flag": flag}
    reply = ask(tab, "subscribe", channel="kept:1", **lost)
    if refused:
        assert reply == {"error": {"code": 112, "message": "unrecoverable position"}}
        assert "kept:1" not in tab.session.subscriptions
        assert "subscribe" in ask(tab, "subscribe", channel="kept:1", flag=flag)
    else:
        assert "recovered" not in reply["subscribe"]
    for channel in ("latest:1", "cms:1"):  # There is no stream to be without a gap.
        assert "subscribe" in ask(tab, "subscribe", channel=channel, **lost)


# --- Races -----------------------------------------------------------------------------------


ACTS = [
    ("subscribe", {"channel": "cms:1"}),
    ("publish", {"channel": "cms:1", "data": "late"}),
    ("rpc", {"method": "a"}),
]


@pytest.mark.parametrize(("method", "params"), ACTS)
@pytest.mark.parametrize("end", ["leaves", "kick", "logout", "logout-token", "refresh", "stop"])
async def test_nothing_happens_for_a_client_that_is_gone(
    make_world: Worlds, method: str, params: dict[str, Any], end: str
) -> None:
    world = await make(make_world)
    reader = world.user("bob", channels=["cms:1"])
    token = sign(sub="alice")
    tab = world.connected(token=token)
    waits(tab, world, method, **params)
    tab.send("publish", channel="cms:1", data="after it")
    backend = world.node.backend
    if end == "leaves":
        tab.leave()
    elif end == "kick":
        await backend.disconnect(Target(user="alice"), Disconnect(3503))
    elif end == "logout":
        await backend.logout(user="alice")
    elif end == "logout-token":
        await backend.logout(token=token)
    elif end == "refresh":
        await backend.refresh(Target(user="alice"), expired=True, expire_at=None, info=None)
    else:
        world.node.finish(tab.session, Disconnect(3001))
    assert tab.new() == []
    # It has its turn until the CMS is done with it, but what that says is for nobody.
    assert world.context.stats.callbacks_in_flight == world.cms.open == 1
    world.cms.reply({"result": {"data": "late"}})
    assert world.context.stats.callbacks_in_flight == 0
    assert tab.new() == []
    assert reader.published() == []
    assert "cms:1" not in tab.session.subscriptions


@pytest.mark.parametrize("how", ["user", "client", "channel"])
async def test_a_channel_that_is_taken_meanwhile_is_not_joined(
    make_world: Worlds, how: str
) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    answer = waits(tab, world, "subscribe", channel="cms:1")
    if how == "channel":
        await world.node.backend.remove_channel("cms:1")
    else:
        target = {"user": Target(user="alice"), "client": Target(client=tab.session.client)}[how]
        await world.node.backend.unsubscribe(target, "cms:1")
    assert [each["error"] for each in answer(YES)] == [DENIED]
    await world.publish("cms:1", 1)
    assert tab.published() == []
    # Who asks now is asked about anew: the newest word of the CMS counts.
    answer = waits(tab, world, "subscribe", channel="cms:1")
    assert ["subscribe" in each for each in answer(YES)] == [True]


async def test_another_channel_that_is_taken_does_not_matter(make_world: Worlds) -> None:
    world = await make(make_world)
    tab, other = world.user("alice"), world.user("bob")
    answer = waits(tab, world, "subscribe", channel="cms:1")
    await world.node.backend.unsubscribe(Target(user="alice"), "cms:2")
    await world.node.backend.unsubscribe(Target(client=other.session.client), "cms:1")
    assert ["subscribe" in each for each in answer(YES)] == [True]


async def test_a_channel_that_the_cms_gives_meanwhile(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    answer = waits(tab, world, "subscribe", channel="cms:1")
    await world.node.backend.subscribe(Target(user="alice"), "cms:1", ChannelGrant())
    given, refused = answer(YES)
    assert "subscribe" in given["push"]
    assert refused["error"]["code"] == 105
    await world.publish("cms:1", 1)
    assert tab.published() == [1]


async def test_commands_keep_their_order_while_the_cms_is_asked(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    answer = waits(tab, world, "rpc", method="slow")
    first, second = tab.send("ping"), tab.send("rpc", method="next")
    assert [each["id"] for each in answer({"result": {"data": 1}})] == [first - 1, first]
    assert world.cms.open == 1
    world.cms.reply(YES)
    assert [each["id"] for each in tab.new()] == [second]


async def test_one_client_has_one_question_at_a_time(make_world: Worlds) -> None:
    world = await make(make_world)
    tab = world.user("alice")
    for _ in range(50):
        tab.send("rpc", method="flood")
    assert world.cms.open == 1
    for _ in range(50):
        world.cms.reply(YES)
    assert len(world.cms.asked) == 50


# --- Publish ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "published"),
    [
        ({}, ["sent"]),
        ([], ["sent"]),
        ({"data": {"text": "changed"}}, [{"text": "changed"}]),
        ({"skip_publish": True}, []),
        ({"skip_publish": True, "data": 1}, []),
    ],
)
async def test_what_the_cms_makes_of_a_message(
    make_world: Worlds, result: object, published: list[Any]
) -> None:
    world = await make(make_world, {"result": result})
    reader = world.user("bob", channels=["cms:1"])
    writer = world.user("alice")
    assert ask(writer, "publish", channel="cms:1", data="sent") == {"publish": {}}
    assert world.cms.asked[0].json["data"] == "sent"
    assert world.cms.asked[0].request.path == b"/p"
    assert reader.published("cms:1") == published
    for push in reader.everything:
        if "pub" in push.get("push", {}):
            assert push["push"]["pub"]["info"]["user"] == "alice"


async def test_the_cms_may_keep_a_message_out_of_the_history(make_world: Worlds) -> None:
    world = await make_world(
        callback=URLS,
        namespaces=(Namespace(prefix="kept:", client_publish="cms", history_size=10),),
    )
    tab = world.user("alice", channels=["kept:1"])
    for number, skip in enumerate((False, True, False)):
        world.cms.answer = {"result": {"skip_history": skip}}
        assert "publish" in ask(tab, "publish", channel="kept:1", data=number)
    assert tab.published() == [0, 1, 2]
    found = await world.node.backend.history("kept:1", since=None, limit=-1, reverse=False)
    assert [each.data for each in found.publications] == [b"0", b"2"]


async def test_a_message_that_the_cms_refuses(make_world: Worlds) -> None:
    world = await make(make_world, NO)
    reader = world.user("bob", channels=["cms:1", "open:1"])
    assert ask(reader, "publish", channel="cms:1", data=1)["error"]["code"] == 4001
    assert reader.published() == []
    assert "publish" in ask(reader, "publish", channel="open:1", data=2)
    assert reader.published() == [2]
    assert len(world.cms.asked) == 1


async def test_an_engine_that_fails_after_the_answer(make_world: Worlds) -> None:
    world = await make(make_world, YES)
    tab = world.user("alice")
    world.engine.broken["publish"] = NotConnected()
    assert ask(tab, "publish", channel="cms:1", data=1)["error"] == AGAIN


# --- Calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ({"result": {"data": {"votes": [1, 2.50]}}}, {"rpc": {"data": {"votes": [1, 2.5]}}}),
        (YES, {"rpc": {}}),
        ({"result": {"data": None}}, {"rpc": {}}),
        (NO, {"error": {"code": 4001, "message": "not for you"}}),
        (b"", {"error": AGAIN}),
    ],
)
async def test_a_call(make_world: Worlds, answer: object, reply: dict[str, Any]) -> None:
    world = await make(make_world, answer)
    tab = world.user("alice")
    assert ask(tab, "rpc", method="vote", data={"for": 1}) == reply
    [question] = world.cms.asked
    assert question.request.path == b"/c"
    assert (question.json["method"], question.json["data"]) == ("vote", {"for": 1})
    assert question.json["user"] == "alice"


@pytest.mark.parametrize("answer", [YES, NO, b"", {"result": {"data": 1}}])
async def test_what_is_sent_has_no_answer(make_world: Worlds, answer: object) -> None:
    world = await make(make_world, answer)
    tab = world.user("alice")
    tab.raw('{"send": {"data": {"seen": 7}}}')
    assert tab.new() == []
    assert tab.code is None
    [question] = world.cms.asked
    assert question.json["data"] == {"seen": 7}
    assert "method" not in question.json


async def test_a_client_that_is_sent_away_for_what_it_sent(make_world: Worlds) -> None:
    world = await make(make_world, {"disconnect": {"code": 4400}})
    tab = world.user("alice")
    tab.raw('{"send": {"data": 1}}')
    assert tab.code == 4400


# --- Renewals --------------------------------------------------------------------------------


LIFE = 1000
FIRST, LAST = 0.7 * LIFE, 0.9 * LIFE


async def renewing(make_world: Worlds, **callback: Any) -> tuple[World, Tab]:
    """Give a client whose subscription has an end, and whose renewal the CMS will be asked for."""
    world = await make(make_world, {"result": {"expire_at": T0 + LIFE}}, **callback)
    tab = world.user("alice", meta=1)
    assert ask(tab, "subscribe", channel="cms:1", token="t") == {"subscribe": {}}
    world.cms.answer = None
    world.cms.asked.clear()
    tab.new()
    return world, tab


def until_asked(world: World) -> None:
    """Let time pass until the CMS is asked, within the part of the life that is meant for it."""
    world.advance(FIRST - 1)
    assert world.cms.asked == []
    for _ in range(int((LAST - FIRST + 2) * 4)):
        if world.cms.open:
            return
        world.clock.advance(0.25)
    raise AssertionError("the CMS is not asked")


async def test_a_subscription_is_renewed_without_the_client(make_world: Worlds) -> None:
    world, tab = await renewing(make_world)
    until_asked(world)
    [question] = world.cms.asked
    assert question.request.path == b"/r"
    assert question.json == {
        "client": tab.session.client,
        "transport": "fake",
        "protocol": "json",
        "encoding": "json",
        "user": "alice",
        "channel": "cms:1",
        "meta": 1,
    }
    world.cms.reply({"result": {"expire_at": T0 + 3 * LIFE}})
    world.advance(LIFE)
    assert tab.new() == []
    await world.publish("cms:1", 1)
    assert tab.published() == [1]
    world.cms.answer = YES  # For good.
    world.advance(2 * LIFE)
    assert len(world.cms.asked) == 2
    assert "cms:1" in tab.session.subscriptions


async def test_without_an_address_of_its_own_the_first_question_is_asked_again(
    make_world: Worlds,
) -> None:
    world, _ = await renewing(make_world, sub_refresh_url="")
    until_asked(world)
    [question] = world.cms.asked
    assert question.request.path == b"/s"
    assert "token" not in question.json
    world.cms.reply(YES)


@pytest.mark.parametrize(
    "answer", [NO, {"result": {"expired": True}}, {"result": {"expire_at": 1}}], ids=str
)
async def test_the_cms_says_no(make_world: Worlds, answer: object) -> None:
    world, tab = await renewing(make_world)
    until_asked(world)
    world.cms.reply(answer)
    ended = {"code": 2501, "reason": "subscription expired"}
    assert tab.new() == [{"push": {"channel": "cms:1", "unsubscribe": ended}}]
    await world.publish("cms:1", 1)
    assert tab.published() == []
    assert tab.code is None


async def test_the_cms_says_that_the_client_must_go(make_world: Worlds) -> None:
    world, tab = await renewing(make_world)
    until_asked(world)
    world.cms.reply({"disconnect": {"code": 4501}})
    assert tab.code == 4501


async def test_a_client_that_must_go_is_told_nothing_more(make_world: Worlds) -> None:
    world = await make(make_world, {"result": {"expire_at": T0 + LIFE}})
    tab = world.user("alice")
    for channel in ("cms:1", "cms:2"):
        assert "subscribe" in ask(tab, "subscribe", channel=channel)
    for subscription in tab.session.subscriptions.values():
        if subscription.expires_at is not None:
            subscription.renew_at = T0 + 10.0  # In one turn.
    world.node.look_at(tab.session)
    world.cms.asked.clear()
    world.cms.answer = {"disconnect": {"code": 4501}}
    world.advance(11)
    assert tab.code == 4501
    assert len(world.cms.asked) == 1
    assert tab.transport.ignored == 0


@pytest.mark.parametrize("trouble", [b"<html>", {"error": {"code": 100}}, {"error": {"code": 111}}])
async def test_a_cms_that_cannot_say_is_asked_again_in_a_while(
    make_world: Worlds, trouble: object
) -> None:
    world, tab = await renewing(make_world)
    until_asked(world)
    world.cms.reply(trouble)
    world.cms.answer = trouble
    world.advance(60)
    attempts = len(world.cms.asked) - 1
    assert 60 / (2 * RENEW_AGAIN + 0.5) - 1 <= attempts <= 60 / RENEW_AGAIN
    world.cms.answer = {"result": {"expire_at": T0 + 3 * LIFE}}
    world.advance(2 * RENEW_AGAIN + 0.5)
    assert len(world.cms.asked) == attempts + 2
    world.advance(LIFE)
    assert tab.new() == []


async def test_a_cms_that_cannot_say_for_long(make_world: Worlds) -> None:
    world, tab = await renewing(make_world)
    world.cms.answer = b"<html>"
    world.advance(LIFE + STALE - 1)
    assert tab.new() == []
    assert "cms:1" in tab.session.subscriptions
    world.advance(1.5)
    assert tab.new()[0]["push"]["unsubscribe"]["code"] == 2501


async def test_a_question_that_takes_too_long_does_not_put_the_end_off(make_world: Worlds) -> None:
    world, tab = await renewing(make_world, timeout=1e5, serve_stale=0.0)
    world.advance(LIFE - 1)
    assert world.cms.open == 1
    world.advance(1.5)
    assert tab.new()[0]["push"]["unsubscribe"]["code"] == 2501
    world.cms.reply(YES)  # It comes too late.
    assert "cms:1" not in tab.session.subscriptions


@pytest.mark.parametrize("how", ["leaves", "unsubscribes", "taken", "removed", "logout"])
async def test_a_renewal_ends_with_its_subscription(make_world: Worlds, how: str) -> None:
    world, tab = await renewing(make_world)
    until_asked(world)
    if how == "leaves":
        tab.leave()
    elif how == "unsubscribes":
        ask(tab, "unsubscribe", channel="cms:1")
    elif how == "taken":
        await world.node.backend.unsubscribe(Target(user="alice"), "cms:1")
    elif how == "removed":
        await world.node.backend.remove_channel("cms:1")
    else:
        await world.node.backend.logout(user="alice")
    world.cms.reply(YES)
    assert "cms:1" not in tab.session.subscriptions
    assert world.context.stats.callbacks_in_flight == 0


async def test_a_client_cannot_renew_what_the_cms_decides(make_world: Worlds) -> None:
    world, tab = await renewing(make_world)
    token = sign(sub="alice", channel="cms:1", exp=T0 + 9 * LIFE)
    assert ask(tab, "sub_refresh", channel="cms:1", token=token) == {"error": DENIED}
    world.cms.answer = {"result": {"expired": True}}
    world.advance(LIFE)
    assert "cms:1" not in tab.session.subscriptions


async def test_renewals_are_spread(make_world: Worlds) -> None:
    world = await make(make_world, {"result": {"expire_at": T0 + LIFE}})
    tabs = [world.user(f"user-{number}") for number in range(200)]
    for tab in tabs:
        assert "subscribe" in ask(tab, "subscribe", channel="cms:1")
    world.cms.asked.clear()
    world.cms.answer = YES
    counts = []
    for _ in range(int(LIFE / 10)):
        before = len(world.cms.asked)
        world.advance(10)
        counts.append(len(world.cms.asked) - before)
    assert sum(counts) == 200
    assert sum(counts[:69]) == sum(counts[91:]) == 0
    assert max(counts) < 40


# --- Any order of events ---------------------------------------------------------------------


EVENTS = (
    *("subscribe", "unsubscribe", "publish", "answer", "refuse"),
    *("take", "remove", "give", "kick"),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_whatever_happens_nothing_is_delivered_after_it_was_taken(events: list[str]) -> None:
    """Taken by the CMS, and not given again since: nothing of the channel comes any more."""

    def now(doing: Any) -> Any:
        done: list[Any] = []
        Deferred.fromCoroutine(doing).addCallback(done.append)
        assert done
        return done[0]

    world = now(World(callback=URLS, namespaces=SPACES, limits=QUIET).start())
    tab = world.user("alice")
    banned = False
    asked_since = 0
    for number, event in enumerate(events):
        before = len(world.cms.asked)
        if event in ("subscribe", "unsubscribe"):
            tab.send(event, channel="cms:1")
        elif event == "publish":
            seen = len(tab.published())
            now(world.publish("cms:1", number))
            assert not (banned and len(tab.published()) > seen), events
        elif event in ("answer", "refuse") and world.cms.open:
            # Asked after it was taken: this is a newer word, and may let it in again.
            newer = asked_since > 0 or not banned
            world.cms.reply(YES if event == "answer" else NO)
            banned = banned and not (newer and event == "answer")
            asked_since = max(0, asked_since - 1)
        elif event in ("take", "remove"):
            if event == "take":
                now(world.node.backend.unsubscribe(Target(user="alice"), "cms:1"))
            else:
                now(world.node.backend.remove_channel("cms:1"))
            banned, asked_since = True, 0
        elif event == "give":
            now(world.node.backend.subscribe(Target(user="alice"), "cms:1", ChannelGrant()))
            banned = False
        elif event == "kick":
            now(world.node.backend.disconnect(Target(user="alice"), Disconnect(3503)))
            banned = True
        asked_since += len(world.cms.asked) - before if banned else 0
    now(world.end())
