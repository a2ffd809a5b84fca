"""The CMS's port in memory, and its connections: bytes that come, answers that go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.unit.node.support import World
from tests.unit.websocket_support import Port
from twisted_push.config import Config
from twisted_push.transports.door import Door
from twisted_push.transports.tree import Tree
from twisted_push.web import Asked, GuardedSite, answer

__all__ = ["Answer", "Caller", "CmsPort", "Leaf", "asking", "read_answers"]


@define
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class CmsPort(Port):
    """Serves ``leaves``, by path, on one of the paths: a connection for each request."""

    def __init__(
        self, worlds: Sequence[World], leaves: Mapping[str, Resource], limit: int, *, fast: bool
    ) -> None:
        self.fast = fast
        self.clock = worlds[0].clock
        self.door = Door([world.node for world in worlds], Config())
        self.tree = Tree()
        for path, leaf in leaves.items():
            self.tree.mount_leaf(path, leaf)
        self.site = GuardedSite(self.tree.root, self.clock, lambda: limit)

    def raw(self, request: bytes) -> Answer:
        wire = self.connect("192.168.1.1")
        wire.protocol.dataReceived(request)
        if not wire.value():
            self.clock.advance(0)  # What is large waits for its site's turn.
        head, _, body = wire.value().partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        wire.hang_up()
        assert status, "no answer"
        return Answer(int(status.split()[1]), headers, body)


class Leaf(Resource):
    """Answers with the body of a request: at once, or when it is told to, or it ``fails``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.bodies: list[bytes] = []
        self.later = self.fails = False
        self.size = 0

    def render(self, request: Asked) -> bytes | int:
        self.asked.append(request)
        self.bodies.append(request.read())
        if self.fails:
            raise ZeroDivisionError
        return NOT_DONE_YET if self.later else self._answer(request)

    def finish(self, number: int) -> None:
        """Answer the request of this number, whether there is still somebody or not."""
        request = self.asked[number]
        request.write(self._answer(request))
        request.finish()

    def _answer(self, request: Asked) -> bytes:
        return answer(request, 200, request.read() + b"." * self.size)


@define
class Caller:
    """One connection to a `Port` with the fast path. What is said is read as from a socket."""

    server: Port
    wire: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.wire = self.server.connect("192.0.2.9")

    def give(self, data: bytes) -> None:
        """Say something; without a byte, that this was all."""
        self.wire.kernel.said.append(data)
        result = self.wire.doRead()
        if result is not None:
            self.wire.connectionLost(Failure(result))

    def ask(self, body: bytes = b"", path: str = "/api/x") -> None:
        self.give(asking(body, path))

    @property
    def is_read(self) -> bool:
        """Whether more would be read from it."""
        return self.wire in self.wire.turns.readers

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        """All answers, with their bodies."""
        return read_answers(self.wire.value())

    def ended_after(self, limit: float) -> float | None:
        """Let time pass; give the seconds after which the connection was over, if it was."""
        began = self.server.clock.seconds()
        with capturedLogs():  # twisted.web tells of each.
            while not self.wire.ended and self.server.clock.seconds() < began + limit:
                self.server.clock.advance(0.5)
                self.wire.turns.turn()
        return self.server.clock.seconds() - began if self.wire.ended else None


def asking(
    body: bytes = b"", path: str = "/api/x", *lines: str, length: int | None = None
) -> bytes:
    """Give an ordinary request, with some more lines; ``length`` is what it says of its body."""
    length = len(body) if length is None else length
    head = [f"POST {path} HTTP/1.1", "Host: push.test", f"Content-Length: {length}", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def read_answers(data: bytes) -> list[tuple[int, bytes]]:
    """Read answers that tell the length of their bodies."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(lines[b"content-length"])
        assert len(rest) >= size, "it is not whole"
        found.append((int(head.split()[1]), rest[:size]))
        data = rest[size:]
    return found
