"""The door that every connection of a browser comes through, before there is a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from attrs import frozen
from twisted.logger import Logger

from twisted_push.config import Config
from twisted_push.model import ClientRequest
from twisted_push.node.node import Node
from twisted_push.policy import host_name
from twisted_push.transports.room import Room
from twisted_push.web import Asking, address_of, bad_header, header

__all__ = ["Door", "Entry", "Turned"]

_NONE_KEPT: Mapping[str, str] = {}

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
        self._of_host = {host: node for node in nodes for host in node.context.policy.site.hosts}
        self._of_any = next((n for n in nodes if not n.context.policy.site.hosts), None)
        self.room = Room(nodes, config.limits)
        self.config = config
        self.closed = ""
        self._host = ""
        self._nodes = nodes

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self.room.connections

    def apply(self, config: Config) -> None:
        """Take a configuration that was read again."""
        self.config = config
        self.room.limits = config.limits

    def look(self, request: Asking, transport: str, *, new: bool = True) -> Entry | None:
        """Give what `admit` would (or `readmit`, if it is not ``new``); None, untold, if it raised.

        For those who leave it to others to refuse.
        """
        try:
            return self._find(request, transport, new=new)
        except Turned:
            return None

    def admit(self, request: Asking, transport: str) -> Entry:
        """Let a request connect. Raises `Turned`; one line in the log says why."""
        return self._check(request, transport, new=True)

    def readmit(self, request: Asking, transport: str) -> Entry:
        """Let in one more request of a client that is counted already. Raises as `admit`.

        While the server is stopping, too: such a client is yet to be told so.
        """
        return self._check(request, transport, new=False)

    def allowed_origin(self, request: Asking) -> str | None:
        """Give the Origin of a request if it is one that `admit` lets in: for CORS."""
        origin, host = header(request, "Origin"), header(request, "Host")
        if not origin or not host or bad_header(request) is not None:
            return None
        try:
            policy = self._node_for(host).context.policy
        except Turned:
            return None
        return origin if policy.allows_origin(origin, host) else None

    def _check(self, request: Asking, transport: str, *, new: bool) -> Entry:
        try:
            return self._find(request, transport, new=new)
        except Turned as turned:
            self._tell(request, turned)
            raise

    def _find(self, request: Asking, transport: str, *, new: bool) -> Entry:
        if new and self.closed:
            raise Turned(503, self.closed)
        host = _host(request)
        if host == self._host:
            host = self._host  # One text for the many who ask for the same.
        self._host = host
        node = self._node_for(host)
        self._check_origin(node, request, host)
        address = address_of(request, self.config.trusted_proxies)
        if new:
            fault = self.room.fault(node, address)
            if fault is not None:
                raise Turned(*fault)
        return Entry(node, ClientRequest(transport, address, host, _kept(request, node)))

    def _tell(self, request: Asking, turned: Turned) -> None:
        node = None
        if turned.reason != self.closed:
            with suppress(Turned):
                node = self._node_for(_host(request))
        site = node.context.name if node else "-"
        self._nodes[0].context.book.tell(
            _log,
            "info",
            f"{site}: connection refused: {turned.status} {turned.reason}",
            "{site}: connection refused: {status} {reason}, from {address}",
            site=site,
            status=turned.status,
            reason=turned.reason,
            address=address_of(request, self.config.trusted_proxies),
        )
        if node is not None:
            node.context.stats.refused[turned.reason] += 1

    def enter(self, entry: Entry) -> None:
        """Count a connection in."""
        self.room.enter(entry.node, entry.request.address)

    def leave(self, entry: Entry) -> None:
        """Count it out."""
        self.room.leave(entry.node, entry.request.address)

    def _node_for(self, host: str) -> Node:
        node = self._of_host.get(host_name(host), self._of_any)
        if node is None:
            raise Turned(421, "no site of this host name")
        return node

    def _check_origin(self, node: Node, request: Asking, host: str) -> None:
        if not node.context.policy.allows_origin(header(request, "Origin"), host):
            raise Turned(403, "origin not allowed")


def _host(request: Asking) -> str:
    """Give the host that a request is for. Raises `Turned` where its headers have a fault."""
    fault = bad_header(request)
    if fault is not None:
        raise Turned(400, fault)
    host = header(request, "Host")
    if not host:
        raise Turned(400, "no Host header")
    return host


def _kept(request: Asking, node: Node) -> Mapping[str, str]:
    """Give the headers that the callback forwards, by lower-case name, for as long as it may."""
    callback = node.context.policy.site.callback
    if callback is None or callback.dialect != "connect":
        return _NONE_KEPT
    names = [name.lower() for name in callback.forward_headers]
    found = {name: value for name in names if (value := header(request, name)) is not None}
    return found or _NONE_KEPT
