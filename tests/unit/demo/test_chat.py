"""The chat, typing, the positions in the pages, and the log of the site."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.demo.driving import NOW, POSITIONS, DemoWorld, Page, Visitor
from twisted_push.demo.chat import MAX_ENTRIES, MAX_LINES, Chat, Watchdog
from twisted_push.demo.desk import MAX_TELLING

REFUSED = {"disconnect": {"code": 3500, "reason": "invalid token"}}


async def logged_in(world: DemoWorld, user: str) -> Visitor:
    visitor = world.visitor()
    await visitor.log_in(user)
    return visitor


def fields(page: Page, name: str) -> list[str]:
    """Give what stands in the rows of a page, without the empty row that is for scripts."""
    shown = re.sub(r"<template.*?</template>", "", page.text, flags=re.DOTALL)
    found = re.findall(rf'data-field="{name}"[^>]*>([^<]*)<', shown)
    return [html.unescape(text) for text in found]


# -- The chat ---------------------------------------------------------------------------------


async def test_a_line_is_kept_and_published(world: DemoWorld) -> None:
    bob, alice = await logged_in(world, "bob"), await logged_in(world, "alice")

    answer = await bob.submit("/chat", {"text": " Hello <you>! "})

    line = {
        "type": "line",
        "id": 1,
        "user": "bob",
        "name": "Bob",
        "text": "Hello <you>!",
        "sent_at": NOW,
    }
    assert answer.json["notice"]["level"] == "good"
    assert world.push.calls == [("publish", {"channel": "chat:lobby", "data": line})]
    assert (await alice.ask_json("/chat.json")).json == {"lines": [line]}
    assert fields(await alice.get("/"), "text") == ["Hello <you>!"]


async def test_whose_line_it_is_depends_on_who_looks(world: DemoWorld) -> None:
    bob, alice = await logged_in(world, "bob"), await logged_in(world, "alice")

    await bob.submit("/chat", {"text": "Hello"})

    assert 'data-line="1" data-whose="mine"' in (await bob.get("/")).text
    assert 'data-line="1" data-whose="theirs"' in (await alice.get("/")).text


async def test_a_plain_form_leads_back_to_the_chat(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")

    answer = await bob.post("/chat", {"text": "Hello"})

    assert (answer.status, answer.header("Location")) == (303, "/#chat")


@pytest.mark.parametrize("text", ["", "  ", "x" * 501])
async def test_a_line_that_cannot_be_is_refused(world: DemoWorld, text: str) -> None:
    bob = await logged_in(world, "bob")

    assert (await bob.submit("/chat", {"text": text})).status == 422
    assert world.push.calls == []
    assert (await bob.ask_json("/chat.json")).json == {"lines": []}


async def test_strangers_neither_talk_nor_listen(world: DemoWorld) -> None:
    stranger = world.visitor()
    stranger.csrf = (await stranger.get("/")).csrf

    assert (await stranger.submit("/chat", {"text": "Hello"})).status == 403
    assert (await stranger.ask_json("/chat.json")).status == 403
    assert world.push.calls == []


async def test_without_a_push_server_a_line_is_kept_and_the_page_says_so(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")
    world.road.state = "closed"

    answer = await bob.submit("/chat", {"text": "Hello"})

    assert answer.json["notice"]["level"] == "warning"
    assert "the push server did not answer" in answer.json["notice"]["text"]
    assert len((await bob.ask_json("/chat.json")).json["lines"]) == 1


def test_the_oldest_lines_and_entries_go() -> None:
    chat, watchdog = Chat(), Watchdog()
    for number in range(MAX_LINES + MAX_ENTRIES):
        chat.say(user="bob", name="Bob", text=str(number), now=NOW)
        watchdog.note(level="info", kind="access", who="Bob", text=str(number), now=NOW)

    assert len(chat.lines) == MAX_LINES
    assert len(watchdog.entries) == MAX_ENTRIES
    assert chat.lines[-1].id == watchdog.entries[-1].id == MAX_LINES + MAX_ENTRIES


# -- Typing -----------------------------------------------------------------------------------


async def mark_of(world: DemoWorld, visitor: Visitor) -> str:
    """Give what the push server was told for a session."""
    token = (await visitor.get("/")).token
    answer = await world.ask_callback({"token": token})
    mark: str = answer.json["result"]["meta"]["session"]
    return mark


async def call(world: DemoWorld, mark: object, method: str = "typing", **more: object) -> Page:
    question = {"client": "c-1", "user": "alice", "method": method, "meta": {"session": mark}}
    return await world.ask_callback({**question, **more}, "/push/rpc")


async def test_the_others_are_told_of_typing_and_it_is_not_kept(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")

    answer = await call(world, await mark_of(world, bob))

    # The session says who it is, whatever the question says.
    assert answer.json == {"result": {}}
    typing = {"type": "typing", "user": "bob", "name": "Bob"}
    assert world.push.calls == [
        ("publish", {"channel": "chat:lobby", "data": typing, "skip_history": True})
    ]


async def test_typing_is_told_once_a_second(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")
    mark = await mark_of(world, bob)

    for _ in range(5):
        assert (await call(world, mark)).json == {"result": {}}
    assert len(world.push.calls) == 1
    world.clock.advance(1)
    await call(world, mark)
    assert len(world.push.calls) == 2
    # Who has just said something, and types again, is told of at once.
    await bob.submit("/chat", {"text": "Hello"})
    await call(world, mark)
    assert len(world.push.calls) == 4


@pytest.mark.parametrize("mark", ["", "0" * 64, None, 7, ["x"], "é" * 64, "\ud800"])
async def test_a_call_that_belongs_to_no_session_is_refused(world: DemoWorld, mark: object) -> None:
    await logged_in(world, "bob")

    assert (await call(world, mark)).json == REFUSED
    assert (await call(world, mark, meta=None)).json == REFUSED
    assert world.push.calls == []


async def test_what_a_page_knows_is_no_mark(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")

    assert (await call(world, (await bob.get("/")).token)).json == REFUSED
    assert (await call(world, bob.csrf)).json == REFUSED
    assert (await call(world, bob.cookie)).json == REFUSED
    # Nor is a mark a token, or a cookie.
    mark = await mark_of(world, bob)
    assert (await world.ask_callback({"token": mark})).json == REFUSED


async def test_after_a_logout_nothing_can_be_called(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")
    mark = await mark_of(world, bob)
    await bob.post("/logout", {})

    assert (await call(world, mark)).json == REFUSED


async def test_an_unknown_call_has_an_error_of_its_own(world: DemoWorld) -> None:
    bob = await logged_in(world, "bob")

    answer = await call(world, await mark_of(world, bob), "format")

    assert answer.json == {"error": {"code": 4004, "message": "no such call"}}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_what_is_no_call_is_answered_with_400(world: DemoWorld, body: bytes) -> None:
    assert (await world.ask_callback(body, "/push/rpc")).status == 400


# -- Positions --------------------------------------------------------------------------------


def positions(page: Page) -> Any:
    found = re.search(r'data-push-positions="([^"]*)"', page.text)
    assert found
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("path", ["/", "/people", "/log"])
async def test_a_page_has_the_positions_of_its_channels(world: DemoWorld, path: str) -> None:
    alice = await logged_in(world, "alice")

    page = await alice.get(path)

    assert positions(page) == POSITIONS
    assert world.push.asked[-1] == [
        "article:1",
        "chat:lobby",
        "user:alice",
        "watchdog",
        "broadcast",
    ]


@pytest.mark.parametrize("answer", [{"result": {}}, {"result": {"positions": []}}, {"error": 1}])
async def test_without_positions_there_is_a_page(world: DemoWorld, answer: Any) -> None:
    alice = await logged_in(world, "alice")
    world.push.will_answer("position", answer)

    assert positions(await alice.get("/")) == {}
    world.road.state = "closed"
    assert positions(await alice.get("/")) == {}


async def test_a_page_waits_for_its_positions_for_a_second(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "endless"

    loading = Deferred.fromCoroutine(alice.get("/"))
    world.clock.advance(0.9)
    world.http.flush()
    assert not loading.called
    world.clock.advance(0.1)
    world.http.flush()

    assert positions(await loading) == {}


# -- The log of the site ----------------------------------------------------------------------


def said(entry: Any) -> str:
    return f"{entry['level']}: {entry['who']} {entry['text']}"


async def test_what_happens_is_in_the_log_and_published(world: DemoWorld) -> None:
    alice, bob = await logged_in(world, "alice"), await logged_in(world, "bob")

    await alice.submit("/article", {"title": "News", "body": "Text."})
    await bob.submit("/message", {"message": "x", "to": "alice"})
    await bob.submit("/chat", {"text": "y"})
    await bob.submit("/kick", {"user": "alice"})
    await alice.submit("/kick", {"user": "bob"})
    await bob.post("/logout", {})

    assert [said(entry) for entry in world.push.log] == [
        "info: Alice logged in.",
        "info: Bob logged in.",
        "info: Alice saved “News”.",
        "info: Bob sent a notice to Alice.",
        "info: Bob said something in the chat.",
        "warning: Bob was refused at /kick: Only an administrator may do that.",
        "notice: Alice kicked Bob.",
        "info: Bob logged out.",
    ]
    assert (await alice.ask_json("/log.json")).json == {"entries": world.push.log}
    newest_first = fields(await alice.get("/log"), "text")
    assert newest_first == [entry["text"] for entry in reversed(world.push.log)]


async def test_what_strangers_try_is_in_the_log(world: DemoWorld) -> None:
    stranger = world.visitor()
    stranger.csrf = (await stranger.get("/")).csrf

    await stranger.submit("/kick", {"user": "alice"})
    await stranger.submit("/login", {"user": "alice", "csrf": "0" * 64})
    await world.ask_callback({"token": "forged"})

    assert [said(entry) for entry in world.push.log] == [
        "warning: Somebody was refused at /kick: Please log in first.",
        "warning: Somebody was refused at /login: This form is out of date. Go back, reload the "
        "page, and try again.",
        "warning: Somebody came with a token of no session.",
    ]


@pytest.mark.parametrize("path", ["/log", "/log.json"])
async def test_only_the_administrator_may_read_the_log(world: DemoWorld, path: str) -> None:
    bob = await logged_in(world, "bob")

    assert (await bob.get(path)).status == 403
    assert (await world.visitor().get(path)).status == 403


async def test_a_push_server_that_is_away_is_in_the_log(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "closed"

    await alice.submit("/chat", {"text": "Hello"})

    assert fields(await alice.get("/log"), "text")[0] == (
        "could not publish to chat:lobby: the push server did not answer."
    )


async def test_the_log_waits_for_a_slow_push_server_within_bounds(world: DemoWorld) -> None:
    alice = await logged_in(world, "alice")
    world.road.state = "endless"

    for _ in range(3 * MAX_TELLING):
        await world.ask_callback({"token": "forged"})

    assert world.road.waiting == MAX_TELLING
    world.clock.advance(5)  # They are given up.
    world.road.state = "open"
    await world.ask_callback({"token": "forged"})
    assert len(world.push.log) == 2
    assert len((await alice.ask_json("/log.json")).json["entries"]) == 3 * MAX_TELLING + 2
