"""Many clients that come at once, as real browsers would: WebSockets that wait, give up and return.

All of them run in one thread, as lean as Python lets it. A `Library` behaves as the public client
library for JavaScript does: it gives a connect up after 5 seconds, and comes back after 0.5 s and a
random time of up to 0.5, 1, 2, … 20 s more. A patient one waits for as long as it takes.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence

from twisted_push.bench import frames

__all__ = ["Herd", "ask_bare", "pages", "watch_limit"]

GIVE_UP = 5.0
LEAST_DELAY = 0.5
LONGEST_DELAY = 20.0
DIALS = 200
"""Connections that are being opened at once: less than the backlog of the listener."""

_UPGRADE = (
    "GET /connection/websocket HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "Connection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "Origin: http://127.0.0.1:{port}\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "\r\n"
)
_LIMIT = re.compile(rb"\ntwisted_push_callbacks_limit\{[^}]*\} ([\d.]+)")
_TRY_AGAIN = re.compile(rb"try again in (\d+) s")


class _Client(asyncio.Protocol):
    """One page: its connection, and the next one."""

    __slots__ = ("_attempts", "_herd", "_rest", "_timer", "_token", "_transport", "inside", "since")

    def __init__(self, herd: Herd, token: str) -> None:
        self._herd = herd
        self._token = token
        self._attempts = 0
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.inside = False

    async def dial(self) -> None:
        """Connect, in its turn."""
        async with self._herd.dials:
            if self._herd.closed:
                return
            self._rest = b""
            self._herd.happened["attempts"] += 1
            loop = asyncio.get_running_loop()
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self._herd.port)
            except OSError:
                self._later()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._herd.upgrade)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._rest.startswith(b"HTTP/"):
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            self._rest = rest
            self._upgraded(head)
        found, self._rest = frames.split(self._rest)
        for opcode, payload in found:
            self._message(opcode, payload)

    def _upgraded(self, head: bytes) -> None:
        assert self._transport is not None
        if not head.startswith(b"HTTP/1.1 101 "):
            self._herd.happened[head[:12].decode(errors="replace")] += 1
            self._transport.abort()
            return
        command = json.dumps({"id": 1, "connect": {"token": self._token}}).encode()
        self._transport.write(frames.masked(command))
        if self._herd.impatient:
            self._timer = asyncio.get_running_loop().call_later(GIVE_UP, self._give_up)

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.TEXT and payload == b"{}":
            assert self._transport is not None
            self._transport.write(frames.masked(b"{}"))
        elif opcode == frames.TEXT and b'"connect":' in payload:
            self._quiet()
            self.inside, self._attempts = True, 0
            self._herd.let_in(self)
        elif opcode == frames.TEXT and b'"error":' in payload:
            self._herd.told(payload)
        elif opcode == frames.CLOSE:
            self._herd.happened[f"closed {int.from_bytes(payload[:2], 'big')}"] += 1

    def _give_up(self) -> None:
        self._timer = None
        self._herd.happened["gave up"] += 1
        if self._transport is not None:
            self._transport.abort()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._quiet()
        if self._herd.closed:
            return
        if self.inside:
            self.inside = False
            self._herd.lost(self)
        self._later()

    def _later(self) -> None:
        more = min(LONGEST_DELAY, LEAST_DELAY * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        delay = min(LONGEST_DELAY, LEAST_DELAY + random.uniform(0, more))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._again)

    def _again(self) -> None:
        self._timer = None
        self._herd.start(self)

    def drop(self) -> None:
        """Be gone."""
        self._quiet()
        if self._transport is not None:
            self._transport.abort()


class Herd:
    """The clients of one server, one for each token; ``impatient`` ones behave as the library.

    ``happened`` counts attempts, answers and ends; ``advised`` are the seconds that were told.
    """

    def __init__(self, port: int, tokens: Sequence[str], *, impatient: bool) -> None:
        self.port = port
        self.impatient = impatient
        self.upgrade = _UPGRADE.format(port=port).encode()
        self.closed = False
        self.happened: Counter[str] = Counter()
        self.advised: list[int] = []
        self.times: list[float] = []
        """When each was let in, in seconds from the beginning."""
        self.inside = 0
        self.dials = asyncio.Semaphore(DIALS)
        self._clients = [_Client(self, token) for token in tokens]
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self._news = asyncio.Event()

    def start(self, client: _Client) -> None:
        """Have a client connect."""
        task = asyncio.get_running_loop().create_task(client.dial())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def come(self) -> None:
        """Have all of them come at once."""
        self._began = time.monotonic()
        for client in self._clients:
            self.start(client)

    def let_in(self, client: _Client) -> None:
        self.inside += 1
        self.times.append(time.monotonic() - self._began)
        self._news.set()

    def lost(self, client: _Client) -> None:
        self.inside -= 1
        self.happened["lost"] += 1

    def told(self, payload: bytes) -> None:
        found = _TRY_AGAIN.search(payload)
        self.happened["told when to come back" if found else "told to come back"] += 1
        if found:
            self.advised.append(int(found[1]))

    async def all_in(self, timeout: float) -> float:
        """Wait until all are in; give the seconds from the beginning. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while self.inside < len(self._clients):
                self._news.clear()
                await self._news.wait()
        return time.monotonic() - self._began

    async def close(self) -> None:
        """Have all of them leave."""
        self.closed = True
        for client in self._clients:
            client.drop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.sleep(0.1)


async def ask_bare(port: int, at_once: int, seconds: float) -> float:
    """Ask the CMS without a server in between, so many at once; give the answers per second."""
    body = b'{"token": "nobody"}'
    question = b"POST /connect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    answers = 0
    end = time.monotonic() + seconds

    async def ask() -> None:
        nonlocal answers
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            answers += 1
        writer.close()

    await asyncio.gather(*(ask() for _ in range(at_once)))
    return answers / seconds


async def watch_limit(port: int, seen: list[float]) -> None:
    """Look every second at how many questions the server would ask at once, until cancelled.

    There is one kind of them.
    """
    while True:
        await asyncio.sleep(1.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        found = _LIMIT.search(await reader.read())
        if found:
            seen.append(float(found[1]))
        writer.close()


async def pages(port: int, every: float, latencies: list[float]) -> None:
    """Fetch a page of the CMS again and again, until this is cancelled; note the seconds it took.

    A visitor does not wait for the one before: each has a connection of its own.
    """

    async def fetch() -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        latencies.append(time.monotonic() - began)
        writer.close()

    async with asyncio.TaskGroup() as visitors:
        while True:
            visitors.create_task(fetch())
            await asyncio.sleep(every)
