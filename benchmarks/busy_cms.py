"""A stub of a CMS with a few workers, as a process: each question and each page takes one of them.

``python -m benchmarks.busy_cms`` prints its port, then answers each line of its standard input,
which is JSON, with a line; it ends with its input. An object of settings changes them: ``workers``,
``takes`` (seconds of a worker for a question or a page), ``dead`` (it refuses connections, and
those that are open are cut), ``retry_after`` (it answers questions 503 with that many seconds, at
once and without a worker; 0: no more), ``forget_most``. ``null`` changes nothing. The answer is
what happened so far: see `Told`.

A question lets everybody in who has a token, as a user of that name.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

_END_OF_HEAD = b"\r\n\r\n"


@dataclass
class Told:
    """What happened so far. ``most`` is how many questions were open at once."""

    questions: int = 0
    answered: int = 0
    most: int = 0
    refused: int = 0
    """Questions that were answered 503."""
    early: int = 0
    """Questions that came before the end of a Retry-After."""


@dataclass
class _Cms:
    workers: int = 5
    takes: float = 0.05
    retry_after: float = 0.0
    told: Told = field(default_factory=Told)
    busy: int = 0
    open: int = 0
    alone_until: float = 0.0
    queue: deque[_Connection] = field(default_factory=deque)
    connections: set[_Connection] = field(default_factory=set)
    server: asyncio.Server | None = None
    port: int = 0

    def take(self, connection: _Connection) -> None:
        """Take in a request that is complete: a worker takes it now or in its turn."""
        if connection.is_question:
            self.told.questions += 1
            if time.monotonic() < self.alone_until:
                self.told.early += 1
            if self.retry_after:
                self.told.refused += 1
                self.alone_until = max(self.alone_until, time.monotonic() + self.retry_after)
                connection.answer(503, b"", b"Retry-After: %d\r\n" % self.retry_after)
                return
            self.open += 1
            self.told.most = max(self.told.most, self.open)
        self.queue.append(connection)
        self.work()

    def work(self) -> None:
        """Give the workers that are free something to do."""
        while self.queue and self.busy < self.workers:
            self.busy += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self.takes, self.done, self.queue.popleft())

    def done(self, connection: _Connection) -> None:
        """Answer, and go on with the next."""
        self.busy -= 1
        if connection.is_question:
            self.open -= 1
            self.told.answered += 1
            token = json.loads(connection.body)["token"]
            connection.answer(200, json.dumps({"result": {"user": token}}).encode())
        else:
            connection.answer(200, b"{}")
        self.work()

    async def set(self, settings: dict[str, Any]) -> None:
        """Change settings."""
        dead = settings.pop("dead", None)
        if settings.pop("forget_most", False):
            self.told.most = 0
        for name, value in settings.items():
            setattr(self, name, value)
        if dead:
            assert self.server is not None
            self.server.close()
            for connection in tuple(self.connections):
                connection.cut()
        elif dead is not None:
            await self.listen()

    async def listen(self) -> None:
        """Take connections, at the port that it had."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self.port = self.server.sockets[0].getsockname()[1]


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    _transport: asyncio.Transport
    is_question = False
    body = b""

    def __init__(self, cms: _Cms) -> None:
        self._cms = cms
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._cms.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cms.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, end, body = self._rest.partition(_END_OF_HEAD)
        if not end:
            return
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b":", 1) for line in lines[1:] if b":" in line)
        if len(body) < int(fields.get(b"content-length", b"0")):
            return
        self._rest = b""
        self.is_question, self.body = lines[0].startswith(b"POST "), body
        self._cms.take(self)

    def answer(self, status: int, body: bytes, more: bytes = b"") -> None:
        """Answer the request."""
        self._transport.write(
            b"HTTP/1.1 %d Whatever\r\nContent-Type: application/json\r\n%b"
            b"Content-Length: %d\r\n\r\n%b" % (status, more, len(body), body)
        )

    def cut(self) -> None:
        """Break the connection."""
        self._transport.abort()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    cms = _Cms()
    await cms.listen()
    print(cms.port, flush=True)
    # The thread that waits for input does not keep the process: it ends with the input.
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        settings = json.loads(line)
        if settings:
            await cms.set(settings)
        print(json.dumps(asdict(cms.told)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
