"""Logging in and out, cookies, tokens, and the connect callback."""

from __future__ import annotations

import pytest

from tests.unit.demo.driving import DemoWorld
from twisted_push.demo.state import MAX_SESSIONS, USERS, Sessions

REFUSED = {"disconnect": {"code": 3500, "reason": "invalid token"}}


def question(token: object) -> dict[str, object]:
    return {
        "client": "c-1",
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "token": token,
    }


async def test_the_first_page_offers_both_users_and_says_that_there_is_no_password(
    world: DemoWorld,
) -> None:
    page = await world.visitor().get("/")

    assert page.status == 200
    assert 'name="user" value="alice"' in page.text
    assert 'name="user" value="bob"' in page.text
    assert "no passwords" in page.text
    assert "data-push-token" not in page.text


async def test_logging_in_sets_a_new_cookie_that_scripts_cannot_read(world: DemoWorld) -> None:
    visitor = world.visitor()
    visitor.csrf = (await visitor.get("/")).csrf
    before = visitor.cookie

    answer = await visitor.post("/login", {"user": "alice"})

    assert answer.status == 303
    assert answer.header("Location") == "/"
    name_and_value, *attributes = answer.set_cookie.split("; ")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax"]
    assert name_and_value == f"twisted_push_demo={visitor.cookie}"
    assert visitor.cookie != before
    assert len(visitor.cookie) >= 43


async def test_the_cookie_from_before_the_login_is_no_session(world: DemoWorld) -> None:
    visitor, thief = world.visitor(), world.visitor()
    visitor.csrf = (await visitor.get("/")).csrf
    thief.cookie = visitor.cookie
    await visitor.post("/login", {"user": "alice"})

    page = await thief.get("/")

    assert "Choose who you want to be" in page.text


async def test_the_page_carries_a_token_that_is_not_the_session(world: DemoWorld) -> None:
    visitor = world.visitor()

    page = await visitor.log_in("alice")

    assert '<script src="http://127.0.0.1:8080/push.js" defer></script>' in page.text
    assert len(page.token) == 64
    assert page.token != page.csrf
    assert visitor.cookie not in page.text


async def test_a_token_is_no_cookie(world: DemoWorld) -> None:
    visitor, thief = world.visitor(), world.visitor()
    thief.cookie = (await visitor.log_in("alice")).token

    page = await thief.get("/")

    assert "Choose who you want to be" in page.text


async def test_two_processes_derive_different_tokens() -> None:
    one, other = Sessions(), Sessions()
    session, _ = one.open(USERS["alice"])

    assert one.by_token(session.token) is session
    assert other.by_token(session.token) is None
    assert one.csrf_token(session.id) != other.csrf_token(session.id)


@pytest.mark.parametrize("user", ["", "eve", "Alice", "__proto__"])
async def test_nobody_else_can_log_in(world: DemoWorld, user: str) -> None:
    visitor = world.visitor()
    visitor.csrf = (await visitor.get("/")).csrf

    answer = await visitor.post("/login", {"user": user})

    assert answer.status == 422


async def test_the_callback_tells_who_a_token_belongs_to(world: DemoWorld) -> None:
    alice = await world.visitor().log_in("alice")
    bob = await world.visitor().log_in("bob")

    answer = await world.ask_callback(question(alice.token))

    assert answer.status == 200
    mark = answer.json["result"]["meta"]["session"]
    assert answer.json == {
        "result": {
            "user": "alice",
            "info": {"name": "Alice"},
            "channels": ["article:1", "chat:lobby", "user:alice", "watchdog"],
            "presence_to": ["bob"],
            "meta": {"session": mark},
        }
    }
    assert len(mark) == 64
    assert mark not in alice.text
    grant = (await world.ask_callback(question(bob.token))).json["result"]
    assert (grant["user"], grant["presence_to"]) == ("bob", ["alice"])
    assert grant["channels"] == ["article:1", "chat:lobby", "user:bob"]


@pytest.mark.parametrize("token", ["", "0" * 64, None, 7, ["x"], {"a": 1}, "é" * 64, "\ud800"])
async def test_the_callback_refuses_a_token_that_it_does_not_know(
    world: DemoWorld, token: object
) -> None:
    answer = await world.ask_callback(question(token))

    assert answer.status == 200
    assert answer.json == REFUSED


async def test_the_callback_does_not_take_the_session_id_for_a_token(world: DemoWorld) -> None:
    visitor = world.visitor()
    await visitor.log_in("alice")

    assert (await world.ask_callback(question(visitor.cookie))).json == REFUSED


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 60_000])
async def test_the_callback_answers_nonsense_with_400(world: DemoWorld, body: bytes) -> None:
    assert (await world.ask_callback(body)).status == 400


async def test_the_callback_takes_posted_json_only(world: DemoWorld) -> None:
    visitor = world.visitor()

    assert (await visitor.get("/push/connect")).status == 405
    form = await visitor.request("POST", "/push/connect", b"{}", {"Content-Type": "text/plain"})
    assert form.status == 415


async def test_the_callback_may_be_asked_under_any_host_name(world: DemoWorld) -> None:
    answer = await world.visitor().request(
        "POST", "http://demo:8090/push/connect", b"{}", {"Content-Type": "application/json"}
    )

    assert answer.json == REFUSED


async def test_logging_out_ends_the_token_here_and_at_the_push_server(world: DemoWorld) -> None:
    visitor = world.visitor()
    token = (await visitor.log_in("bob")).token

    answer = await visitor.post("/logout", {})

    assert answer.status == 303
    assert answer.header("Location") == "/"
    assert "Max-Age=0" in answer.set_cookie
    assert world.push.calls == [("logout", {"token": token})]
    assert (await world.ask_callback(question(token))).json == REFUSED


async def test_an_ended_session_does_not_come_back_with_its_cookie(world: DemoWorld) -> None:
    visitor, later = world.visitor(), world.visitor()
    await visitor.log_in("bob")
    later.cookie = visitor.cookie
    await visitor.post("/logout", {})

    assert (await later.get("/article.json")).status == 403
    assert "Choose who you want to be" in (await later.get("/")).text


async def test_logging_in_again_ends_the_session_before(world: DemoWorld) -> None:
    visitor = world.visitor()
    token = (await visitor.log_in("bob")).token

    await visitor.post("/login", {"user": "alice"})

    assert world.push.calls == [("logout", {"token": token})]
    assert (await world.ask_callback(question(token))).json == REFUSED


async def test_a_logout_that_the_push_server_does_not_hear_is_a_logout_all_the_same(
    world: DemoWorld,
) -> None:
    visitor = world.visitor()
    token = (await visitor.log_in("bob")).token
    world.road.state = "closed"

    answer = await visitor.post("/logout", {})

    assert answer.status == 303
    page = await visitor.get(answer.header("Location") or "")
    assert "the push server did not answer" in page.text
    assert (await world.ask_callback(question(token))).json == REFUSED


async def test_logging_out_twice_is_harmless(world: DemoWorld) -> None:
    visitor = world.visitor()
    await visitor.log_in("bob")
    first = visitor.cookie
    await visitor.post("/logout", {})
    visitor.cookie = first

    assert (await visitor.post("/logout", {})).status == 303
    assert len(world.push.calls) == 1


def test_sessions_are_bounded_and_the_oldest_makes_room() -> None:
    sessions = Sessions()
    first, evicted = sessions.open(USERS["bob"])
    assert evicted is None
    second, _ = sessions.open(USERS["bob"])
    for _ in range(MAX_SESSIONS - 2):
        sessions.open(USERS["bob"])

    _, evicted = sessions.open(USERS["bob"])

    assert evicted is first
    assert sessions.by_id(first.id) is None
    assert sessions.by_token(first.token) is None
    assert sessions.by_id(second.id) is second


def test_secrets_do_not_show_when_a_session_is_printed() -> None:
    sessions = Sessions()
    session, _ = sessions.open(USERS["bob"])

    assert session.id not in repr(session)
    assert session.token not in repr(session)
    assert session.mark not in repr(session)
    assert session.token not in repr(sessions)
