"""The door that every connection of a browser comes through, before there is a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import frozen
from twisted.logger import Logger
from twisted.web.server import Request

from twisted_push.config import Config
from twisted_push.model import ClientRequest
from twisted_push.node.node import Node
from twisted_push.web import address_of, bad_header, header

__all__ = ["Door", "Entry", "Turned"]

_FORWARDED = ("user-agent", "x-real-ip", "x-forwarded-for", "x-request-id", "origin", "cookie")
"""Headers of the browser that are kept for callbacks, besides those that a site names."""

_log = Logger()


@frozen
class Entry:
    """A request that may connect: to which site, and what its callback may be told of it."""

    node: Node
    request: ClientRequest


@frozen
class Turned(Exception):
    """A request that may not: the HTTP status and a reason that helps no attacker."""

    status: int
    reason: str


class Door:
    """Chooses the site, checks headers and origin, and counts connections of the process.

    ``closed`` says why nobody new is let in; it is empty while the server serves.
    """

    def __init__(self, nodes: Sequence[Node], config: Config) -> None:
        self._nodes = tuple(nodes)
        self.config = config
        self.closed = ""
        self._open = 0
        self._by_address: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._open

    def admit(self, request: Request, transport: str) -> Entry:
        """Let a request connect. Raises `Turned`; one line in the log says why."""
        return self._check(request, transport, new=True)

    def readmit(self, request: Request, transport: str) -> Entry:
        """Let in one more request of a client that is counted already. Raises as `admit`.

        While the server is stopping, too: such a client is yet to be told so.
        """
        return self._check(request, transport, new=False)

    def allowed_origin(self, request: Request) -> str | None:
        """Give the Origin of a request if it is one that `admit` lets in: for CORS."""
        origin, host = header(request, "Origin"), header(request, "Host")
        if not origin or not host or bad_header(request) is not None:
            return None
        for node in self._nodes:
            if node.context.policy.serves_host(host):
                return origin if node.context.policy.allows_origin(origin, host) else None
        return None

    def _check(self, request: Request, transport: str, *, new: bool) -> Entry:
        address = address_of(request, self.config.trusted_proxies)
        node = None
        try:
            if new and self.closed:
                raise Turned(503, self.closed)
            host = self._check_form(request)
            node = self._node_for(host)
            self._check_origin(node, request, host)
            if new:
                self._check_room(address)
        except Turned as turned:
            _log.info(
                "{site}: connection refused: {status} {reason}, from {address}",
                site=node.context.name if node else "-",
                status=turned.status,
                reason=turned.reason,
                address=address,
            )
            if node is not None:
                node.context.stats.refused[turned.reason] += 1
            raise
        return Entry(node, ClientRequest(transport, address, host, _kept(request, node)))

    def enter(self, entry: Entry) -> None:
        """Count a connection in."""
        self._open += 1
        self._by_address[entry.request.address] += 1

    def leave(self, entry: Entry) -> None:
        """Count it out."""
        self._open -= 1
        address = entry.request.address
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _check_form(self, request: Request) -> str:
        fault = bad_header(request)
        if fault is not None:
            raise Turned(400, fault)
        host = header(request, "Host")
        if not host:
            raise Turned(400, "no Host header")
        return host

    def _node_for(self, host: str) -> Node:
        for node in self._nodes:
            if node.context.policy.serves_host(host):
                return node
        raise Turned(421, "no site of this host name")

    def _check_origin(self, node: Node, request: Request, host: str) -> None:
        if not node.context.policy.allows_origin(header(request, "Origin"), host):
            raise Turned(403, "origin not allowed")

    def _check_room(self, address: str) -> None:
        limits = self.config.limits
        if self._open >= limits.max_connections:
            raise Turned(503, "too many connections")
        per_address = limits.max_connections_per_address
        if per_address and self._by_address[address] >= per_address:
            raise Turned(429, "too many connections from this address")


def _kept(request: Request, node: Node) -> dict[str, str]:
    """Give the headers that callbacks may forward, by lower-case name."""
    callback = node.context.policy.site.callback
    wanted = {*_FORWARDED, *(n.lower() for n in callback.forward_headers)} if callback else ()
    found = {name: header(request, name) for name in wanted}
    return {name: value for name, value in found.items() if value is not None}
