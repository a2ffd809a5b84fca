"""The Socket.IO client for Python (``python-socketio``), which speaks Engine.IO 4 only."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
import socketio  # type: ignore[import-untyped]

from tests.e2e.cms import html
from tests.e2e.drupal import PEOPLE, Module, StubDrupal, make_drupal_server
from tests.e2e.server import KEY, PATIENCE, PushServer, eventually

# The library leaves sockets to the garbage collector whose server closed them.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

TRANSPORTS = (["polling"], ["websocket"], ["polling", "websocket"])
PONG = 3
PAGE = "https://www.example.org"
every_transport = pytest.mark.parametrize("transports", TRANSPORTS, ids="-".join)


class Client:
    """One client: what happened to it, in ``events``."""

    def __init__(self, push: PushServer, **options: Any) -> None:
        self.push = push
        self.events: list[tuple[str, Any]] = []
        self.io = socketio.Client(
            reconnection_delay=0.05, reconnection_delay_max=0.2, handle_sigint=False, **options
        )
        self.io.on("connect", lambda: self.events.append(("connect", None)))
        self.io.on("message", lambda message: self.events.append(("message", message)))
        self.io.on("disconnect", lambda reason: self.events.append(("disconnect", reason)))

    def connect(self, transports: list[str], **options: Any) -> Client:
        """Connect, with the transports of this test."""
        self.io.connect(self.push.url, transports=transports, wait_timeout=PATIENCE, **options)
        return self

    def authenticate(self, token: str, **more: object) -> Any:
        """Present a token; give the acknowledgement."""
        return self.io.call("authenticate", {"authToken": token, **more}, timeout=PATIENCE)

    def named(self, name: str) -> list[Any]:
        """Give what came with the events of a name so far."""
        return [content for event, content in self.events if event == name]

    def wait_for(self, times: int, name: str) -> None:
        """Wait until something has happened so many times."""
        eventually(f"{times} {name}", lambda: len(self.named(name)) >= times)

    def wait(self, name: str, content: object) -> None:
        """Wait for an event with this content."""
        eventually(f"{name} {content}", lambda: content in self.named(name))

    def count_pongs(self) -> list[Any]:
        """Give a list to which each answer to a heartbeat is added."""
        sent: list[Any] = []
        send = self.io.eio._send_packet

        def watch(packet: Any) -> None:
            if packet.packet_type == PONG:
                sent.append(packet)
            send(packet)

        self.io.eio._send_packet = watch
        return sent

    def close(self) -> None:
        """Close, and stop trying to come back."""
        self.io.shutdown()
        gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def drupal() -> Iterator[StubDrupal]:
    with StubDrupal({**PEOPLE, "late-token": PEOPLE["alice-token"]}) as stub:
        yield stub


@pytest.fixture(scope="module")
def push(drupal: StubDrupal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    folder = tmp_path_factory.mktemp("python-socketio")
    limits = {"ping_interval": "1s", "pong_timeout": "1500ms"}
    with make_drupal_server(folder, drupal, limits=limits) as server:
        yield server
        assert KEY not in server.log


@pytest.fixture
def client(push: PushServer) -> Iterator[Client]:
    with Client(push) as made:
        yield made
    eventually("it is gone", lambda: Module(push.port).health()["sockets"] == 0)


@every_transport
def test_messages(client: Client, push: PushServer, transports: list[str]) -> None:
    php = Module(push.port, "7b")
    client.connect(transports)

    assert client.authenticate("alice-token") == {"result": "success"}

    told = client.named("message")[0]
    assert told["callback"] == "clientAuthenticated"
    assert told["data"]["clientId"] == client.io.get_sid()
    assert php.send("example", "grüße 🌍") == 1
    client.wait(
        "message",
        {"channel": "example", "broadcast": False, "data": "grüße 🌍", "clientSocketId": ""},
    )
    assert php.send("example", "x" * 200_000, client=client.io.get_sid()) == 0
    assert php.broadcast("to all", "of you") == 1
    eventually("the broadcast", lambda: client.named("message")[-1].get("broadcast"))
    client.io.emit("whatever", {"a": 1})
    assert client.io.call("join-token-channel", {}, timeout=PATIENCE)["result"] == "error"
    assert client.io.transport() == transports[-1]


@every_transport
def test_content_channel(client: Client, push: PushServer, transports: list[str]) -> None:
    php = Module(push.port)
    token = php.content_token("content")
    client.connect(transports)
    client.authenticate("bob-token")
    joining = {"channel": "content", "contentToken": token}

    assert client.io.call("join-token-channel", joining, timeout=PATIENCE) == {"result": "success"}
    php.content_message("content", [1])

    client.wait("message", {"channel": "content", "data": [1]})
    assert php.content_users("content") == {"uids": ["3"], "authTokens": []}


def test_heartbeats(push: PushServer) -> None:
    """A client that did not answer would be closed after 2.5 seconds."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(push)).connect(each) for each in TRANSPORTS]
        for client in clients:
            client.authenticate("alice-token")
        answered = [client.count_pongs() for client in clients]

        eventually("four heartbeats of each", lambda: all(len(each) >= 4 for each in answered))

        assert Module(push.port).send("example", "alive") == len(clients)
        for client in clients:
            client.wait("message", {"channel": "example", "broadcast": False, "data": "alive"})
            assert client.named("disconnect") == []
    eventually("they are gone", lambda: Module(push.port).health()["sockets"] == 0)


@every_transport
def test_who_is_kicked_stays_away(client: Client, push: PushServer, transports: list[str]) -> None:
    client.connect(transports)
    client.authenticate("bob-token")

    Module(push.port, "7a").kick(3)

    client.wait("disconnect", client.io.reason.SERVER_DISCONNECT)
    assert client.named("message")[-1]["data"]["code"] == 3503
    client.io.wait()  # Which would go on while it tries to come back.
    assert not client.io.connected
    assert len(client.named("connect")) == 1


def test_refused_token(client: Client) -> None:
    client.connect(["polling"])

    assert client.authenticate("nobody-knows-this") == {
        "result": "error",
        "error": "invalid token",
    }

    client.wait("disconnect", client.io.reason.SERVER_DISCONNECT)
    client.io.wait()
    assert not client.io.connected


def test_they_come_back_when_the_server_was_killed(push: PushServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(push)).connect(each) for each in TRANSPORTS]
        for client in clients:
            client.authenticate("alice-token")

        push.kill()
        for client in clients:
            client.wait_for(1, "disconnect")
        push.start()

        for client in clients:
            client.wait_for(2, "connect")
            assert client.authenticate("alice-token") == {"result": "success"}
        assert Module(push.port).send("example", "after") == len(clients)
        for client in clients:
            client.wait("message", {"channel": "example", "broadcast": False, "data": "after"})
    eventually("they are gone", lambda: Module(push.port).health()["sockets"] == 0)


def test_it_comes_back_after_an_outage_of_the_cms(client: Client, drupal: StubDrupal) -> None:
    client.connect(["websocket"])
    with drupal.trouble(html(503)):
        client.io.emit("authenticate", {"authToken": "late-token"})
        client.wait_for(1, "disconnect")
        client.wait_for(2, "connect")

    assert client.authenticate("late-token") == {"result": "success"}


# --- Origins ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(drupal: StubDrupal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    """Run a server that pages of one origin may connect to."""
    folder = tmp_path_factory.mktemp("strict")
    with make_drupal_server(folder, drupal, site={"allowed_origins": [PAGE]}) as server:
        yield server


def test_an_origin_that_is_given_as_a_header_comes_twice(strict: PushServer) -> None:
    """On WebSocket the library adds its own to it: two of them are refused."""
    headers = {"Origin": PAGE}
    with Client(strict) as client:
        with pytest.raises(socketio.exceptions.ConnectionError):
            client.connect(["websocket"], headers=headers)
        assert "connection refused: 400 the header Origin came twice" in strict.log
        client.connect(["polling"], headers=headers)


def test_an_origin_that_is_none_of_the_site(strict: PushServer) -> None:
    with Client(strict) as client:
        with pytest.raises(socketio.exceptions.ConnectionError):
            client.connect(["websocket"])  # Without another the library names the server itself.
        for origin in ("https://evil.invalid", "null"):
            with pytest.raises(socketio.exceptions.ConnectionError):
                client.connect(["polling"], headers={"Origin": origin})
    assert strict.log.count("connection refused: 403 origin not allowed") == 3


@pytest.mark.parametrize("extra", [{"origin": PAGE}, {"suppress_origin": True}], ids=str)
def test_the_origin_that_is_meant(strict: PushServer, extra: dict[str, object]) -> None:
    with Client(strict, websocket_extra_options=extra) as client:
        client.connect(["websocket"])
        assert client.authenticate("alice-token") == {"result": "success"}
