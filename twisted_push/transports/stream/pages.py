"""Which pages may make a request and read its answer (CORS), and how others are turned away."""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.server import Request

from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.web import answer

__all__ = ["no_content", "respond", "turn_away"]

PREFLIGHT_TTL = 600
"""Seconds for which a browser need not ask again whether its page may send a request."""


def respond(
    request: Request, door: Door, method: bytes, handle: Callable[[Request], bytes | int]
) -> bytes | int:
    """Have a request of the one method that is allowed handled.

    Others are turned away, as are those for which ``handle`` raises `Turned`.
    """
    _allow_page(request, door)
    try:
        if request.method == b"OPTIONS":
            door.readmit(request, "preflight")
            return _preflight(request, method)
        if request.method != method:
            request.setHeader(b"Allow", method + b", OPTIONS")
            raise Turned(405, "this method is not allowed here")
        return handle(request)
    except Turned as turned:
        if turned.status in (429, 503):
            request.setHeader(b"Retry-After", b"5")
        return answer(request, turned.status, turned.reason.encode("ascii") + b"\n")


def turn_away(entry: Entry, status: int, reason: str) -> Turned:
    """Give what is raised for a request that the door let in, counted and with a line in the log.

    ``reason`` is one of a few: it is a label of a metric.
    """
    entry.node.context.stats.refused[reason] += 1
    entry.node.log_refusal(entry.request, status, reason)
    return Turned(status, reason)


def no_content(request: Request) -> bytes:
    """Answer that all is well, and nothing else."""
    request.setResponseCode(204)
    request.setHeader(b"Cache-Control", b"no-store")
    return b""


def _allow_page(request: Request, door: Door) -> None:
    """Let the page that asks read the answer, if its origin may connect."""
    request.setHeader(b"Vary", b"Origin")
    origin = door.allowed_origin(request)
    if origin is not None:
        request.setHeader(b"Access-Control-Allow-Origin", origin.encode("latin-1"))
        request.setHeader(b"Access-Control-Allow-Credentials", b"true")


def _preflight(request: Request, method: bytes) -> bytes:
    """Say what a page of an allowed origin may send."""
    request.setHeader(b"Access-Control-Allow-Methods", method)
    request.setHeader(b"Access-Control-Allow-Headers", b"Content-Type")
    request.setHeader(b"Access-Control-Max-Age", b"%d" % PREFLIGHT_TTL)
    return no_content(request)
