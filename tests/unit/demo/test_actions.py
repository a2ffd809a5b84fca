"""Saving, messages, kicks, and what happens when the push server is away."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.demo.driving import KEY, NOW, DemoWorld, Visitor

CONNECTIONS = [
    {
        "client": "c-1",
        "user": "alice",
        "channels": ["article:1", "user:alice", "broadcast"],
        "transport": "websocket",
        "connected_since": NOW - 60,
    },
    {"client": "c-2", "user": "bob", "channels": {"article:1": {}}, "connected_since": "soon"},
    {"client": "c-3", "user": "bob", "channels": None, "connected_since": 1e300},
    {"user": "carol", "transport": 7},
    {},
    "nonsense",
]


async def logged_in(world: DemoWorld, user: str) -> Visitor:
    visitor = world.visitor()
    await visitor.log_in(user)
    return visitor


# -- The article ------------------------------------------------------------------------------


async def test_saving_publishes_exactly_the_article(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")

    answer = await alice.submit("/article", {"title": "News", "body": "One.\r\n\r\nTwo ☃."})

    assert answer.status == 200
    assert answer.json["notice"]["level"] == "good"
    assert world.push.calls == [
        (
            "publish",
            {
                "channel": "article:1",
                "data": {
                    "title": "News",
                    "body": "One.\n\nTwo ☃.",
                    "author": "Alice",
                    "saved_at": NOW,
                },
            },
        )
    ]


async def test_the_api_is_called_with_the_key_and_as_json(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")

    await alice.submit("/article", {"title": "News", "body": "Text."})

    (headers,) = world.push.headers
    assert headers.getRawHeaders("X-API-Key") == [KEY]
    assert headers.getRawHeaders("Content-Type") == ["application/json"]


async def test_a_saved_article_is_what_everybody_reads(world: DemoWorld) -> None:
    alice, bob = await logged_in(world, "alice"), await logged_in(world, "bob")

    await alice.submit("/article", {"title": "News", "body": "One.\n\nTwo."})

    page = await bob.get("/")
    assert '<h1 id="article-title">News</h1>' in page.text
    assert "<p>One.</p>" in page.text
    assert (await bob.ask_json("/article.json")).json == {
        "title": "News",
        "body": "One.\n\nTwo.",
        "author": "Alice",
        "saved_at": NOW,
    }


async def test_a_plain_form_leads_back_to_the_page_which_says_once_what_happened(
    world: DemoWorld,
) -> None:
    alice = await logged_in(world, "alice")

    answer = await alice.post("/article", {"title": "News", "body": "Text."})

    assert answer.status == 303
    assert answer.header("Location") == "/"
    assert "every open page was told" in (await alice.get("/")).text
    assert "every open page was told" not in (await alice.get("/")).text


async def test_only_an_editor_may_save(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")

    answer = await bob.submit("/article", {"title": "News", "body": "Text."})

    assert answer.status == 403
    assert world.push.calls == []
    assert (await bob.ask_json("/article.json")).json["title"] != "News"
    assert 'action="/article"' not in (await bob.get("/")).text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"title": "", "body": "x"}, 422),
        ({"title": "  \n ", "body": "x"}, 422),
        ({"title": "x"}, 422),
        ({"title": "x" * 161, "body": "x"}, 422),
        ({"title": "x", "body": "x" * 20_001}, 422),
        ({"title": "x\x00", "body": "x"}, 400),
    ],
)
async def test_an_article_that_cannot_be_is_refused(
    world: DemoWorld, fields: dict[str, str], status: int
) -> None:
    alice = await logged_in(world, "alice")

    answer = await alice.submit("/article", fields)

    assert answer.status == status
    assert answer.json["notice"]["level"] == "bad"
    assert world.push.calls == []


async def test_without_a_push_server_the_article_is_saved_and_the_page_says_so(
    world: DemoWorld,
) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "closed"

    answer = await alice.submit("/article", {"title": "News", "body": "Text."})

    assert answer.status == 200
    assert answer.json["notice"]["level"] == "warning"
    assert "Saved, but the push server did not answer" in answer.json["notice"]["text"]
    assert "News" in (await alice.get("/")).text


async def test_a_push_server_that_never_answers_is_given_up(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "endless"

    saving = Deferred.fromCoroutine(alice.submit("/article", {"title": "News", "body": "Text."}))
    world.clock.advance(4.9)
    world.http.flush()
    assert not saving.called
    world.clock.advance(0.1)
    world.http.flush()

    assert "the push server did not answer" in (await saving).json["notice"]["text"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b'{"error": {"code": 102, "message": "unknown channel"}}', "unknown channel, 102"),
        (401, b"", "refused (HTTP status, 401)"),
        (503, b"busy", "did not answer"),
        (200, b"", "did not answer"),
        (200, b"[]", "did not answer"),
        (200, b'{"result": 1}', "did not answer"),
        (200, b"[" * 100_000, "did not answer"),
    ],
)
async def test_what_the_push_server_answers_instead_is_told(
    world: DemoWorld, status: int, body: bytes, words: str
) -> None:
    alice = await logged_in(world, "alice")
    world.push.answers["publish"] = (status, body)

    answer = await alice.submit("/article", {"title": "News", "body": "Text."})

    assert words in answer.json["notice"]["text"]
    assert answer.json["notice"]["level"] == "warning"


# -- Messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "name"), [("alice", "Alice"), ("bob", "Bob")])
async def test_a_message_goes_to_everybody(world: DemoWorld, user: str, name: str) -> None:
    visitor = await logged_in(world, user)

    answer = await visitor.submit("/message", {"message": " Hello! "})

    assert answer.json["notice"] == {"level": "good", "text": "Sent to everybody."}
    assert world.push.calls == [
        (
            "publish",
            {
                "channel": "broadcast",
                "data": {"text": "Hello!", "author": name, "sent_at": NOW},
            },
        )
    ]


async def test_a_message_can_go_to_one_user(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")

    await alice.submit("/message", {"message": "Psst", "to": "bob"})

    ((method, body),) = world.push.calls
    assert (method, body["channel"]) == ("publish", "user:bob")


@pytest.mark.parametrize(
    "fields",
    [
        {"message": ""},
        {"message": "x" * 501},
        {"message": "x", "to": "eve"},
        {"message": "x", "to": "bob:secret"},
    ],
)
async def test_a_message_that_cannot_be_is_refused(
    world: DemoWorld, fields: dict[str, str]
) -> None:
    bob = await logged_in(world, "bob")

    assert (await bob.submit("/message", fields)).status == 422
    assert world.push.calls == []


async def test_a_message_that_was_not_sent_is_not_called_sent(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")
    world.road.state = "closed"

    answer = await bob.submit("/message", {"message": "x"})

    assert answer.status == 502
    assert answer.json["notice"]["text"] == "Not sent: the push server did not answer."


# -- The administrator ------------------------------------------------------------------------


async def test_a_kick_disconnects_the_user(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")

    answer = await alice.submit("/kick", {"user": "bob"})

    assert answer.json["notice"] == {"level": "good", "text": "Bob was disconnected."}
    assert world.push.calls == [("disconnect", {"user": "bob"})]


async def test_a_kick_by_a_plain_form_leads_back_to_the_list(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")

    answer = await alice.post("/kick", {"user": "bob"})

    assert (answer.status, answer.header("Location")) == (303, "/people")
    assert "Bob was disconnected." in (await alice.get("/people")).text


@pytest.mark.parametrize("path", ["/people", "/people.json"])
async def test_only_the_administrator_may_see_who_is_connected(world: DemoWorld, path: str) -> None:
    bob = await logged_in(world, "bob")

    assert (await bob.get(path)).status == 403
    assert (await world.visitor().get(path)).status == 403
    assert world.push.calls == []


async def test_only_the_administrator_may_kick(world: DemoWorld) -> None:
    bob, stranger = await logged_in(world, "bob"), world.visitor()
    stranger.csrf = (await stranger.get("/")).csrf

    assert (await bob.submit("/kick", {"user": "alice"})).status == 403
    assert (await stranger.submit("/kick", {"user": "alice"})).status == 403
    assert world.push.calls == []
    assert "Kick" not in (await bob.get("/")).text


async def test_a_kick_that_failed_is_told(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.push.will_answer("disconnect", {"error": {"code": 103, "message": "permission denied"}})

    answer = await alice.submit("/kick", {"user": "bob"})

    assert answer.status == 502
    assert "permission denied, 103" in answer.json["notice"]["text"]


async def test_the_list_counts_the_connections_of_each_user(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.push.will_answer("connections", {"result": {"connections": CONNECTIONS}})

    document = (await alice.ask_json("/people.json")).json

    assert world.push.calls == [("connections", {})]
    assert document["users"] == [
        {"user": "alice", "name": "Alice", "connections": 1},
        {"user": "bob", "name": "Bob", "connections": 2},
        {"user": "carol", "name": "carol", "connections": 1},
        {"user": "", "name": "Anonymous", "connections": 1},
    ]
    first, second, third, *_ = document["connections"]
    assert first == {**CONNECTIONS[0], "name": "Alice"}  # type: ignore[dict-item]
    assert second["channels"] == ["article:1"]
    assert second["connected_since"] is None
    assert (third["channels"], third["connected_since"]) == ([], None)


async def test_the_list_is_a_page_too(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.push.will_answer("connections", {"result": {"connections": CONNECTIONS}})

    page = await alice.get("/people")

    assert page.status == 200
    assert "2 connections" in page.text
    assert "article:1, user:alice, broadcast" in page.text
    assert 'action="/kick"' in page.text


@pytest.mark.parametrize("result", [{}, {"connections": None}, {"connections": {}}])
async def test_an_empty_list_is_no_trouble(world: DemoWorld, result: Any) -> None:
    alice = await logged_in(world, "alice")
    world.push.will_answer("connections", {"result": result})

    document = (await alice.ask_json("/people.json")).json

    assert document["connections"] == []


async def test_the_list_says_when_the_push_server_does_not_answer(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "closed"

    page = await alice.get("/people")
    document = await alice.ask_json("/people.json")

    assert page.status == 200
    assert "the push server did not answer" in page.text
    assert document.status == 502
    assert "the push server did not answer" in document.json["notice"]["text"]
