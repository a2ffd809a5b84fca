"""How many connections there may be: in the process, of each site, and from each address.

Where there are several sites, a part of the room is kept for each: however many come to one of
them, every other one still takes in so many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted_push.config import Limits
from twisted_push.node.node import Node

__all__ = ["KEPT", "Room"]

KEPT = 0.1
"""Part of all connections that is kept for the sites, in equal parts, where there are several."""


class Room:
    """Counts connections. ``limits`` are those of the process."""

    def __init__(self, nodes: Sequence[Node], limits: Limits) -> None:
        self._sites = len(nodes)
        self._open: dict[Node, int] = dict.fromkeys(nodes, 0)
        self._by_address: Counter[str] = Counter()
        self.connections = 0
        self.limits = limits

    @property
    def limits(self) -> Limits:
        """The limits of the process."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._part = int(limits.max_connections * KEPT / self._sites) if self._sites > 1 else 0
        self._kept = sum(map(self._kept_for, self._open))

    def of(self, node: Node) -> int:
        """Give how many connections a site has."""
        return self._open[node]

    def fault(self, node: Node, address: str) -> tuple[int, str] | None:
        """Say why there is no room for one more: an HTTP status and a reason. None if there is."""
        free = self._limits.max_connections - self.connections
        if free <= 0:
            return 503, "too many connections"
        own = node.context.policy.site.limits.max_connections
        if own and self._open[node] >= own:
            return 503, "too many connections of this site"
        if not self._kept_for(node) and free <= self._kept:
            return 503, "too many connections of this site"
        each = self._limits.max_connections_per_address
        if each and self._by_address[address] >= each:
            return 429, "too many connections from this address"
        return None

    def enter(self, node: Node, address: str) -> None:
        """Count a connection in."""
        self._count(node, 1)
        self._by_address[address] += 1

    def leave(self, node: Node, address: str) -> None:
        """Count it out."""
        self._count(node, -1)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _count(self, node: Node, change: int) -> None:
        before = self._kept_for(node)
        self._open[node] += change
        self.connections += change
        self._kept += self._kept_for(node) - before

    def _kept_for(self, node: Node) -> int:
        """Give how many connections are kept for a site, and not taken yet."""
        own = node.context.policy.site.limits.max_connections
        part = min(self._part, own) if own else self._part
        return max(0, part - self._open[node])
