"""What stood still or fell over in the original server, and does not here.

The list of its defects: the specification of Drupal's module, section 11.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit import nodejs_support as support
from tests.unit.nodejs_support import (
    KEY,
    MESSAGES,
    PASSWORD_HASH,
    ConnectWorld,
    NodejsTab,
    NodejsWorld,
    errors,
    register,
    run,
)
from twisted_push.errors import Disconnect
from twisted_push.node.targets import Target

make_world = support.make_world

Worlds = Any

KILLERS = [
    '2["authenticate"]',
    '2["authenticate",null]',
    '2["authenticate",{}]',
    '2["authenticate",[]]',
    '2["authenticate",5]',
    '2["authenticate","text"]',
    '2["authenticate",{"authToken":null}]',
    '2["authenticate",{"authToken":5}]',
    '2["authenticate",{"authToken":["a"]}]',
    '2["authenticate",{"authToken":{"a":1}}]',
    '2["authenticate",{"authToken":"__proto__"}]',
    '2["authenticate",{"authToken":"constructor"}]',
    '2["authenticate",{"authToken":"t","contentTokens":7}]',
    '2["authenticate",{"authToken":"t","contentTokens":{"__proto__":{"a":1}}}]',
]


@pytest.mark.parametrize("packet", KILLERS)
@pytest.mark.parametrize("revision", [4, 5])
async def test_one_frame_kills_the_server(make_world: Worlds, packet: str, revision: int) -> None:
    world: NodejsWorld = await make_world()
    other = world.visitor("3", "a")
    tab = world.page(revision)
    tab.raw(packet.replace("2[", "21[", 1))
    assert tab.code in (3500, 3501)
    assert tab.stays_away
    assert list(errors(tab)) == [1]
    await world.publish("a", 1)
    assert other.received("a") == [1]


@pytest.mark.parametrize("packet", KILLERS[:10])
async def test_one_frame_of_an_authenticated_client_kills_the_server(
    make_world: Worlds, packet: str
) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2")
    tab.raw(packet)
    assert tab.code == 3501


@pytest.mark.parametrize(
    "argument",
    [
        [],
        [None],
        [1],
        ["a"],
        [[]],
        [{}],
        [{"channel": "__proto__", "contentToken": "__proto__"}],
        [{"channel": "constructor", "contentToken": "x"}],
        [{"channel": None, "contentToken": None}],
        [{"channel": "a", "contentToken": {"a": 1}}],
        [{"channel": "a", "contentToken": "x" * 10000}],
    ],
)
async def test_one_join_kills_the_server(make_world: Worlds, argument: list[object]) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2")
    tab.emit("join-token-channel", *argument, ack=1)
    assert list(errors(tab)) == [1]
    assert tab.code is None


async def test_two_refused_attempts_kill_the_server(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.page()
    tab.authenticate("bad")
    tab.authenticate("bad")
    assert tab.code == 3500
    assert len(world.drupal.said) == 1


async def test_anonymous_visitors_that_are_refused_when_they_have_left(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    world.drupal.holding = True
    gone, there = world.page(), world.page()
    gone.authenticate("bad")
    there.authenticate("bad")
    gone.leave()
    assert world.cms.open == 1
    world.drupal.release()
    assert (gone.code, there.code) == (None, 3500)
    assert gone.transport.ignored == 0


@pytest.mark.parametrize("uid", ["0", "2"])
async def test_service_key_and_account_are_never_sent(make_world: Worlds, uid: str) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor(uid, "a")
    assert list(tab.authenticated) == [
        "uid",
        "authToken",
        "nodejsValidAuthToken",
        "clientId",
        "channels",
        "presenceUids",
        "contentTokens",
    ]
    for secret in (KEY, PASSWORD_HASH, "pass", "mail", "example.com", "serviceKey"):
        assert secret not in "".join(tab.packets)


async def test_logout_works_in_every_tab(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tabs = [world.visitor("2", "nodejs_user_2"), world.page_of("token-of-2")]
    other = world.visitor("3", "a")
    await world.node.backend.logout(token="token-of-2")
    assert [tab.code for tab in tabs] == [3500, 3500]
    assert all(tab.stays_away for tab in tabs)
    await world.publish("nodejs_user_2", "private")
    assert tabs[0].received("nodejs_user_2") == []
    again = world.page()
    again.authenticate("token-of-2")
    assert (again.code, other.code) == (3500, None)


async def test_logout_beats_an_answer_that_is_on_its_way(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2", "nodejs_user_2")
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate(token)
    await world.node.backend.logout(token=token)
    world.drupal.release()
    assert (tab.code, tab.authenticated) == (3500, None)


async def test_kick_closes_for_good(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    tab = world.visitor("2", "a")
    await world.node.backend.disconnect(Target(user="2"), Disconnect(3503))
    assert [each.type for each in tab.new()] == [2, 1]
    assert tab.messages[-1] == {
        "callback": "clientDisconnected",
        "data": {"code": 3503, "reason": "force disconnect", "reconnect": False},
    }
    assert tab.code == 3503
    await world.publish("a", 1)
    assert tab.received("a") == []


async def test_content_tokens_work_again_after_a_reconnect(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    await register(world, "content", "t1")
    tokens: Mapping[str, str] = {"content": "t1"}
    tab = world.page_of(world.drupal.account("2"), contentTokens=tokens)
    early = world.page_of("token-of-2", contentTokens=tokens)
    tab.leave()
    early.leave()
    world.advance(60)
    again = world.page_of("token-of-2", contentTokens=tokens)
    assert again.authenticated["contentTokens"] == tokens
    await world.publish("content", 1)
    assert again.received("content") == [1]


@pytest.mark.parametrize("code", [301, 403, 404, 500, 503])
async def test_an_outage_of_the_cms_strands_nobody(make_world: Worlds, code: int) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2", "a")
    world.cms.code = code
    tab = world.page()
    tab.authenticate(token, ack=1)
    assert (tab.code, tab.stays_away, tab.acks) == (3004, False, {})
    world.cms.code = 200
    assert world.page_of(token).authenticated["uid"] == "2"


@pytest.mark.parametrize("answer", [b"<html>", b"null", b"[]", b"{}", b'{"error":"Boo"}'])
async def test_nonsense_of_the_cms_strands_nobody(make_world: Worlds, answer: bytes) -> None:
    world: NodejsWorld = await make_world(ConnectWorld)
    world.cms.answer = answer
    tab = world.page()
    tab.authenticate("t", ack=1)
    assert (tab.code, tab.stays_away, tab.acks) == (3004, False, {})


async def test_a_hung_cms_is_not_waited_for_for_ever(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    world.drupal.holding = True
    tab = world.page()
    tab.authenticate("t")
    world.advance(4.75)
    assert tab.code is None
    world.advance(0.5)
    assert tab.code == 3004
    assert not tab.stays_away


async def test_many_tabs_ask_one_question(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    token = world.drupal.account("2", "a")
    world.drupal.holding = True
    tabs = [world.page(4 + number % 2) for number in range(50)]
    for tab in tabs:
        tab.authenticate(token)
    assert len(world.drupal.said) == 1
    world.drupal.release()
    assert [tab.authenticated["uid"] for tab in tabs] == ["2"] * 50
    assert {tab.authenticated["clientId"] for tab in tabs} == {tab.socket_id for tab in tabs}


async def test_presence_is_told_to_the_right_people(make_world: Worlds) -> None:
    world: NodejsWorld = await make_world()
    bob, stranger = world.visitor("3"), world.visitor("4")
    alice = world.visitor("2", presenceUids={"0": "3", "5": 1})
    online = {"presenceNotification": {"uid": "2", "event": "online"}}
    assert bob.messages[1:] == [online]
    alice.leave()
    world.advance(3)
    offline = {"presenceNotification": {"uid": "2", "event": "offline"}}
    assert bob.messages[1:] == [online, offline]
    assert (stranger.messages[1:], alice.messages[1:]) == ([], [])


# --- Whatever comes --------------------------------------------------------------------------

names = st.sampled_from(["authenticate", "join-token-channel", "message", "other"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "t", "good", "content"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["authToken", "contentTokens", "content", "channel", "contentToken", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
events = st.builds(
    lambda id, name, args: f"2{id}{json.dumps([name, *args])}".encode(),
    st.sampled_from(["", "0", "17"]),
    names,
    st.lists(values, max_size=2),
)
good = st.sampled_from(
    [
        b"0",
        b"1",
        b'21["authenticate",{"authToken":"good","contentTokens":{"content":"t"}}]',
        b'22["join-token-channel",{"channel":"content","contentToken":"t"}]',
        b'23["message",{"type":"chat"}]',
    ]
)


@given(
    revision=st.sampled_from([4, 5]),
    packets=st.lists(good | events | st.binary(max_size=20), max_size=12),
    hold=st.booleans(),
)
@example(revision=5, packets=[b"0", b"0"], hold=False)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_client_sends_nobody_else_notices(
    revision: int, packets: list[bytes], hold: bool
) -> None:
    world = NodejsWorld(callback=MESSAGES)
    run(world.start())
    run(world.node.content.register("content", "t"))
    world.drupal.account("2", "a", token="good")
    other = world.visitor("3", "a")
    world.drupal.holding = hold
    tab = NodejsTab(world, revision)
    for packet in packets:
        tab.session.received(packet)
        if hold and world.cms.open:
            world.drupal.release()
    run(world.publish("a", 1))
    assert other.received("a") == [1]
    assert other.code is None
    acked = [each.id for each in tab.everything if each.type == 3]
    asked = [packet for packet in packets if packet[:1] == b"2"]
    assert len(acked) <= len(asked)
    run(world.end())
