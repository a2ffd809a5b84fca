"""Forged forms, foreign names, large bodies, hostile text, headers, and what is logged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.unit.demo.driving import KEY, ORIGIN, DemoWorld
from twisted_push.demo.pages import PushAddress

HOSTILE = "<script>alert(1)</script>\"'&$title"
PUSH_SCRIPT = "http://127.0.0.1:8080/push.js"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;$title"

FORMS = [
    ("/login", {"user": "bob"}),
    ("/logout", {}),
    ("/article", {"title": "x", "body": "y"}),
    ("/message", {"message": "x"}),
    ("/chat", {"text": "x"}),
    ("/kick", {"user": "bob"}),
]


# -- Forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "fields"), FORMS)
@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
async def test_a_form_without_our_token_is_refused(
    world: DemoWorld, path: str, fields: dict[str, str], csrf: str
) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    answer = await alice.submit(path, {**fields, "csrf": csrf})

    assert answer.status == 403
    assert world.push.calls == []
    assert "data-push-token" in (await alice.get("/")).text, "still logged in"


@pytest.mark.parametrize(("path", "fields"), FORMS)
@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "", "http://localhost", "http://localhost:8090.evil"]
)
async def test_a_form_from_another_site_is_refused(
    world: DemoWorld, path: str, fields: dict[str, str], origin: str
) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    answer = await alice.post(path, fields, {"Origin": origin})

    assert answer.status == 403
    assert world.push.calls == []


async def test_the_token_of_one_session_does_not_fit_another(world: DemoWorld) -> None:
    alice, bob = world.visitor(), world.visitor()
    await alice.log_in("alice")
    await bob.log_in("bob")
    alice.csrf = bob.csrf

    assert (await alice.submit("/kick", {"user": "bob"})).status == 403


@pytest.mark.parametrize("path", [path for path, _ in FORMS])
async def test_what_changes_something_takes_post_only(world: DemoWorld, path: str) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    for method in ("GET", "PUT", "DELETE", "HEAD"):
        answer = await alice.request(method, path, headers={"Origin": ORIGIN})
        assert answer.status == 405
        assert answer.header("Allow") == "POST"
    assert world.push.calls == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"no pairs", "application/x-www-form-urlencoded", 400),
        (b"csrf=a&csrf=b", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f%d=1" % n for n in range(50)), "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
async def test_a_body_that_is_no_form_of_ours_is_refused(
    world: DemoWorld, body: bytes, content_type: str, status: int
) -> None:
    alice = world.visitor()
    await alice.log_in("alice")
    headers = {"Content-Type": content_type, "Origin": ORIGIN}

    answer = await alice.request("POST", "/message", body, headers)

    assert answer.status == status
    assert world.push.calls == []


async def test_a_foreign_host_name_is_refused(world: DemoWorld) -> None:
    visitor = world.visitor()

    assert (await visitor.get("http://rebound.test:8090/")).status == 421
    assert (await visitor.get("http://127.0.0.1.evil.test:8090/")).status == 421
    for name in ("127.0.0.1:8090", "localhost:1", "localhost"):
        assert (await visitor.get(f"http://{name}/")).status == 200


# -- Bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/message", "/push/connect", "/push/rpc", "/nowhere"])
async def test_an_oversized_body_is_refused(world: DemoWorld, path: str) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    answer = await alice.submit(path, {"message": "x" * (64 * 1024)})

    assert answer.status == 413
    assert world.push.calls == []


def post(world: DemoWorld, length: int, chunks: list[bytes]) -> StringTransport:
    transport = StringTransport()
    channel = world.site.buildProtocol(None)
    assert channel is not None
    channel.makeConnection(transport)
    channel.dataReceived(
        b"POST /push/connect HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )
    for chunk in chunks:
        channel.dataReceived(chunk)
    channel.connectionLost(Failure(ConnectionDone()))
    return transport


def test_a_body_at_the_limit_is_read(world: DemoWorld) -> None:
    body = b'{"token": "%s"}' % (b"x" * (64 * 1024 - 13))
    assert len(body) == 64 * 1024

    answer = post(world, len(body), [body[:1000], body[1000:]]).value()

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_over_the_limit_is_not_kept(world: DemoWorld) -> None:
    answer = post(world, 5 * 64 * 1024, [bytes(64 * 1024)] * 5).value()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close\r\n" in answer


def test_who_goes_on_sending_is_cut_off(world: DemoWorld) -> None:
    transport = post(world, 10**9, [bytes(64 * 1024)] * 17)

    assert transport.value() == b""
    assert transport.disconnected


# -- Text -------------------------------------------------------------------------------------


async def test_hostile_text_in_the_article_is_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    await alice.submit("/article", {"title": HOSTILE, "body": f"</textarea>{HOSTILE}"})
    page = await alice.get("/")

    assert "<script>alert" not in page.text
    assert f'<h1 id="article-title">{ESCAPED}</h1>' in page.text
    assert f'value="{ESCAPED}"' in page.text
    assert f"<p>&lt;/textarea&gt;{ESCAPED}</p>" in page.text


async def test_hostile_text_in_the_chat_is_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    await alice.submit("/chat", {"text": HOSTILE})
    page = await alice.get("/")

    assert "<script>alert" not in page.text
    assert f'data-field="text">{ESCAPED}</p>' in page.text


async def test_hostile_text_in_the_log_is_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")

    await alice.submit("/article", {"title": HOSTILE, "body": "y"})
    page = await alice.get("/log")

    assert "<script>alert" not in page.text
    assert f"saved “{ESCAPED}”." in page.text


async def test_hostile_positions_are_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")
    world.push.will_answer("position", {"result": {"positions": {"a": HOSTILE}}})

    page = await alice.get("/")

    assert "<script>alert" not in page.text


async def test_hostile_names_in_the_list_are_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")
    connection = {
        "user": HOSTILE,
        "client": HOSTILE,
        "transport": HOSTILE,
        "channels": [HOSTILE],
    }
    world.push.will_answer("connections", {"result": {"connections": [connection]}})

    page = await alice.get("/people")

    assert "<script>alert" not in page.text
    assert page.text.count(ESCAPED) >= 5


async def test_hostile_words_of_the_push_server_are_only_text(world: DemoWorld) -> None:
    alice = world.visitor()
    await alice.log_in("alice")
    world.push.will_answer("disconnect", {"error": {"code": 1, "message": HOSTILE}})

    await alice.post("/kick", {"user": "bob"})
    page = await alice.get("/people")

    assert "<script>alert" not in page.text
    assert ESCAPED in page.text


@pytest.mark.parametrize("path", ["/<script>alert(1)</script>", "/%3Cscript%3E", "/%00", "/a/../b"])
async def test_an_unknown_address_is_a_plain_404(world: DemoWorld, path: str) -> None:
    page = await world.visitor().get(path)

    assert page.status == 404
    assert "alert" not in page.text


@pytest.mark.parametrize(
    "path", ["/static/", "/static/../site.py", "/static/%2e%2e/site.py", "/static/demo.py"]
)
async def test_only_the_static_files_are_served(world: DemoWorld, path: str) -> None:
    assert (await world.visitor().get(path)).status == 404


# -- Headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/people", "/log", "/static/demo.js", "/push/connect", "/push/rpc"]
)
async def test_every_answer_carries_the_security_headers(world: DemoWorld, path: str) -> None:
    page = await world.visitor().get(path)

    policy = (page.header("Content-Security-Policy") or "").split("; ")
    assert "default-src 'self'" in policy
    assert f"script-src 'self' {PUSH_SCRIPT}" in policy
    assert "connect-src 'self' ws://127.0.0.1:8080 http://127.0.0.1:8080" in policy
    assert "frame-ancestors 'none'" in policy
    assert not any("unsafe" in part for part in policy)
    assert page.header("X-Content-Type-Options") == "nosniff"
    assert page.header("X-Frame-Options") == "DENY"
    assert page.header("Referrer-Policy") == "same-origin"


async def test_pages_are_not_stored_and_scripts_are_checked(world: DemoWorld) -> None:
    visitor = world.visitor()

    assert (await visitor.get("/")).header("Cache-Control") == "no-store"
    script = await visitor.get("/static/demo.js")
    assert script.header("Cache-Control") == "no-cache"
    assert script.header("Content-Type") == "text/javascript; charset=utf-8"
    again = await visitor.request(
        "GET", "/static/demo.js", headers={"If-None-Match": script.header("ETag") or ""}
    )
    assert (again.status, again.text) == (304, "")


async def test_head_has_no_body(world: DemoWorld) -> None:
    page = await world.visitor().request("HEAD", "/static/demo.css")

    assert (page.status, page.text) == (200, "")


async def test_the_pages_obey_their_own_policy(world: DemoWorld) -> None:
    alice = world.visitor()
    texts = [(await alice.get("/")).text, (await alice.log_in("alice")).text]
    await alice.submit("/chat", {"text": "x"})
    texts += [(await alice.get(path)).text for path in ("/", "/people", "/log", "/nowhere")]

    for text in texts:
        # Of other origins there is one script, and it is the push server's.
        text = text.replace(f'<script src="{PUSH_SCRIPT}" defer>', '<script src="/static/">')
        assert not re.search(r"<script(?![^>]* src=\"/static/)", text)
        assert not re.search(r"\s(style|on\w+)=", text)
        assert not re.search(r"(src|href|action)=\"(?!/)(?!#main)", text)


def test_the_scripts_insert_text_only() -> None:
    folder = files("twisted_push.demo") / "static"
    scripts = [entry for entry in folder.iterdir() if entry.name.endswith(".js")]
    assert len(scripts) == 8
    for each in scripts:
        script = each.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script
        )
        assert "http://" not in script
        assert "https://" not in script


@pytest.mark.parametrize(
    ("base", "script", "origins"),
    [
        ("http://a:1", "http://a:1/push.js", ("ws://a:1", "http://a:1")),
        ("https://a/push/", "https://a/push/push.js", ("wss://a", "https://a")),
    ],
)
def test_the_urls_of_a_page_follow_from_the_push_servers(
    base: str, script: str, origins: tuple[str, ...]
) -> None:
    assert PushAddress(base).script == script
    assert PushAddress(base).origins == origins


# -- The log ----------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(f"{formatEvent(event)} {event!r}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


async def test_no_secret_is_logged(world: DemoWorld, logged: list[str]) -> None:
    alice = world.visitor()
    page = await alice.log_in("alice")
    answer = await world.ask_callback({"token": page.token})
    mark = answer.json["result"]["meta"]["session"]
    await world.ask_callback({"method": "typing", "meta": {"session": mark}}, "/push/rpc")
    await world.ask_callback({"method": "typing", "meta": {"session": mark[:-1]}}, "/push/rpc")
    world.road.state = "closed"
    await alice.submit("/article", {"title": "x", "body": "y"})
    world.road.state = "open"
    world.push.will_answer("publish", {"error": {"code": 1, "message": "no"}})
    await alice.submit("/message", {"message": "x"})
    cookie = alice.cookie
    await alice.post("/logout", {})

    text = "\n".join(logged)
    assert "logged in" in text
    assert "push API publish" in text
    for secret in (KEY, page.token, page.csrf, cookie, mark):
        assert secret not in text


def test_the_fake_road_is_an_agent(world: DemoWorld) -> None:
    assert verifyObject(IAgent, world.road)
