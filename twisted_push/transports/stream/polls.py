"""Long polling, the last resort: requests that wait until there is something to tell.

A client begins with a POST of its first commands. That is answered as soon as there is something,
and each answer is followed by the next POST, which says how many answers came: the ``cursor``. So
an answer that got lost on its way is given again, and nothing is lost between two polls.

While no poll is parked the session is paused: what it is sent stays in its own bounded outbox, from
which what must not go out any more is still taken.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from io import BytesIO
from typing import cast

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, ITransport
from twisted_push.jsontext import JsonError, decoder
from twisted_push.session import Session
from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.transports.stream.connection import (
    AcceptStream,
    Connections,
    find,
    place_of,
    unknown_session,
)
from twisted_push.transports.stream.pages import respond, turn_away
from twisted_push.transports.timers import call_off
from twisted_push.web import GuardedRequest, answer, answer_later
from twisted_push.wires import NO_DESCRIPTOR

__all__ = ["POLL", "PollConnection", "PollEndpoint"]

POLL = "poll"
"""How `ClientRequest.transport` says it."""

ANSWER_SIZE = 65536
"""Bytes after which nothing more is put into an answer."""

ABSENCE = 15.0
"""Seconds that a client has for reading an answer and polling again, before it counts as gone."""

CUT = 5.0
"""Seconds that it has after a poll that was cut: mostly because its page was closed."""


class _Poll(Struct):
    """A poll after the first one. ``cursor`` is the number of answers that came."""

    session: str
    cursor: int
    node: str = ""


_read_poll: Callable[[bytes], _Poll] = decoder(_Poll)


class Phase(Enum):
    """Where a connection stands."""

    OPEN = "open"
    CLOSING = "closing"
    """The last word waits for a poll."""
    ENDED = "ended"


@implementer(ITransport)
class PollConnection:
    """One client that polls: the transport of its session, over all of its requests.

    It stands in ``connections`` from `open` to the end. ``_waiting`` is what goes into the next
    answer; ``_last`` is the answer before, until the client says that it came, and ``_channels``
    are those that the client had then.
    """

    session: Session
    descriptor = NO_DESCRIPTOR

    def __init__(
        self, entry: Entry, *, connections: Connections, door: Door, clock: IReactorTime
    ) -> None:
        self.request = entry.request
        self._entry = entry
        self._connections = connections
        self._door = door
        self._clock = clock
        self._phase = Phase.OPEN
        self._parked: Request | None = None
        self._collecting = False
        self._waiting: list[bytes] = []
        self._size = 0
        self._answers = 0
        self._last: bytes | None = None
        self._channels: frozenset[str] = frozenset()
        self._giving_up: IDelayedCall | None = None

    def open(self, accept: AcceptStream, web: Request, commands: bytes) -> None:
        """Make the session and give it the first commands, which are the first poll, too."""
        self.session = accept(self._entry.node, self)
        self._connections[place_of(self._entry, self.session)] = self
        self._door.enter(self._entry)
        self._park(web)
        self._collect(lambda: self.session.received(commands))

    # --- Outward: `ITransport` ---------------------------------------------------------------

    def send(self, frame: Buffer) -> None:
        if self._phase is not Phase.OPEN:
            return
        self._waiting.append(bytes(frame))
        self._size += len(frame)
        if self.session.closed:
            return  # The end follows, and goes into the same answer.
        if self._collecting:
            if self._size >= ANSWER_SIZE:
                self.session.pause()
        elif self._parked is not None:
            self._answer()

    def unsent(self) -> int:
        return 0  # What is told is an answer, and that is whole.

    def close(self, disconnect: Disconnect) -> None:
        if self._phase is not Phase.OPEN:
            return
        self._phase = Phase.CLOSING
        if self._parked is not None and not self._collecting:
            self._answer()
        elif self._giving_up is None:
            self._give_up_later()

    def abort(self) -> None:
        parked, self._parked = self._parked, None
        self._end()
        if parked is not None:
            cast("ITCPTransport", parked.transport).abortConnection()

    # --- Inward: polls -----------------------------------------------------------------------

    def poll(self, web: Request, cursor: int) -> None:
        """Answer a poll with what there is, or park it. Raises `Turned` for a wrong cursor.

        One that is parked already is turned away: its client has given it up.
        """
        self.session.alive()
        if not self.session.allow_frame() and self._phase is Phase.ENDED:
            raise Turned(404, "unknown session")
        lost = self._last if cursor == self._answers - 1 else None
        if lost is None and cursor != self._answers:
            self._entry.node.finish(self.session, Disconnect(3010), "a poll with a wrong cursor")
            raise Turned(409, "wrong cursor")
        if lost is not None and not self._channels <= self.session.subscriptions.keys():
            # That may be in it: the client comes back, and recovers what is still its own.
            self._entry.node.finish(
                self.session, Disconnect(3010), "a lost answer, and a lost channel"
            )
        if self._parked is not None:
            parked, self._parked = self._parked, None
            self._reply(parked, 409, b"another poll came\n")
        self._park(web)
        if lost is not None and self._phase is Phase.OPEN:
            self._give(lost)
            return
        self._last = None
        self._collect(self.session.resume)

    def _park(self, web: Request) -> None:
        self._stop_timer()
        self._parked = web
        web.notifyFinish().addErrback(self._lost, web)

    def _collect(self, act: Callable[[], None]) -> None:
        """Have all that is sent at once go into one answer."""
        if self._phase is Phase.OPEN:
            self._collecting = True
            act()
            self._collecting = False
        if self._parked is not None and (self._waiting or self._phase is Phase.CLOSING):
            self._answer()

    def _lost(self, failure: Failure, web: Request) -> None:
        """Take notice that a poll was cut: its client may come with another one."""
        if web is self._parked:
            self._parked = None
            self.session.pause()
            self._give_up_later(CUT)

    def _answer(self) -> None:
        """Answer the parked poll with what waits. The last word is also the end."""
        self._last = b"".join(self._waiting)
        self._channels = frozenset(self.session.subscriptions)
        self._waiting.clear()
        self._size = 0
        self._answers += 1
        self._give(self._last)
        if self._phase is Phase.CLOSING:
            self._end()

    def _give(self, text: bytes) -> None:
        """Give the parked poll an answer, and stop the session until the next one comes."""
        web, self._parked = self._parked, None
        assert web is not None
        if self._phase is Phase.OPEN:
            self.session.pause()
            self._give_up_later()
        self._reply(web, 200, text, "application/x-ndjson")

    def _reply(self, web: Request, status: int, text: bytes, kind: str = "text/plain") -> None:
        body = answer(web, status, text, kind)
        web.setHeader(b"Cache-Control", b"no-store, no-transform")
        web.setHeader(b"X-Accel-Buffering", b"no")
        answer_later(web, body, self._clock)

    # --- The end -----------------------------------------------------------------------------

    def _give_up_later(self, seconds: float = ABSENCE) -> None:
        self._stop_timer()
        self._giving_up = self._clock.callLater(seconds, self._end)

    def _stop_timer(self) -> None:
        call_off(self._giving_up)
        self._giving_up = None

    def _end(self) -> None:
        """Free everything, whatever the cause; the session is over."""
        if self._phase is Phase.ENDED:
            return
        self._phase = Phase.ENDED
        self._stop_timer()
        del self._connections[place_of(self._entry, self.session)]
        self._door.leave(self._entry)
        self.session.lost()


class PollEndpoint(Resource):
    """The address to which clients poll: `/connection/poll`.

    Only the first poll needs room; the door looks at each.
    """

    isLeaf = True

    def __init__(
        self, door: Door, accept: AcceptStream, connections: Connections, clock: IReactorTime
    ) -> None:
        super().__init__()
        self._door = door
        self._accept = accept
        self._connections = connections
        self._clock = clock

    def render(self, request: Request) -> bytes | int:
        return respond(request, self._door, b"POST", self._take)

    def _take(self, request: Request) -> int:
        body = cast("BytesIO", request.content).read()
        try:
            poll = _read_poll(body)
        except JsonError:  # These are commands, then.
            self._begin(request, body)
        else:
            self._go_on(request, poll)
        return NOT_DONE_YET

    def _begin(self, request: Request, commands: bytes) -> None:
        entry = self._door.admit(request, POLL)
        most = self._door.config.limits.max_message_size
        if cast("GuardedRequest", request).too_large or len(commands) > most:
            raise turn_away(entry, 413, "too large a message")
        if not commands:
            raise turn_away(entry, 400, "no first commands")
        connection = PollConnection(
            entry, connections=self._connections, door=self._door, clock=self._clock
        )
        connection.open(self._accept, request, commands)

    def _go_on(self, request: Request, poll: _Poll) -> None:
        """Give a poll to its client. Raises `Turned`."""
        entry = self._door.readmit(request, POLL)
        found = find(self._connections, entry, poll.session, poll.node)
        if not isinstance(found, PollConnection):
            raise unknown_session(entry)
        found.poll(request, poll.cursor)
