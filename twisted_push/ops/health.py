"""Whether the server is alive, and whether it is ready for clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_push.node.node import Node
from twisted_push.web import answer_json

__all__ = ["Health", "Ready"]


class Health(Resource):
    """``/health``: 200 while the reactor turns."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return answer_json(request, 200, {"status": "ok"})


class Ready(Resource):
    """``/ready``: 200 when clients may be sent here, else 503 with the reasons."""

    isLeaf = True

    def __init__(self, nodes: Sequence[Node], closed: Callable[[], str]) -> None:
        super().__init__()
        self._nodes = tuple(nodes)
        self._closed = closed

    def render_GET(self, request: Request) -> bytes:
        closed = self._closed()
        reasons = [closed] if closed else []
        reasons += [
            f"{node.context.name}: {node.engine_fault}" for node in self._nodes if node.engine_fault
        ]
        if reasons:
            return answer_json(request, 503, {"status": "not ready", "reasons": reasons})
        return answer_json(request, 200, {"status": "ready"})
