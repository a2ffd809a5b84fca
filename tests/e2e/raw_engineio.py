"""Clients of Engine.IO that hide nothing: polling request by request, or one WebSocket."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from attrs import define, field, frozen
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket_connect

from tests.e2e.server import PATIENCE, PushServer

SEPARATOR = "\x1e"


@frozen
class Answer:
    """What one HTTP request was answered; the names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> int:
        """The code of the error that is in the body."""
        code: int = json.loads(self.body)["code"]
        return code

    @property
    def cors(self) -> dict[str, str]:
        """What it lets pages of other origins do."""
        return {n: v for n, v in self.headers.items() if n.startswith("access-control-")}


def ask(
    server: PushServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make one request, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def encode(packets: tuple[str, ...], version: int) -> bytes:
    """Give the body of a request that carries these packets."""
    if version == 4:
        return SEPARATOR.join(packets).encode()
    return "".join(f"{len(p.encode('utf-16-le')) // 2}:{p}" for p in packets).encode()


def decode(body: bytes, version: int) -> list[str]:
    """Give the packets of an answer; lengths count UTF-16 units."""
    if version == 4:
        return body.decode().split(SEPARATOR)
    units, packets = body.decode().encode("utf-16-le"), []
    while units:
        length, _, _ = units.partition(b":\x00")
        start = len(length) + 2
        end = start + 2 * int(length.decode("utf-16-le"))
        packets.append(units[start:end].decode("utf-16-le"))
        units = units[end:]
    return packets


def event(name: str, *args: object) -> str:
    """Give the packet of an event."""
    return "42" + json.dumps([name, *args])


@define
class Polling:
    """One client that polls; each request is made when it is told to."""

    server: PushServer
    version: int = 4
    headers: Mapping[str, str] = field(factory=dict)
    sid: str = field(init=False, default="")

    @property
    def path(self) -> str:
        """The address of its requests."""
        sid = f"&sid={self.sid}" if self.sid else ""
        return f"/socket.io/?EIO={self.version}&transport=polling{sid}"

    def open(self) -> Self:
        """Make the handshake, and connect to the main namespace."""
        answer = ask(self.server, "GET", self.path, headers=self.headers)
        assert answer.status == 200, answer
        packet = decode(answer.body, self.version)[0]
        self.sid = json.loads(packet[1:])["sid"]
        if self.version == 4:
            self.send("40")
            assert self.poll()[0].startswith("40{")
        return self

    def let_in(self, token: str) -> Self:
        """Make the handshake, and authenticate."""
        self.open().send(event("authenticate", {"authToken": token}))
        assert "clientAuthenticated" in self.poll()[0]
        return self

    def post(self, body: bytes, content_type: str = "text/plain;charset=UTF-8") -> Answer:
        """Post a payload as it is."""
        headers = {**self.headers, "Content-Type": content_type}
        return ask(self.server, "POST", self.path, body, headers)

    def send(self, *packets: str) -> None:
        """Post packets, which are taken."""
        answer = self.post(encode(packets, self.version))
        assert (answer.status, answer.body) == (200, b"ok"), answer

    def get(self) -> Answer:
        """Make one poll."""
        return ask(self.server, "GET", self.path, headers=self.headers)

    def poll(self) -> list[str]:
        """Make one poll, and give its packets."""
        answer = self.get()
        assert answer.status == 200, answer
        return decode(answer.body, self.version)

    def poll_later(self, pool: ThreadPoolExecutor) -> Future[Answer]:
        """Make one poll in a thread."""
        return pool.submit(self.get)

    def rest(self) -> list[str]:
        """Poll to the end; give the packets that came before it. Nobody knows the sid then."""
        packets: list[str] = []
        while packets[-1:] != ["1"]:
            packets += self.poll()
        answer = self.get()
        assert (answer.status, answer.code) == (400, 1)
        return packets[:-1]

    def ends(self, body: bytes, content_type: str = "text/plain;charset=UTF-8") -> int:
        """Post what ends the session, for which it is told to stay away; give the status."""
        status = self.post(body, content_type).status
        assert self.rest()[-1] == "41"
        return status


class Socket:
    """One WebSocket of Engine.IO; heartbeats of version 4 are answered while it is read."""

    def __init__(self, server: PushServer, version: int = 4, sid: str = "") -> None:
        self.version = version
        self._stack = ExitStack()
        query = f"EIO={version}&transport=websocket" + (f"&sid={sid}" if sid else "")
        opening = websocket_connect(
            f"ws://127.0.0.1:{server.port}/socket.io/?{query}",
            proxy=None,
            max_size=2**24,
            ping_interval=None,
            close_timeout=2,
            compression=None,
        )
        self.raw = self._stack.enter_context(opening)

    def open(self) -> Self:
        """Read the handshake, and connect to the main namespace."""
        assert self.packet().startswith("0{")
        if self.version == 4:
            self.send("40")
        assert self.packet().startswith("40")
        return self

    def let_in(self, token: str) -> Self:
        """Make the handshake, and authenticate."""
        self.open().send(event("authenticate", {"authToken": token}))
        assert "clientAuthenticated" in self.packet()
        return self

    def send(self, packet: str | bytes) -> None:
        """Send a packet as it is."""
        self.raw.send(packet)

    def packet(self, timeout: float = PATIENCE) -> str:
        """Give the next packet that is no heartbeat."""
        while True:
            packet = self.raw.recv(timeout=timeout)
            assert isinstance(packet, str)
            if packet != "2":
                return packet
            self.raw.send("3")

    def closing(self) -> int:
        """Read to the end; give the close code, 0 if the connection was dropped."""
        try:
            while True:
                self.packet()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 0

    def message(self) -> dict[str, Any]:
        """Give the next message."""
        name, message = json.loads(self.packet()[2:])
        assert name == "message"
        assert isinstance(message, dict)
        return message

    def close(self) -> None:
        """Close, if it is open."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def pipeline(server: PushServer, request: bytes, times: int) -> list[bytes]:
    """Make the same request many times on one connection; give the status lines."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        connection.sendall(request * (times - 1) + last)
        received = bytearray()
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
    # Answers follow each other without a line end between.
    return [b"HTTP/1.1" + part.split(b"\r\n")[0] for part in received.split(b"HTTP/1.1")[1:]]
