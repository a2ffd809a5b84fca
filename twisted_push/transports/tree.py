"""What a server serves, by path: for twisted.web, and for those who read requests before it."""

from __future__ import annotations

from typing import Protocol

from twisted.web.resource import Resource

from twisted_push.transports.head import Head
from twisted_push.transports.websocket import Opening

__all__ = ["Opens", "Tree"]


class Opens(Protocol):
    """An endpoint at which WebSockets are opened."""

    def opening(self, head: Head) -> Opening | None:
        """Give how a request is let in; None: twisted.web must see to it."""


class Tree:
    """Resources, by path. ``root`` has them all, as twisted.web finds them."""

    def __init__(self) -> None:
        self.root = Resource()
        self._endpoints: dict[bytes, Opens] = {}
        self._leaves: dict[bytes, Resource] = {}

    def mount(self, path: str, resource: Resource) -> None:
        """Put a resource at a path of one or more parts."""
        *parents, name = path.encode("ascii").strip(b"/").split(b"/")
        root: Resource = self.root
        for parent in parents:
            found = root.children.get(parent)
            if found is None:
                root.putChild(parent, found := Resource())
            root = found
        root.putChild(name, resource)

    def mount_leaf(self, path: str, resource: Resource) -> None:
        """Put a resource at a path and all that is below it, which needs `Asked` of a request."""
        self.mount(path, resource)
        self._leaves[b"/%b/" % path.encode("ascii").strip(b"/")] = resource

    def open_at(self, path: str, endpoint: Opens) -> None:
        """Have WebSockets be opened at a path."""
        self._endpoints[path.encode("ascii")] = endpoint

    def find_opening(self, head: Head) -> Opening | None:
        """Give how a request is let in as a WebSocket; None: twisted.web must see to it."""
        endpoint = self._endpoints.get(head.path)
        return endpoint.opening(head) if endpoint is not None else None

    def find_leaf(self, head: Head) -> tuple[Resource, list[bytes]] | None:
        """Give the leaf for a request, and the parts of the path below it; None: as above."""
        if b"%" not in head.path:
            for path, leaf in self._leaves.items():
                if head.path.startswith(path):
                    return leaf, head.path[len(path) :].split(b"/")
        return None
