"""Commands of one client are carried out one after the other, in their order.

So answers that depend on each other keep theirs. What waits is bounded, in number and in bytes.
Where the site has had its share of the time they wait for its turn, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred

from twisted_push.errors import Disconnect
from twisted_push.node.node import Node
from twisted_push.session import Session

__all__ = ["MAX_WAITING_BYTES", "Work"]

MAX_WAITING_BYTES = 1024 * 1024
"""Most bytes of commands that wait for one client; ``limits.max_pending_commands`` is their number.

A stranger may make them wait for as long as the CMS takes.
"""

_C = TypeVar("_C")


class _Waiting(deque[Any]):
    """Commands with their sizes, and the sum of these."""

    size = 0


class Work(Generic[_C]):
    """Has the commands of the clients of one node carried out by ``carry_out``.

    That raises nothing but CancelledError, when its session is finished meanwhile. What is under
    way and what waits is kept by each session: ``work`` and ``waiting``.
    """

    def __init__(self, node: Node, carry_out: Callable[[Session, _C], Awaitable[None]]) -> None:
        self._node = node
        self._carry_out = carry_out

    def take(self, session: Session, command: _C, size: int) -> None:
        """Begin with a command of ``size`` bytes, or have it wait for those before it."""
        if session.work is None:
            clock, share = self._node.context.clock, self._node.context.share
            began = clock.seconds()
            self._start(session, command)
            share.spend(clock.seconds() - began)
            return
        if session.waiting is None:
            session.waiting = _Waiting()
        waiting = cast("_Waiting", session.waiting)
        waiting.append((command, size))
        waiting.size += size
        most = self._node.context.policy.limits.max_pending_commands
        if len(waiting) > most or waiting.size > MAX_WAITING_BYTES:
            self._node.finish(session, Disconnect(3013), "too many commands wait")

    def _start(self, session: Session, command: _C) -> None:
        work = Deferred.fromCoroutine(self._work(session, command))
        if not work.called:
            session.work = work

    async def _work(self, session: Session, command: _C) -> None:
        """Carry out a command and those that came meanwhile."""
        share = self._node.context.share
        try:
            if not share.free:
                await share.turn()
            await self._carry_out(session, command)
            if session.waiting:
                await self._carry_out_those_behind(session)
        except CancelledError:
            pass  # The session was finished meanwhile.
        finally:
            session.work = session.waiting = None

    async def _carry_out_those_behind(self, session: Session) -> None:
        pace = self._node.context.share.pace()
        while session.waiting and not session.closed:
            waiting = cast("_Waiting", session.waiting)
            command, size = waiting.popleft()
            waiting.size -= size
            await self._carry_out(session, command)
            await pace.keep()
