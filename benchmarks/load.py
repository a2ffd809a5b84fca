"""The load: clients that connect and count what they get, and a backend that publishes.

All of it runs in one thread over one epoll, and as lean as Python lets it: it must not be what is
measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.processes import BenchmarkError
from twisted_push.bench import frames

__all__ = ["Crowd", "Loop", "Publishers", "api_request"]

_HOST = "127.0.0.1"
_TIMEOUT = 30.0
_RECEIVE = 65536
_WINDOW = 32
"""How many handshakes are under way at once; less than the backlog of any listener."""

_UPGRADE = (
    "GET /connection/websocket HTTP/1.1\r\n"
    "Host: {address}\r\n"
    "Connection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "Origin: http://{address}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "\r\n"
)
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_PUSH = b'"push":'


class Loop:
    """Calls a function for every socket that has something to read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def add(self, sock: socket.socket, reader: Callable[[], None]) -> None:
        """Call ``reader`` whenever there is something to read."""
        self._readers[sock.fileno()] = reader
        self._epoll.register(sock, select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Watch a socket no longer."""
        del self._readers[sock.fileno()]
        self._epoll.unregister(sock)

    def run_until(self, done: Callable[[], bool], what: str) -> None:
        """Run until ``done()``; raise `BenchmarkError` if that takes too long."""
        readers = self._readers
        deadline = time.monotonic() + _TIMEOUT
        while not done():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{what}: not done after {_TIMEOUT:g} s")
            for number, _ in self._epoll.poll(0.5, 4096):
                reader = readers.get(number)
                if reader is not None:
                    reader()


def _dial(port: int) -> socket.socket:
    sock = socket.create_connection((_HOST, port), _TIMEOUT)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Client:
    """One connection of a crowd."""

    __slots__ = ("_crowd", "_read", "_rest", "_token", "sock")

    def __init__(self, crowd: Crowd, sock: socket.socket, token: str | None) -> None:
        self.sock = sock
        self._crowd = crowd
        self._token = token
        self._rest = b""
        self._read = self._upgraded if crowd.speaks else self._counted

    def readable(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        if not data:
            raise BenchmarkError("the server closed a connection")
        self._rest = self._read(self._rest + data)

    def _upgraded(self, data: bytes) -> bytes:
        head, end, rest = data.partition(_END_OF_HEAD)
        if not end:
            return data
        if not head.startswith(b"HTTP/1.1 101 "):
            raise BenchmarkError(f"no upgrade: {head.decode(errors='replace')}")
        command = {"id": 1, "connect": {"token": self._token} if self._token else {}}
        self.sock.send(frames.masked(json.dumps(command).encode()))
        self._read = self._connected
        return self._connected(rest)

    def _connected(self, data: bytes) -> bytes:
        found, rest = frames.split(data)
        if found:
            opcode, payload = found[0]
            if opcode != frames.TEXT or b'"connect":' not in payload:
                raise BenchmarkError(f"no connect reply: {payload.decode(errors='replace')}")
            self._crowd.ready += 1
            self._read = self._counted
            self._count(found[1:])
        return rest

    def _counted(self, data: bytes) -> bytes:
        found, rest = frames.split(data)
        self._count(found)
        return rest

    def _count(self, found: Iterable[tuple[int, bytes]]) -> None:
        for opcode, payload in found:
            pushes = payload.count(_PUSH)
            if pushes:
                self._crowd.messages += pushes
                self._crowd.sample = payload
            elif opcode == frames.TEXT and payload == b"{}":
                self.sock.send(frames.masked(b"{}"))
            elif opcode == frames.PING:
                self.sock.send(frames.masked(payload, frames.PONG))
            elif opcode == frames.CLOSE:
                raise BenchmarkError(f"the server closed a connection: {payload!r}")


class Crowd:
    """Many clients: how many are connected, and how many pushes they got in all.

    A crowd that does not speak only connects and counts: for what imitates a server.
    """

    def __init__(self, loop: Loop, port: int, *, speaks: bool = True) -> None:
        self.speaks = speaks
        self.window = _WINDOW
        self.ready = 0
        self.messages = 0
        self.sample = b""
        """The payload of the last frame with a push."""
        self._loop = loop
        self._port = port
        self._upgrade = _UPGRADE.format(address=f"{_HOST}:{port}").encode()
        self._clients: list[_Client] = []

    def open(self, tokens: Sequence[str | None]) -> None:
        """Connect a client for each token, some at a time; None is a client without a token."""
        started = len(self._clients)
        for number, token in enumerate(tokens, started + 1):
            client = _Client(self, _dial(self._port), token)
            self._clients.append(client)
            self._loop.add(client.sock, client.readable)
            if self.speaks:
                client.sock.send(self._upgrade)
                self._wait(number - self.window)
        if self.speaks:
            self._wait(len(self._clients))

    def _wait(self, ready: int) -> None:
        if self.ready < ready:
            self._loop.run_until(lambda: self.ready >= ready, "connecting")

    def close(self) -> None:
        """Drop all connections."""
        for client in self._clients:
            self._loop.remove(client.sock)
            client.sock.close()
        self._clients.clear()
        self.ready = 0

    def wait_for(self, messages: int) -> None:
        """Run until all have got that many in all since the beginning; more is an error."""
        self._loop.run_until(lambda: self.messages >= messages, "delivery")
        if self.messages > messages:
            raise BenchmarkError(f"{self.messages - messages} deliveries too many")


def api_request(port: int, key: str, method: str, body: object) -> bytes:
    """Make a request of the backend API."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return (
        f"POST /api/{method} HTTP/1.1\r\n"
        f"Host: {_HOST}:{port}\r\n"
        f"X-API-Key: {key}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n"
        "\r\n"
    ).encode() + data


class _Publisher:
    """One keep-alive connection."""

    __slots__ = ("_all", "_rest", "asked", "sock")

    def __init__(self, publishers: Publishers, sock: socket.socket) -> None:
        self.sock = sock
        self.asked = 0
        """When its request was sent, in ns of the monotonic clock."""
        self._all = publishers
        self._rest = b""

    def readable(self) -> None:
        data = self.sock.recv(_RECEIVE)
        if not data:
            raise BenchmarkError("the server closed a publisher's connection")
        head, end, body = (self._rest + data).partition(_END_OF_HEAD)
        length = _LENGTH.search(head)
        if end and length is None:
            raise BenchmarkError(f"an answer without a length: {head.decode(errors='replace')}")
        if length is None or len(body) < int(length[1]):
            self._rest += data
            return
        self._rest = b""
        if not head.startswith(b"HTTP/1.1 200 ") or b'"error":' in body:
            raise BenchmarkError(f"not published: {(head + end + body).decode(errors='replace')}")
        self._all.answered(self)


class Publishers:
    """A backend: connections that each send their next request when the last is answered."""

    def __init__(self, loop: Loop, port: int, connections: int) -> None:
        self._loop = loop
        self._request = b""
        self._unsent = 0
        self._unanswered = 0
        self.waits: list[int] = []
        """How long each answer took, in ns."""
        self._publishers = [_Publisher(self, _dial(port)) for _ in range(connections)]
        for each in self._publishers:
            loop.add(each.sock, each.readable)

    def publish(self, request: bytes, count: int = 1) -> None:
        """Send a request that often, and wait for all answers."""
        self._request = request
        self._unsent = self._unanswered = count
        for each in self._publishers:
            self._send(each)
        self._loop.run_until(lambda: not self._unanswered, "publishing")

    def answered(self, publisher: _Publisher) -> None:
        """Go on after an answer."""
        self._unanswered -= 1
        self.waits.append(time.monotonic_ns() - publisher.asked)
        self._send(publisher)

    def _send(self, publisher: _Publisher) -> None:
        if self._unsent:
            self._unsent -= 1
            publisher.asked = time.monotonic_ns()
            publisher.sock.sendall(self._request)

    def close(self) -> None:
        """Drop all connections."""
        for each in self._publishers:
            self._loop.remove(each.sock)
            each.sock.close()
        self._publishers.clear()


@contextlib.contextmanager
def crowd(loop: Loop, port: int, *, speaks: bool = True) -> Iterator[Crowd]:
    """Give a crowd that is closed at the end."""
    found = Crowd(loop, port, speaks=speaks)
    try:
        yield found
    finally:
        found.close()
