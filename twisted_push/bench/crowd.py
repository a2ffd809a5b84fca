"""A crowd of WebSocket clients over one epoll, as a process: it counts what they get.

``python -m twisted_push.bench.crowd`` reads its settings from its input, one a line: the URL (ws or
wss), the origin, how many connections may be under way at once, what a client says when it is
connected, and what is in the answer that makes it ready. The origin and the last two may be empty;
``#`` in what it says becomes a number of its own for each client.

Then it reads commands, one a line, and answers each with a line of JSON:

open N      so many more clients; answered when all are ready, with the ns that it took
expect N    answered when N messages came in all
stats       what came since the last time, and the CPU time that it used in all, in ns
say N TEXT  each client sends TEXT, N times round, in frames of their own
close       drop all clients

A message counts once for each ``"at":`` in it; the number that follows is when it was published, in
ns of the monotonic clock of this machine. Pings are answered: those of WebSocket, of the native
protocol and of Engine.IO. It ends with its input, or with an error on its standard error: a
connection that the server closes is one. ``benchmarks/c/load.c`` is the same in C.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO
from urllib.parse import urlsplit

from twisted_push.bench import frames
from twisted_push.bench.histogram import bucket

__all__ = ["CrowdError", "main"]

_RECEIVE = 65536
_EVENTS = 1024
_AT = re.compile(rb'"at":(\d+)')
_END_OF_HEAD = b"\r\n\r\n"
_PINGS = {b"{}": b"{}", b"2": b"3"}
"""Those of the native protocol and of Engine.IO, and what answers them."""

_UPGRADE = (
    "GET {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "Connection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class CrowdError(Exception):
    """A client did not get what it must get."""


class _Client:
    """One connection. ``step`` is called when it can be read or, before that, written."""

    __slots__ = ("_crowd", "_number", "_read", "_rest", "sock", "step")

    def __init__(self, crowd: _Crowd, number: int) -> None:
        self._crowd = crowd
        self._number = number
        self._rest = b""
        self._read = self._upgraded
        self.step: Callable[[], None] = self._dialled
        self.sock = socket.socket(crowd.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex(crowd.address)
        crowd.watch(self, select.EPOLLOUT)

    # --- Until it is ready -------------------------------------------------------------------

    def _dialled(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise CrowdError(f"client {self._number} cannot connect: {os.strerror(error)}")
        if self._crowd.tls is None:
            self._upgrade()
            return
        self.sock = self._crowd.tls.wrap_socket(
            self.sock, server_hostname=self._crowd.host, do_handshake_on_connect=False
        )
        self.step = self._encrypt
        self._encrypt()

    def _encrypt(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._crowd.watch(self, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._crowd.watch(self, select.EPOLLOUT)
        else:
            self._upgrade()

    def _upgrade(self) -> None:
        self.sock.send(self._crowd.upgrade)
        self.step = self._readable
        self._crowd.watch(self, select.EPOLLIN)

    def _upgraded(self, data: bytes) -> bytes:
        head, end, rest = data.partition(_END_OF_HEAD)
        if not end:
            return data
        if not head.startswith(b"HTTP/1.1 101 "):
            raise CrowdError(f"no upgrade: {head[:300].decode(errors='replace')}")
        if self._crowd.hello:
            self.say(self._crowd.hello.replace("#", str(self._number)).encode())
        if not self._crowd.ready_text:
            return self._became_ready(rest)
        self._read = self._waited
        return self._waited(rest)

    def _waited(self, data: bytes) -> bytes:
        found, rest = frames.split(data)
        for number, (_, payload) in enumerate(found):
            if self._crowd.ready_text in payload:
                self._count(found[number + 1 :])
                return self._became_ready(rest)
            self._crowd.last_text = payload
        return rest

    def _became_ready(self, rest: bytes) -> bytes:
        self._read = self._counted
        self._crowd.became_ready()
        return self._counted(rest)

    # --- What comes in -----------------------------------------------------------------------

    def _readable(self) -> None:
        # TLS may hold more than the socket does, and epoll knows nothing of it.
        while self._receive() and self._crowd.tls is not None:
            pass

    def _receive(self) -> bool:
        try:
            data = self.sock.recv(_RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            heard = self._crowd.last_text[:300].decode(errors="replace")
            raise CrowdError(f"the server dropped a connection {heard}".rstrip())
        self._rest = self._read(self._rest + data)
        return True

    def _counted(self, data: bytes) -> bytes:
        found, rest = frames.split(data)
        self._count(found)
        return rest

    def _count(self, found: Iterable[tuple[int, bytes]]) -> None:
        for opcode, payload in found:
            times = _AT.findall(payload)
            if times:
                self._crowd.came(times)
            elif opcode == frames.PING:
                self.say(payload, frames.PONG)
                self._crowd.pings += 1
            elif payload in _PINGS:
                self.say(_PINGS[payload])
                self._crowd.pings += 1
            elif opcode == frames.CLOSE:
                why = payload[2:].decode(errors="replace")
                code = int.from_bytes(payload[:2], "big")
                raise CrowdError(f"the server closed a connection: {code} {why}")

    def say(self, payload: bytes, opcode: int = frames.TEXT) -> None:
        """Send a frame."""
        self.sock.send(frames.masked(payload, opcode))


class _Crowd:
    """All clients, and what they got."""

    def __init__(self, settings: Sequence[str], out: TextIO) -> None:
        url, origin, window, hello, ready_text = settings
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.tls = ssl.create_default_context() if parts.scheme == "wss" else None
        port = parts.port or (443 if self.tls else 80)
        found = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)
        self.family: int = found[0][0]
        self.address: Any = found[0][4]
        lines = f"Origin: {origin}\r\n\r\n" if origin else "\r\n"
        query = f"?{parts.query}" if parts.query else ""
        path = f"{parts.path or '/'}{query}"
        request = _UPGRADE.format(path=path, host=parts.netloc)
        self.upgrade = (request + lines).encode()
        self.hello = hello
        self.ready_text = ready_text.encode()
        self.last_text = b""
        self.pings = 0
        self._window = int(window)
        self._out = out
        self._epoll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._numbers = self._ready = self._wanted = 0
        self._opened_at = 0
        self._messages = self._reported = self._first = self._last = 0
        self._expected: int | None = None
        self._latency: Counter[int] = Counter()

    # --- What clients tell -------------------------------------------------------------------

    def watch(self, client: _Client, events: int) -> None:
        """Call a client's step at such events."""
        number = client.sock.fileno()
        if number in self._clients:
            self._epoll.modify(number, events)
        else:
            self._clients[number] = client
            self._epoll.register(number, events)

    def became_ready(self) -> None:
        """Count one more that is ready."""
        self._ready += 1
        if self._ready == self._wanted:
            self._answer(ready=self._ready, ns=time.monotonic_ns() - self._opened_at)

    def came(self, times: Iterable[bytes]) -> None:
        """Count messages that were published at these times."""
        now = self._last = time.monotonic_ns()
        self._first = self._first or now
        for at in times:
            self._messages += 1
            self._latency[bucket(max(0, now - int(at)) // 1000)] += 1

    # --- Commands ----------------------------------------------------------------------------

    def command(self, line: str) -> None:
        """Do what a line of the input says."""
        name, _, rest = line.partition(" ")
        if name == "open":
            self._opened_at = time.monotonic_ns()
            self._wanted = len(self._clients) + int(rest)
        elif name == "expect":
            self._expected, self._first = int(rest), 0
        elif name == "stats":
            self._stats()
        elif name == "say":
            count, _, text = rest.partition(" ")
            for _ in range(int(count)):
                for client in self._clients.values():
                    client.say(text.encode())
            self._answer()
        elif name == "close":
            for client in self._clients.values():
                client.sock.close()
            self._clients.clear()
            self._ready = self._wanted = 0
            self._answer()
        else:
            raise CrowdError(f"no such command: {name}")

    def _stats(self) -> None:
        self._answer(
            messages=self._messages - self._reported,
            pings=self.pings,
            cpu=time.process_time_ns(),
            latency=self._latency,
        )
        self._reported = self._messages
        self.pings = 0
        self._latency.clear()

    def _answer(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self._out, flush=True)

    # --- The loop ----------------------------------------------------------------------------

    def run(self, source: TextIO) -> None:
        """Serve until the input ends; raise CrowdError, OSError."""
        commands = source.fileno()
        self._epoll.register(commands, select.EPOLLIN)
        begun = b""
        clients = self._clients
        while True:
            while len(clients) < self._wanted and len(clients) - self._ready < self._window:
                _Client(self, self._numbers)
                self._numbers += 1
            for number, _ in self._epoll.poll(-1, _EVENTS):
                client = clients.get(number)
                if client is not None:
                    client.step()
                elif number == commands:
                    read = os.read(commands, _RECEIVE)
                    if not read:
                        return
                    *lines, begun = (begun + read).split(b"\n")
                    for line in lines:
                        self.command(line.decode())
            if self._expected is not None and self._messages >= self._expected:
                self._expected = None
                self._answer(messages=self._messages, first=self._first, last=self._last)


def _settings(source: int) -> list[str]:
    """Read the lines of the settings, and nothing after them."""
    lines: list[str] = []
    line = b""
    while len(lines) < 5:
        byte = os.read(source, 1)
        if not byte:
            raise CrowdError("the input ended before the settings did")
        if byte == b"\n":
            lines.append(line.decode())
            line = b""
        else:
            line += byte
    return lines


def main() -> int:
    """Serve the standard input, and give the exit code."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        _Crowd(_settings(sys.stdin.fileno()), sys.stdout).run(sys.stdin)
    except (CrowdError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
