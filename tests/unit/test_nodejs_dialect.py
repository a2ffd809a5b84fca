"""What a page of Drupal's nodejs module can do, and what becomes of it."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest

from tests.unit import nodejs_support as support
from tests.unit.cms.support import Log
from tests.unit.node.support import sign
from tests.unit.nodejs_support import (
    BROADCAST,
    KEY,
    MESSAGES,
    SUCCESS,
    ConnectWorld,
    NodejsTab,
    NodejsWorld,
    errors,
    register,
)
from twisted_push.errors import Disconnect, NotConnected
from twisted_push.model import ChannelGrant
from twisted_push.node.targets import Target
from twisted_push.protocols.nodejs import read_messages

make_world = support.make_world

Worlds = Any


async def post(world: NodejsWorld, body: str, **options: Any) -> Any:
    """Publish what the CMS posts."""
    [message] = read_messages(body.encode())
    return await world.node.backend.publish(
        message.channel, message.data, extra=message.extra, exclude=message.client, **options
    )


# --- The beginning ---------------------------------------------------------------------------


async def test_revision_4_is_connected_unasked(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    assert world.page(4).packets == ["0"]


async def test_revision_5_is_connected_when_it_asks(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page(5)
    assert tab.packets == [f'0{{"sid":"{tab.session.client}"}}']


async def test_revision_5_is_told_nothing_before_it_asks(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = NodejsTab(world, 5)
    assert tab.packets == []
    world.advance(11)
    assert tab.code == 3502


async def test_the_credentials_of_revision_5_are_not_needed(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = NodejsTab(world, 5)
    tab.raw('0{"token":"x"}')
    tab.authenticate(world.drupal.account("2"), ack=1)
    assert tab.acks == {1: SUCCESS}


@pytest.mark.parametrize("revision", [4, 5])
async def test_the_captured_dialogue(make_world: Worlds, revision: int) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account(
        "2", "nodejs_user_2", "nodejs_ajax_broadcast", "example", presenceUids={"0": "3", "2": 1}
    )
    tab = world.page(revision)
    tab.raw(f'20["authenticate",{{"authToken":"{token}"}}]')
    assert tab.packets[1:] == [
        '2["message",{"callback":"clientAuthenticated","data":{"uid":"2",'
        f'"authToken":"{token}","nodejsValidAuthToken":true,'
        f'"clientId":"{tab.socket_id}",'
        '"channels":["nodejs_user_2","nodejs_ajax_broadcast","example"],'
        '"presenceUids":["1","3"],"contentTokens":[]}}]',
        '30[{"result":"success"}]',
    ]
    assert tab.session.user == "2"


async def test_the_question_to_the_cms(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    tab.raw(
        '2["authenticate",{"authToken":"t","uid":1,"big":123456789012345678901234567890,'
        '"messageType":"userOffline","clientId":"another","f":1.10}]'
    )
    form = world.cms.asked[0].form
    assert form["serviceKey"] == KEY
    assert form["messageJson"] == (
        '{"authToken":"t","uid":1,"big":123456789012345678901234567890,'
        f'"messageType":"authenticate","clientId":"{tab.session.client}","f":1.10}}'
    )


async def test_an_anonymous_visitor(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("0", "example")
    assert tab.authenticated["uid"] == 0
    assert tab.session.user == ""
    await world.publish("example", {"a": 1})
    assert tab.received("example") == [{"a": 1}]


async def test_the_page_is_told_of_the_channels_that_it_has(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(user_channel="user_{user}")
    tab = world.visitor("2", "example", "bad\n", "example")
    assert tab.authenticated["channels"] == ["user_2", "example"]
    await world.node.backend.subscribe(Target(user="2"), "added", ChannelGrant())
    again = world.page_of("token-of-2")
    assert again.authenticated["channels"] == ["user_2", "example", "added"]


async def test_the_broadcast_channel_is_told_of_if_the_cms_granted_it(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    assert world.visitor("2", "a").authenticated["channels"] == ["a"]
    assert world.visitor("3", BROADCAST).authenticated["channels"] == [BROADCAST]


async def test_a_channel_that_was_taken_meanwhile_is_not_told_of(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    world.engine.hold_work.add("subscribe")
    tab = world.page()
    tab.authenticate(world.drupal.account("2", "one", "two"), ack=1)
    world.engine.release()
    await world.node.backend.unsubscribe(Target(user="2"), "two")
    world.engine.hold_work.clear()
    while world.engine.held:
        world.engine.release()
    assert tab.authenticated["channels"] == ["one"]
    await world.publish("two", 1)
    assert tab.received("two") == []


async def test_what_is_published_while_a_client_is_let_in(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "c")
    token = world.drupal.account("2", "example")
    world.visitor("2", "example")
    tab = world.page()
    world.engine.hold.add("content_claim")
    tab.authenticate(token, ack=7, contentTokens={"content": "c"})
    await world.publish("example", 1)
    await world.publish("example", 2)
    assert tab.packets == ["0"]
    world.engine.release()
    await world.publish("example", 3)
    sent = tab.everything
    assert sent[1].data[1]["callback"] == "clientAuthenticated"
    assert tab.received("example") == [1, 2, 3]
    assert tab.acks == {7: SUCCESS}


async def test_pages_wait_while_the_cms_wants_to_be_left_alone(make_world: Worlds) -> None:
    """Closed, they would be back in a second or two: their library cannot be told when to come."""
    world: NodejsWorld = await make_world()
    tokens = [world.drupal.account(str(number), "news") for number in range(1, 4)]
    world.cms.code, world.cms.headers["Retry-After"] = 503, "30"
    first = world.page()
    first.authenticate(tokens[0])
    assert (first.code, first.stays_away) == (3004, False)
    tabs = [world.page() for _ in tokens]
    for tab, token in zip(tabs, tokens, strict=True):
        tab.authenticate(token)
    world.advance(20)
    assert [tab.code for tab in tabs] == [None] * 3
    assert len(world.drupal.said) == 1
    world.cms.code = 200
    world.advance(15)
    assert [tab.authenticated["channels"] for tab in tabs] == [["news"]] * 3


async def test_pages_for_which_there_is_no_room_are_closed(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback={"max_concurrent": 1, "max_waiting": 1})
    world.drupal.holding = True
    tabs = [world.page() for _ in range(3)]
    for number, tab in enumerate(tabs):
        tab.authenticate(world.drupal.account(str(number + 1)))
    assert [tab.code for tab in tabs] == [None, None, 3013]
    assert not tabs[2].stays_away
    world.drupal.release()
    world.drupal.release()


async def test_one_who_is_kicked_while_it_is_let_in(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "c")
    world.engine.hold.add("content_claim")
    tab = world.page()
    tab.authenticate(world.drupal.account("2", "a"), ack=1, contentTokens={"content": "c"})
    await world.node.backend.disconnect(Target(user="2"), Disconnect(3503))
    world.engine.release()
    assert (tab.code, tab.authenticated, tab.acks) == (3503, None, {})
    assert tab.transport.ignored == 0


async def test_a_page_that_leaves_while_the_cms_is_asked(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate("t")
    tab.emit("join-token-channel", {})
    assert world.cms.open == 1
    tab.leave()
    assert world.cms.open == 1  # It is being answered, and that is worth keeping.
    world.drupal.release()
    assert world.leftovers() == {}


async def test_a_session_that_is_over_is_forgotten(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    session = weakref.ref(tab.session)
    tab.leave()
    del tab
    world.advance(11)
    gc.collect()
    assert session() is None


# --- What is no packet -----------------------------------------------------------------------

NO_PACKETS = [
    "",
    "9",
    "x",
    "٤",
    "2",
    "2null",
    "2{}",
    "2[]",
    "2[1]",
    '2[null,"a"]',
    '2["authenticate",NaN]',
    '2["authenticate",' + "[" * 5000,
    '2["authenticate",' + "[" * 200 + "]" * 200 + "]",
    '2["authenticate",{"authToken":"\\ud800"}]',
    '299999999999999["authenticate",{}]',
    "51",
    '599999-["a"]',
]


@pytest.mark.parametrize("packet", NO_PACKETS)
@pytest.mark.parametrize("revision", [4, 5])
async def test_what_is_no_packet_ends_the_client(
    make_world: Worlds, packet: str, revision: int
) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page(revision)
    tab.raw(packet)
    assert tab.code == 3501
    assert tab.stays_away


@pytest.mark.parametrize(
    "packet", ['2["authenticate",{"authToken":"t"}]', '2["unknown"]', "3[1]", '51-["a"]', '4"x"']
)
async def test_revision_5_connects_first(make_world: Worlds, packet: str) -> None:
    world: NodejsWorld = await make_world()
    tab = NodejsTab(world, 5)
    tab.raw(packet)
    assert tab.code == 3501
    assert world.cms.asked == []


async def test_a_second_connect(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    old, new = world.page(4), world.page(5)
    old.raw("0")
    assert (old.packets, old.code) == (["0", "0"], None)
    new.raw("0")
    assert new.code == 3501


@pytest.mark.parametrize(
    ("revision", "refusal"),
    [(4, '4/admin,"Invalid namespace"'), (5, '4/admin,{"message":"Invalid namespace"}')],
)
async def test_another_namespace(make_world: Worlds, revision: int, refusal: str) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page(revision)
    tab.raw("0/admin?token=1,")
    assert tab.packets[1:] == [refusal]
    tab.raw('2/admin,7["authenticate",{"authToken":"t"}]')
    tab.raw("1/admin,")
    assert tab.packets[1:] == [refusal]
    assert tab.code is None
    assert world.cms.asked == []


async def test_a_client_that_disconnects(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    tab.raw("1")
    assert tab.code == 3000
    assert tab.new() == []
    assert world.context.hub.clients == {}
    assert world.stats.closed == {0: 1}


async def test_binary_packets_are_dropped_and_counted(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    tab.raw('52-1["message",{"_placeholder":true,"num":0}]')
    tab.session.received_binary(b"\x00")
    tab.session.received_binary(b"\x01")
    tab.raw('61-1[{"_placeholder":true,"num":0}]')
    assert world.stats.commands["binary"] == 4
    assert (tab.new(), tab.code) == ([], None)


async def test_unknown_events_are_ignored_and_counted(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    for event in ("disconnect", "__proto__", "constructor", "clientAuthenticated", "x" * 1000):
        tab.emit(event, {}, ack=1)
    tab.raw("3[1]")
    assert world.stats.commands == {"unknown": 6}
    assert (tab.packets, tab.code) == (["0"], None)


async def test_known_events_are_counted(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2")
    tab.emit("message", {})
    tab.emit("join-token-channel", {})
    assert world.stats.commands == {"authenticate": 1, "message": 1, "join-token-channel": 1}


async def test_a_flood_ends_the_client(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(limits={"max_commands_per_second": 10})
    packets, binary = world.page(), world.page()
    for _ in range(20):
        packets.emit("unknown")
        binary.session.received_binary(b"")
    assert (packets.code, binary.code) == (None, None)
    packets.emit("unknown")
    binary.session.received_binary(b"")
    assert (packets.code, binary.code) == (3013, 3013)


async def test_what_waits_is_bounded(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(
        limits={"max_pending_commands": 5, "max_commands_per_second": 0}
    )
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate("t")
    for _ in range(5):
        tab.join("a", "b")
    assert tab.code is None
    tab.join("a", "b")
    assert tab.code == 3013


async def test_what_waits_is_bounded_in_bytes(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    token = world.drupal.account("2")
    world.drupal.holding = True
    many, few = world.page(), world.page()
    for tab in (many, few):
        tab.authenticate(token)
        for number in range(1, 16):
            tab.emit("message", {"type": "chat", "text": "x" * 65000}, ack=number)
    many.emit("message", {"text": "x" * 65000})
    many.emit("message", {"text": "x" * 65000})
    assert (many.code, few.code) == (3013, None)
    for _ in range(11):
        world.drupal.release()
    for number in range(16, 26):
        few.emit("message", {"type": "chat", "text": "x" * 65000}, ack=number)
    assert few.code is None
    while world.cms.open:
        world.drupal.release()
    assert list(few.acks) == list(range(1, 26))


async def test_events_wait_for_the_authentication_and_keep_their_order(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2", "example")
    await register(world, "content", "c")
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate(token, ack=1)
    tab.join("content", "c", ack=2)
    tab.join("content", "wrong", ack=3)
    tab.emit("message", {"type": "chat"}, ack=4)
    assert tab.packets == ["0"]
    world.drupal.release()
    assert list(tab.acks) == [1, 2, 3, 4]


# --- Authentication --------------------------------------------------------------------------


async def test_authenticating_again_with_the_same_token(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    tab.authenticate("token-of-2", ack=1)
    assert tab.packets[2:] == ['31[{"result":"success"}]']
    assert len(world.drupal.said) == 1


async def test_authenticating_again_with_another_token(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    world.drupal.account("3")
    tab = world.visitor("2", "a")
    tab.authenticate("token-of-3", ack=1)
    tab.authenticate("", ack=2)
    assert list(errors(tab)) == [1, 2]
    assert (tab.session.user, tab.code) == ("2", None)
    assert len(world.drupal.said) == 1


async def test_authenticating_while_it_is_under_way(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2")
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate(token, ack=1)
    tab.authenticate(token, ack=2)
    assert list(errors(tab)) == [2]
    world.drupal.release()
    assert tab.acks[1] == SUCCESS
    assert tab.code is None


async def test_without_a_token_where_everybody_may(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(anonymous=True)
    tab = world.page_of("")
    tab.authenticate("", ack=1)
    assert tab.acks == {1: SUCCESS}
    assert world.cms.asked == []


async def test_a_refused_client_is_told_and_stays_away(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    tab.authenticate("unknown", ack=5)
    assert tab.packets[1:] == [
        '35[{"result":"error","error":"invalid token"}]',
        '2["message",{"callback":"clientDisconnected","data":'
        '{"code":3500,"reason":"invalid token","reconnect":false}}]',
        "1",
    ]
    assert tab.code == 3500


async def test_a_refused_client_that_wants_no_acknowledgement(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    tab.authenticate("unknown")
    assert (tab.code, tab.acks, tab.stays_away) == (3500, {}, True)


async def test_a_token_that_is_too_long_is_not_asked_about(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    tab.authenticate("x" * 8193, ack=1)
    assert (tab.code, list(errors(tab))) == (3500, [1])
    assert world.cms.asked == []


async def test_a_signed_token(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page_of(sign(sub="42", channels=["a"]))
    assert (tab.authenticated["uid"], tab.authenticated["channels"]) == ("42", ["a"])
    late = world.page()
    late.authenticate(sign(sub="42", exp=1), ack=1)
    assert errors(late) == {1: "token expired"}
    assert (late.code, late.stays_away) == (3500, True)
    assert world.drupal.said == []


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ({"error": {"code": 103, "message": "not you"}}, 3500, "not you"),
        ({"error": {"code": 1234, "message": "no such tenant"}}, 3500, "no such tenant"),
        ({"error": {"code": 100, "message": "later"}}, 3004, None),
        ({"error": {"code": 111}}, 3004, None),
        ({"disconnect": {"code": 4501, "reason": "go away"}}, 4501, "go away"),
        ({"disconnect": {"code": 4000, "reason": "come back"}}, 4000, None),
        ({"result": {"user": "two\nlines"}}, 3500, "the user's id has control characters"),
        ({}, 3004, None),
    ],
)
async def test_the_answers_of_a_cms_that_has_more(
    make_world: Worlds, answer: object, code: int, text: str | None
) -> None:
    world: NodejsWorld = await make_world(ConnectWorld)
    world.cms.answer = answer
    tab = world.page()
    tab.authenticate("t", ack=1)
    assert tab.code == code
    assert tab.stays_away == (text is not None)
    assert [each[: len(text or "")] for each in errors(tab).values()] == ([text] if text else [])


async def test_an_engine_that_fails_while_a_client_is_let_in(make_world: Worlds, log: Log) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2", "a")
    for method in ("grant_get", "subscribe", "content_claim"):
        world.engine.broken = {method: NotConnected()}
        tab = world.page()
        tab.authenticate(token, ack=1, contentTokens={"content": "c"})
        assert (tab.code, tab.stays_away, tab.acks) == (3004, False, {})
    assert [line.partition(":")[0] for line in log.lines] == ["default"] * 2
    assert "refused" not in "".join(log.lines)


async def test_a_fault_of_ours_is_logged_and_the_client_comes_back(
    make_world: Worlds, flush_logged_errors: Any
) -> None:
    world: NodejsWorld = await make_world()
    world.engine.broken["overlays"] = RuntimeError("a bug")  # type: ignore[assignment]
    tab = world.page()
    tab.authenticate(world.drupal.account("2"))
    assert (tab.code, tab.stays_away) == (3004, False)
    assert len(flush_logged_errors(RuntimeError)) == 1


async def test_no_token_is_logged(make_world: Worlds, log: Log) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "the-content-token")
    world.page().authenticate("the-bad-token", contentTokens={"content": "the-content-token"})
    world.page().emit("authenticate", {"authToken": 5, "x": "the-payload"})
    world.engine.broken["content_claim"] = NotConnected()
    tab = world.visitor("2")
    tab.join("content", "the-content-token")
    tab.raw('2["the-payload"')
    assert len(log.lines) >= 3
    for secret in ("the-bad-token", "the-content-token", "the-payload", "token-of-2"):
        assert secret not in log.everything


# --- Content channels ------------------------------------------------------------------------


async def test_content_tokens_of_the_page(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "one", "t1")
    await register(world, "two", "t2")
    tab = world.visitor("2", "a")
    tab = world.page_of("token-of-2", contentTokens={"one": "t1", "two": "wrong", "x": None})
    assert tab.authenticated["contentTokens"] == {"one": "t1"}
    assert tab.authenticated["channels"] == ["a"]
    assert world.stats.command_errors == {103: 2}
    for channel in ("one", "two"):
        await world.publish(channel, 1)
    assert (tab.received("one"), tab.received("two")) == ([1], [])


@pytest.mark.parametrize("empty", [[], {}, None, ["t1"]])
async def test_no_content_tokens_as_php_has_them(make_world: Worlds, empty: object) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page_of(world.drupal.account("2"), contentTokens=empty)
    assert '"contentTokens":[]' in tab.packets[1]


async def test_content_tokens_of_the_cms(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "one", "t1")
    token = world.drupal.account("2", contentTokens={"one": "t1"})
    tab = world.page_of(token, contentTokens={"one": "wrong"})
    assert tab.authenticated["contentTokens"] == {"one": "t1"}
    await world.publish("one", 1)
    assert tab.received("one") == [1]


async def test_content_tokens_have_a_limit(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(limits={"max_channels_per_client": 5})
    tokens = {f"c{number}": await register(world, f"c{number}", f"t{number}") for number in "1234"}
    many = {f"none{number}": "t" for number in range(1000)}
    tab = world.page_of(world.drupal.account("2", "a"), contentTokens={**tokens, **many})
    # The broadcast channel and the granted one count, too.
    assert list(tab.authenticated["contentTokens"]) == ["c1", "c2", "c3"]
    assert len(world.engine.named("content_claim")) == 3
    assert world.stats.command_errors == {106: 2}


async def test_joining_a_content_channel(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "pushlab_late", "t1", notify_on_leave=True)
    await register(world, "pushlab_late", "t2", data=b'{"name": "Zo\\u00eb"}')
    bob, alice = world.visitor("3"), world.visitor("2")
    bob.join("pushlab_late", "t1")
    assert bob.packets[2:] == [
        '2["message",{"callback":"clientJoinedTokenChannel","data":{"token":"t1",'
        '"channel":"pushlab_late","notifyOnDisconnect":true}}]'
    ]
    bob.new()
    alice.join("pushlab_late", "t2", ack=3)
    assert alice.packets[2:] == [
        '2["message",{"callback":"clientJoinedTokenChannel","data":{"token":"t2",'
        '"channel":"pushlab_late","notifyOnDisconnect":false,'
        '"userData":{"name": "Zo\\u00eb"}}}]',
        '33[{"result":"success"}]',
    ]
    assert bob.packets[3:] == [
        '2["message",{"channel":"pushlab_late","data":{"channel":"pushlab_late",'
        '"notifyOnDisconnect":false,"userData":{"name": "Zo\\u00eb"}},'
        '"callback":"clientJoinedTokenChannel"}]'
    ]
    await world.publish("pushlab_late", 1)
    assert bob.received("pushlab_late")[-1] == alice.received("pushlab_late")[-1] == 1


async def test_others_are_told_once_however_often_one_joins(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    await register(world, "content", "t2")
    alice, bob = world.visitor("2"), world.visitor("3")
    bob.join("content", "t2")
    for number in range(1, 4):
        alice.join("content", "t1", ack=number)
    assert alice.acks == dict.fromkeys((1, 2, 3), SUCCESS)
    assert len(bob.received("content")) == 1
    await world.node.backend.unsubscribe(Target(user="2"), "content")
    await register(world, "content", "t3")
    alice.join("content", "t3")
    assert len(bob.received("content")) == 2


async def test_who_joined_is_no_part_of_the_history(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "news:1", "t1")
    world.visitor("2").join("news:1", "t1")
    [(publication, options)] = world.engine.named("publish")
    assert (publication.channel, options.history_size) == ("news:1", 0)


@pytest.mark.parametrize(
    "given", [("content", "wrong"), ("none", "t1"), ("content", ""), ("", "t1"), ("a\n", "t1")]
)
async def test_a_content_token_that_is_not_good(make_world: Worlds, given: tuple[str, str]) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    other, tab = world.visitor("3"), world.visitor("2")
    other.join("content", "t1")
    other.new()
    tab.join(*given, ack=1)
    [answer] = tab.new()
    assert answer.data[0]["result"] == "error"
    assert (tab.code, other.new()) == (None, [])
    assert list(tab.session.subscriptions) == [BROADCAST]


async def test_a_content_token_has_one_holder(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    first, thief = world.visitor("2"), world.visitor("3")
    first.join("content", "t1")
    thief.join("content", "t1", ack=1)
    assert errors(thief) == {1: "permission denied"}


async def test_anonymous_visitors_are_told_apart_by_their_tokens(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    await register(world, "content", "t2")
    await register(world, "content", "t3")
    world.page_of(world.drupal.account("0", token="one"), contentTokens={"content": "t1"})
    world.page_of(world.drupal.account("0", token="two")).join("content", "t2")
    world.visitor("2").join("content", "t3")
    assert sorted(world.node.content.users("content")) == [("", "one"), ("", "two"), ("2", "")]


async def test_an_engine_that_fails_while_a_channel_is_joined(make_world: Worlds, log: Log) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    tab = world.visitor("2")
    world.engine.broken["content_claim"] = NotConnected()
    tab.join("content", "t1", ack=1)
    assert errors(tab) == {1: "internal server error"}
    assert log.lines == ["default: the engine failed: NotConnected"]
    world.engine.broken = {"publish": NotConnected()}
    tab.join("content", "t1", ack=2)
    assert errors(tab)[2] == "internal server error"
    world.engine.broken.clear()
    tab.join("content", "t1", ack=3)
    assert (tab.acks[3], tab.code) == (SUCCESS, None)
    assert len(world.engine.named("publish")) == 2


# --- Messages to the CMS ---------------------------------------------------------------------


async def test_messages_are_off_by_default(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2")
    tab.emit("message", {"type": "chat"}, ack=1)
    tab.emit("message", {"type": "chat"})
    assert errors(tab) == {1: "not allowed"}
    assert len(world.drupal.said) == 1
    assert world.stats.command_errors == {103: 2}


async def test_messages_need_a_cms_of_this_dialect(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(ConnectWorld)
    world.cms.answer = {"result": {"user": "2"}}
    tab = world.page_of("t")
    tab.emit("message", {"type": "chat"}, ack=1)
    assert errors(tab) == {1: "not allowed"}


async def test_a_message_to_the_cms(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab, other = world.visitor("2", "a"), world.visitor("3", "a")
    world.drupal.replies["chat"] = b'{"a": 1.10, "serviceKey": "x", "b": "\\u00e9"}'
    tab.raw(
        '27["message",{"type":"chat","f":1.10,"big":123456789012345678901234567890,'
        '"serviceKey":"k","authToken":"t","messageType":"userOffline","clientId":"c","uid":"1"}]'
    )
    assert world.cms.asked[-1].form["messageJson"] == (
        '{"type":"chat","f":1.10,"big":123456789012345678901234567890,'
        f'"clientId":"{tab.session.client}","uid":"2","messageType":"chat"}}'
    )
    assert tab.packets[2:] == ['37[{"a":1.10,"b":"\\u00e9"}]']
    assert other.new() == []


async def test_the_uid_of_an_anonymous_visitor_is_a_number(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    world.visitor("0").emit("message", {"type": "chat", "uid": 1})
    assert world.drupal.said[-1]["uid"] == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"callback": "show"}, [{"callback": "show"}]),
        ({"error": "Not implemented"}, [{"error": "Not implemented"}]),
        ([1], []),
        ("text", []),
        (None, []),
    ],
)
async def test_an_answer_that_nobody_asked_to_acknowledge(
    make_world: Worlds, answer: object, told: list[object]
) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab = world.visitor("2")
    world.drupal.replies["chat"] = json.dumps(answer).encode()
    tab.emit("message", {"type": "chat"})
    tab.emit("message", {"type": "chat"}, ack=1)
    assert tab.messages[1:] == told
    assert tab.acks == {1: answer}


@pytest.mark.parametrize(
    "type", ["authenticate", "userOnline", "userOffline", "Authenticate", "USERONLINE"]
)
async def test_a_client_cannot_speak_for_the_server(make_world: Worlds, type: str) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab = world.visitor("2")
    asked = len(world.cms.asked)
    tab.emit("message", {"type": type}, ack=1)
    assert errors(tab) == {1: "not allowed"}
    assert len(world.cms.asked) == asked


@pytest.mark.parametrize("given", [[], [None], [[]], [1], ["a"], [{}], [{"type": 1}], [{"x": 1}]])
async def test_a_message_without_a_type(make_world: Worlds, given: list[object]) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab = world.visitor("2")
    tab.emit("message", *given, ack=1)
    assert errors(tab)[1].startswith("bad request")
    assert (len(world.drupal.said), tab.code) == (1, None)


async def test_messages_have_a_rate(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(
        callback={**MESSAGES, "client_messages_per_minute": 3}, limits={"ping_interval": 1e6}
    )
    tab, other = world.visitor("2"), world.visitor("3")
    for number in range(1, 6):
        tab.emit("message", {"type": "chat"}, ack=number)
    answers = [ack["error"] for ack in tab.acks.values()]
    assert answers == ["Not implemented"] * 3 + ["too many requests"] * 2
    assert world.stats.command_errors == {111: 2}
    other.emit("message", {"type": "chat"}, ack=1)
    assert other.acks == {1: {"error": "Not implemented"}}
    world.advance(20)
    for number in (6, 7):
        tab.emit("message", {"type": "chat"}, ack=number)
    assert (tab.acks[6]["error"], tab.acks[7]["error"]) == ("Not implemented", "too many requests")
    world.advance(600)
    for number in range(11, 15):
        tab.emit("message", {"type": "chat"}, ack=number)
    assert (tab.acks[13]["error"], tab.acks[14]["error"]) == (
        "Not implemented",
        "too many requests",
    )


async def test_a_message_that_the_cms_does_not_answer(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab = world.visitor("2", "a")
    world.cms.code = 500
    tab.emit("message", {"type": "chat"}, ack=1)
    tab.emit("message", {"type": "chat"})
    assert errors(tab) == {1: "try again"}
    assert (tab.messages[1:], tab.code) == ([], None)
    world.cms.code = 200  # Else reports of who is online wait for it.


async def test_a_page_that_leaves_while_its_message_is_answered(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    tab = world.visitor("2")
    world.drupal.holding = True
    tab.emit("message", {"type": "chat"}, ack=1)
    assert world.cms.open == 1
    tab.leave()
    world.drupal.release()
    assert tab.acks == {}
    assert tab.transport.ignored == 0


async def test_only_who_was_let_in_may_do_anything(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world(callback=MESSAGES)
    await register(world, "content", "t1")
    tab = world.page()
    tab.join("content", "t1", ack=1)
    tab.emit("message", {"type": "chat"}, ack=2)
    assert errors(tab) == {1: "unauthorized", 2: "unauthorized"}
    assert (world.cms.asked, world.engine.named("content_claim")) == ([], [])


# --- Both dialects ---------------------------------------------------------------------------


async def test_a_native_publication_reaches_a_page(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    data = b'{"z": 1.10, "a": 123456789012345678901234567890, "e": "\\u00e9/\\/"}'
    tags = {"callback": "show", "channel": "mine", "data": "theirs", "n": "1"}
    await world.node.backend.publish("a", data, tags=tags)
    await world.node.backend.publish("a", b"null")
    assert tab.packets[2:] == [
        '2["message",{"channel":"a","data":' + data.decode() + ',"callback":"show","n":"1"}]',
        '2["message",{"channel":"a","data":null}]',
    ]


async def test_a_posted_message_reaches_both_dialects(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    native = world.user("9", channels=["a"])
    await post(
        world,
        '{"broadcast":false,"data":{"z":1.10,"a":"\\u00e9","big":123456789012345678901234567890},'
        '"callback":["one","two"],"channel":"a","clientSocketId":"","type":"x\\u00e9","n":1.10}',
    )
    assert tab.packets[2:] == [
        '2["message",{"broadcast":false,"data":{"z":1.10,"a":"\\u00e9",'
        '"big":123456789012345678901234567890},"callback":["one","two"],"channel":"a",'
        '"clientSocketId":"","type":"x\\u00e9","n":1.10}]'
    ]
    [push] = [json.loads(frame)["push"] for frame in native.transport.sent[1:]]
    assert (
        b'"data":{"z":1.10,"a":"\\u00e9","big":123456789012345678901234567890}'
        in (native.transport.sent[1])
    )
    assert push["pub"]["tags"] == {
        "broadcast": "false",
        "callback": '["one","two"]',
        "type": "xé",
        "n": "1.10",
    }


async def test_who_sent_a_message_is_not_given_it(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    sender, other = world.visitor("2", "a"), world.visitor("3", "a")
    client = sender.session.client
    sent = await post(world, f'{{"channel":"a","data":1,"clientSocketId":"{client}"}}')
    assert (sender.received("a"), other.received("a")) == ([], [1])
    assert sent.recipients == 1
