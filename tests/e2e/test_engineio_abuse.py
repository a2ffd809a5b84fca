"""Engine.IO and Socket.IO on a real socket, from those who mean no good, or know no better."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.cms import Request, says
from tests.e2e.drupal import PASSWORD_HASH, PEOPLE, Module, Person, StubDrupal, make_drupal_server
from tests.e2e.raw_engineio import Answer, Polling, Socket, ask, event, pipeline
from tests.e2e.server import KEY, PushServer, eventually, log_is_quiet

PAGE = "https://www.example.org"
OTHER_HOST = "other.example.org"
OTHER_SITE = f"""
[sites.other]
hosts = ["{OTHER_HOST}"]
key = "the-key-of-the-other-site"
anonymous = true
"""
PEOPLE_HERE = {**PEOPLE, "mallory-token": Person(4, ("nodejs_user_4",), "mallory")}
MEBIBYTE = 2**20
VERSIONS = (3, 4)
every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def drupal() -> Iterator[StubDrupal]:
    with StubDrupal(PEOPLE_HERE) as stub:
        yield stub


@pytest.fixture(scope="module")
def push(drupal: StubDrupal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    """Run a server with two sites; no token and no key may come into its log."""
    site = {"hosts": ["127.0.0.1", "localhost"], "allowed_origins": [PAGE]}
    folder = tmp_path_factory.mktemp("abuse")
    with make_drupal_server(folder, drupal, site=site, namespaces=OTHER_SITE) as server:
        yield server
        for secret in (KEY, PASSWORD_HASH, *PEOPLE_HERE):
            assert secret not in server.log


@pytest.fixture
def php(push: PushServer) -> Module:
    return Module(push.port)


@pytest.fixture
def bystander(push: PushServer) -> Iterator[Socket]:
    """Let in a client that has nothing to do with what the test does."""
    with Socket(push, 3) as client:
        yield client.let_in("bob-token")


@contextmanager
def nobody_else_notices(push: PushServer, bystander: Socket, lines: int = 1) -> Iterator[None]:
    """Check that what happens inside costs few log lines, and that others are served after it."""
    with log_is_quiet(push, lines):
        yield
        assert Module(push.port).send("example", {"after": "that"}) == 1
        assert bystander.message()["data"] == {"after": "that"}


# --- Events ----------------------------------------------------------------------------------

DEEP = "[" * 20_000 + "]" * 20_000
BAD_ARGUMENTS = {
    "none": "",
    "null": ",null",
    "an array": ",[]",
    "a number": ",1e400",
    "a text": ',"alice-token"',
    "an empty object": ",{}",
    "a token that is null": ',{"authToken":null}',
    "a token that is an object": ',{"authToken":{"toString":"alice-token"}}',
    "tokens in a text": ',{"authToken":"alice-token","contentTokens":"x"}',
    "the name of a prototype": ',{"authToken":"__proto__"}',
    "a constructor": ',{"authToken":"constructor","contentTokens":{"__proto__":"constructor"}}',
    "its prototype": ',{"__proto__":{"authToken":"alice-token"}}',
    "half a character": ',{"authToken":"\\ud83d"}',
    "a control character": ',{"authToken":"alice-token\\u0000"}',
    "no number": ',{"authToken":"alice-token","x":NaN}',
    "the depths": f',{{"authToken":"alice-token","x":{DEEP}}}',
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
@every_version
def test_authenticate(push: PushServer, bystander: Socket, version: int, argument: str) -> None:
    packet = f'421["authenticate"{BAD_ARGUMENTS[argument]}]'

    with nobody_else_notices(push, bystander, lines=2):
        polling = Polling(push, version).open()
        polling.send(packet)
        said = "".join(polling.rest())
        assert "clientAuthenticated" not in said
        assert '"clientDisconnected"' in said
        with Socket(push, version) as client:
            client.open().send(packet)
            assert client.closing() in (3500, 3501)


@every_version
def test_a_token_of_a_megabyte(push: PushServer, bystander: Socket, version: int) -> None:
    packet = event("authenticate", {"authToken": "x" * 1_000_000})

    with nobody_else_notices(push, bystander, lines=2):
        assert Polling(push, version).open().ends(packet.encode()) == 413
        with Socket(push, version) as client:
            client.open().send(packet)
            assert client.closing() == 1009


def test_a_refused_token_whose_client_has_left(
    push: PushServer, drupal: StubDrupal, bystander: Socket
) -> None:
    """Which ended the original server, and happened by itself."""
    asked, answer = threading.Event(), threading.Event()

    def late(request: Request) -> None:
        asked.set()
        answer.wait(10)
        says({"uid": 0, "nodejsValidAuthToken": False})(request)

    drupal.set_people({**PEOPLE_HERE, "late-token": late})
    with nobody_else_notices(push, bystander, lines=0):
        with Socket(push, 3) as client:
            client.open().send(event("authenticate", {"authToken": "late-token"}))
            assert asked.wait(10)
        answer.set()


def test_two_refused_attempts_at_once(push: PushServer, bystander: Socket) -> None:
    packet = event("authenticate", {"authToken": "nobody-knows-this"})
    with nobody_else_notices(push, bystander), Socket(push, 3) as client:
        client.open()
        for _ in range(2):
            client.send(packet)
        assert client.closing() == 3500


@every_version
def test_join_token_channel(push: PushServer, bystander: Socket, version: int) -> None:
    with nobody_else_notices(push, bystander, lines=0), Socket(push, version) as client:
        client.let_in("anonymous-token")
        for argument in (
            "null",
            "[]",
            '"x"',
            "{}",
            '{"channel":"__proto__","contentToken":"__proto__"}',
            '{"channel":null,"contentToken":null}',
            '{"channel":"constructor","contentToken":"x"}',
        ):
            client.send(f'427["join-token-channel",{argument}]')
            assert client.packet().startswith('437[{"result":"error"')


@every_version
def test_events_without_end(push: PushServer, bystander: Socket, version: int) -> None:
    with nobody_else_notices(push, bystander), Socket(push, version) as client:
        client.let_in("anonymous-token")
        with suppress(ConnectionClosed):  # It may be closed before the last of them.
            for number in range(500):
                client.send(event("whatever", number))
        assert client.closing() == 3013


BAD_PACKETS = {
    "nothing": "4",
    "no type": "4x",
    "an unknown type": "49",
    "a name that is no text": "42[1]",
    "an event that is no array": '42{"a":1}',
    "an event without a name": "42[]",
    "half an event": '42["message"',
    "digits of another script": '42\u0663["message"]',
    "an endless id": "42" + "1" * 5000 + '["message"]',
    "many attachments": '599-["x"]',
    "a negative number of attachments": '5-1-["x"]',
    "a long namespace": "40/" + "x" * 5000 + ",",
    "the depths": f"42{DEEP}",
    "the depths, unended": "42" + "[" * 50_000,
    "an unknown packet": "9",
    "the server's own": '0{"sid":"x"}',
    "an upgrade of nothing": "5",
    "base64 where it cannot be": "bAQI=",
}


@pytest.mark.parametrize("packet", BAD_PACKETS)
@every_version
def test_bad_packets(push: PushServer, bystander: Socket, version: int, packet: str) -> None:
    with nobody_else_notices(push, bystander), Socket(push, version) as client:
        client.let_in("anonymous-token").send(BAD_PACKETS[packet])
        assert client.closing() == 3501


@every_version
def test_binary_packets(push: PushServer, bystander: Socket, version: int) -> None:
    """Nobody here has any: they are dropped, and nothing is kept for them."""
    attached = '451-["message",{"_placeholder":true,"num":0}]'
    kind = b"\x04" if version == 3 else b""
    base64 = ("b4" if version == 3 else "b") + "AQI="
    payload = attached, base64, event("whatever")
    with nobody_else_notices(push, bystander, lines=0):
        with Socket(push, version) as client:
            client.let_in("anonymous-token")
            for frame in (attached, kind + b"\x01\x02", kind, attached, event("whatever")):
                client.send(frame)
            assert Module(push.port).send("example", 1) == 2
            assert client.message()["data"] == bystander.message()["data"] == 1
        polling = Polling(push, version).let_in("anonymous-token")
        polling.send(*payload)
        if version == 3:
            body = b"\x01\x03\xff\x04\x01\x02" + b"\x00\x01\xff6"
            assert polling.post(body, "application/octet-stream").body == b"ok"
        polling.send("1")
    eventually("it is gone", lambda: Module(push.port).health()["sockets"] == 1)


# --- Payloads --------------------------------------------------------------------------------

LIES: Mapping[int, Mapping[str, bytes]] = {
    3: {
        "nothing": b"",
        "no length": b"4hello",
        "too long": b"3:4",
        "too short": b"1:4hello",
        "a plus": b"+2:4a",
        "a space": b" 2:4a",
        "zeros": b"002:4a",
        "no bytes": b"0:",
        "digits of another script": "\u0662:4a".encode(),
        "huge": b"99999999999999999999:4",
        "a billion": b"999999999:4",
        "negative": b"-1:4a",
        "bytes, not units": "5:4\U0001f30d".encode(),
        "half a character": "2:4\U0001f30d".encode(),
        "no text": b"3:4\xff\xfe",
        "bad base64": b"5:b4!!!",
        "many": b"1:6" * 2000,
        "a good one before": b'16:42["whatever",1]7:4',
    },
    4: {
        "nothing": b"",
        "only a separator": b"\x1e",
        "nothing at the end": b"6\x1e",
        "no type": b"hello",
        "no text": b"4\xff\xfe",
        "bad base64": b"b!!!",
        "base64 without its end": b"bAQI",
        "many": b"\x1e".join([b"6"] * 2000),
    },
}


@pytest.mark.parametrize(
    ("version", "lie"), [(version, lie) for version in VERSIONS for lie in LIES[version]]
)
def test_payloads_that_lie(push: PushServer, bystander: Socket, version: int, lie: str) -> None:
    with nobody_else_notices(push, bystander):
        assert Polling(push, version).open().ends(LIES[version][lie]) == 400


@pytest.mark.parametrize(
    "body", [b"\x00\xff4", b"\x00\x09\x09\xff4", b"\x02\x01\xff4", b"\x01\x01", b"4hello"], ids=repr
)
def test_binary_payloads_that_lie(push: PushServer, bystander: Socket, body: bytes) -> None:
    with nobody_else_notices(push, bystander):
        polling = Polling(push, 3).open()
        assert polling.ends(body, "application/octet-stream") == 400


# --- Requests --------------------------------------------------------------------------------


@every_version
def test_two_polls_at_once(push: PushServer, bystander: Socket, version: int) -> None:
    with nobody_else_notices(push, bystander), ThreadPoolExecutor(2) as pool:
        polling = Polling(push, version).let_in("anonymous-token")
        polls = [polling.poll_later(pool) for _ in range(2)]

        answers = sorted((poll.result() for poll in polls), key=lambda answer: answer.status)

        assert [answer.status for answer in answers] == [200, 400]
        assert (answers[1].code, b"clientDisconnected" in answers[0].body) == (3, True)
        # A proxy may have made two of one: the client is to come back.
        assert b'"reconnect":true' in answers[0].body
        assert polling.rest() == []


@every_version
def test_a_post_in_the_middle_of_an_upgrade(push: PushServer, php: Module, version: int) -> None:
    polling = Polling(push, version).let_in("anonymous-token")
    with ThreadPoolExecutor(1) as pool, Socket(push, version, polling.sid) as probe:
        parked = polling.poll_later(pool)
        probe.send("2probe")
        assert probe.packet() == "3probe"
        assert parked.result().body.endswith(b"6")
        polling.send('425["join-token-channel",null]')
        php.send("example", "on the way")
        # A second probe, meanwhile, is none.
        with pytest.raises(Exception, match="400"):
            Socket(push, version, polling.sid)
        probe.send("5")

        assert probe.packet().startswith('435[{"result":"error"')
        assert probe.message()["data"] == "on the way"
        php.send("example", "there")
        assert probe.message()["data"] == "there"
        for answer in (polling.get(), polling.post(b"6")):
            assert (answer.status, answer.code) == (400, 3)
        with pytest.raises(Exception, match="400"):
            Socket(push, version, polling.sid)
        probe.send("41")
        assert probe.closing() == 3000


@every_version
@pytest.mark.parametrize("frame", ["5", "2", "4x", "2probe2", b"\x042probe"], ids=repr)
def test_a_probe_that_is_none(
    push: PushServer, php: Module, version: int, frame: str | bytes
) -> None:
    polling = Polling(push, version).let_in("anonymous-token")
    with Socket(push, version, polling.sid) as probe:
        probe.send(frame)
        assert probe.closing() == 3501
    php.send("example", "it polls on")
    assert "it polls on" in polling.poll()[0]
    polling.send("1")


@every_version
def test_sids(push: PushServer, bystander: Socket, version: int) -> None:
    with nobody_else_notices(push, bystander, lines=0):
        polling = Polling(push, version).let_in("anonymous-token")
        stranger = Polling(push, version, {"Host": OTHER_HOST}).open()
        guesses = ["x", "__proto__", "%00", "%F0%9F%8C%8D", "a" * 4000, f"{polling.sid}%20"]
        for sid in [*guesses, polling.sid[:-1], polling.sid.swapcase()]:
            for method in ("GET", "POST"):
                path = f"/socket.io/?EIO={version}&transport=polling&sid={sid}"
                answer = ask(push, method, path, b"6" if method == "POST" else None)
                assert (answer.status, answer.code) == (400, 1), sid
        # That of another site is none.
        stranger.sid, own = polling.sid, stranger.sid
        assert (stranger.get().code, stranger.post(b"1").code) == (1, 1)
        polling.sid, its = own, polling.sid
        assert (polling.get().code, polling.post(b"1").code) == (1, 1)
        with pytest.raises(Exception, match="400"):
            Socket(push, version, own)
        # So is the other version's.
        polling.sid = its
        assert Polling(push, 7 - version).path != polling.path
        other = Polling(push, 7 - version)
        other.sid = its
        assert (other.get().code, other.post(b"1").code) == (3, 3)

        polling.send("1")
        stranger.sid = own
        stranger.send("1")


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "EIO=3", 0),
        ("GET", "EIO=3&transport=__proto__", 0),
        ("GET", "EIO=3&transport=flashsocket", 0),
        ("GET", "transport=polling", 5),
        ("GET", "EIO=2&transport=polling", 5),
        ("GET", "EIO=5&transport=polling", 5),
        ("GET", "EIO=%D9%A3&transport=polling", 5),
        ("POST", "EIO=3&transport=polling", 2),
        ("PUT", "EIO=3&transport=polling", 2),
        ("GET", "EIO=3&transport=websocket", 3),
        ("GET", "EIO=3&transport=polling&j=0", 3),
        ("GET", "EIO=3&transport=polling&sid=x&j=___eio[0]", 3),
    ],
)
def test_bad_requests(push: PushServer, method: str, query: str, code: int) -> None:
    with log_is_quiet(push, 0):
        answer = ask(push, method, f"/socket.io/?{query}", b"1:6" if method != "GET" else None)
        assert (answer.status, answer.code) == (400, code)
        assert answer.headers["content-type"] == "application/json"
        assert "set-cookie" not in answer.headers


# --- Origins ---------------------------------------------------------------------------------

HANDSHAKE = "/socket.io/?EIO=3&transport=polling"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
FOREIGN = ["https://evil.invalid", "null", f"{PAGE}.evil.invalid", "http://www.example.org", ""]


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_pages(push: PushServer, origin: str) -> None:
    polling = Polling(push, 3).open()
    headers = {"Origin": origin}
    answers: list[Answer] = [
        ask(push, "GET", HANDSHAKE, headers=headers),
        ask(push, "GET", polling.path, headers=headers),
        ask(push, "POST", polling.path, b"1:1", headers=headers),
        ask(push, "OPTIONS", HANDSHAKE, headers=headers),
        ask(push, "GET", "/socket.io/?EIO=3&transport=websocket", headers={**headers, **UPGRADE}),
        ask(push, "GET", f"{HANDSHAKE}&j=0", headers=headers),
    ]
    for answer in answers:
        assert (answer.status, answer.code) == (403, 4)
        assert answer.cors == {}
        assert polling.sid.encode() not in answer.body
    polling.send("1")


def test_pages_of_the_site(push: PushServer) -> None:
    mine = {"Access-Control-Allow-Origin": PAGE, "Access-Control-Allow-Credentials": "true"}
    allowed = {name.lower(): value for name, value in mine.items()}
    polling = Polling(push, 3, {"Origin": PAGE}).open()

    preflight = {
        **polling.headers,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    before = ask(push, "OPTIONS", polling.path, headers=preflight)
    after = polling.post(b"1:6")
    wrong = ask(push, "GET", "/socket.io/?EIO=3&transport=none", headers=polling.headers)

    assert before.status == 204
    assert before.cors == {
        **allowed,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "Content-Type",
    }
    assert (after.status, after.cors) == (200, allowed)
    # A page is told what is wrong.
    assert (wrong.status, wrong.cors) == (400, allowed)
    assert {answer.headers["vary"] for answer in (before, after, wrong)} == {"Origin"}
    polling.send("1")


# --- Crowds ----------------------------------------------------------------------------------


@every_version
def test_a_client_that_never_polls(push: PushServer, bystander: Socket, version: int) -> None:
    """What it does not take is not kept for long."""
    php, polling = Module(push.port), Polling(push, version).let_in("mallory-token")
    before = push.memory()
    with nobody_else_notices(push, bystander):
        for _ in range(100):
            php.send("nodejs_user_4", "x" * 200_000)
        eventually("it is closed", lambda: php.send("nodejs_user_4", "late") == 0)
    assert push.memory() - before < 30 * MEBIBYTE
    last = "".join(polling.rest())
    assert '"code":3008' in last
    assert "xxx" not in last


def test_handshakes_that_never_continue(drupal: StubDrupal, tmp_path: Path) -> None:
    """10,000 of them cost little, and go by themselves; nobody else waits."""
    limits = {"stale_close_delay": "1s", "max_connections": 10_001}
    with make_drupal_server(tmp_path, drupal, limits=limits) as push, Socket(push) as bystander:
        php, before = Module(push.port), push.memory()
        bystander.let_in("bob-token")

        assert _crowd(push, bystander)[OK] >= 9_000  # Some may have gone before the last came.
        eventually("they are gone", lambda: php.health()["sockets"] == 1)
        peak = push.memory()
        eventually("there is room again", lambda: ask(push, "GET", HANDSHAKE).status == 200)
        # A second crowd finds the memory of the first.
        accepted = 0
        while accepted < 9_000:
            accepted += _crowd(push, bystander)[OK]

        assert peak - before < 80 * MEBIBYTE
        assert push.memory() - peak < 25 * MEBIBYTE
        eventually("they are gone, too", lambda: php.health()["sockets"] == 1)


OK = b"HTTP/1.1 200 OK"


def _crowd(push: PushServer, bystander: Socket) -> Counter[bytes]:
    """Make 10,000 handshakes while somebody is told something; count the status lines."""
    php, heard = Module(push.port), 0
    with ThreadPoolExecutor(4) as pool:
        requests = [
            f"GET /socket.io/?EIO={version}&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            for version in (*VERSIONS, *VERSIONS)
        ]
        waves = [pool.submit(pipeline, push, request.encode(), 2500) for request in requests]
        while not all(wave.done() for wave in waves):
            assert php.send("example", heard) == 1
            assert bystander.message()["data"] == heard
            heard += 1
    assert heard > 0
    return Counter(status for wave in waves for status in wave.result())
