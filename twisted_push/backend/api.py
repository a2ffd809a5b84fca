"""The HTTP API: ``POST /api/<method>``, a service key in ``X-API-Key``, JSON in and out."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_push.backend.groups import Result, unavailable
from twisted_push.backend.keys import Rates, find_key
from twisted_push.backend.methods import Methods
from twisted_push.errors import EngineUnavailable, NotConnected, OutcomeUnknown, Overloaded, Refused
from twisted_push.jsontext import JsonError
from twisted_push.model import ServiceKey
from twisted_push.node.node import Node
from twisted_push.web import Asked, address_of, answer_json, bad_header, header

__all__ = ["LARGE", "RETRY_AFTER", "Api", "retry_after"]

RETRY_AFTER = b"1"
"""Seconds after which a request that the engine could not take may be tried again."""

LARGE = 32 * 1024
"""Bytes of a body from which a request waits for its site's turn: reading it takes long."""

_STATUS = {100: 500, 101: 401, 103: 403, 104: 404, 106: 413, 108: 501, 111: 429}
"""HTTP statuses of errors for those who want them (`X-Centrifugo-Error-Mode: transport`)."""

_log = Logger()


class Api(Resource):
    """All methods for all sites: the key selects the site, and bounds the ``rates``."""

    isLeaf = True

    def __init__(self, nodes: Sequence[Node], clock: IReactorTime, rates: Rates) -> None:
        super().__init__()
        self._nodes = tuple(nodes)
        self._clock = clock
        self._rates = rates
        self._methods = Methods(nodes)

    def render(self, request: Asked) -> bytes | int:
        fault = bad_header(request)
        if fault is not None:
            return self._refuse(request, 400, Refused(107, f"bad request: {fault}"))
        found = find_key(self._nodes, header(request, "X-API-Key") or "")
        if found is None:
            return self._unauthorized(request)
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")
            return self._refuse(request, 405, Refused(107, "bad request: use POST"))
        if request.too_large:
            request.setHeader(b"Connection", b"close")
            return self._refuse(request, 413, Refused(106, "limit exceeded: the body is too large"))
        pause = self._rates.take(found[1], self._clock.seconds())
        if pause:
            return self._slow_down(request, found[0], pause)
        began = self._clock.seconds()
        answering = Deferred.fromCoroutine(self._answer(request, *found))
        answering.addCallback(self._write, request)
        found[0].context.share.spend(self._clock.seconds() - began)
        return NOT_DONE_YET

    def _unauthorized(self, request: Asked) -> bytes:
        given = header(request, "X-API-Key") is not None
        why = "the key in X-API-Key is not valid" if given else "the header X-API-Key is missing"
        line = "API request refused: {why}, from {address}"
        self._nodes[0].context.book.tell(
            _log,
            "warn",
            f"API request refused: {why}",
            line,
            why=why,
            address=address_of(request, ()),
        )
        return self._refuse(request, 401, Refused(101, f"unauthorized: {why}"))

    async def _answer(self, request: Asked, node: Node, key: ServiceKey) -> bytes:
        began = self._clock.seconds()
        name = b"/".join(request.postpath or []).decode("latin-1")
        body = request.read() or b"{}"
        outcome = "ok"
        try:
            if len(body) > LARGE or not node.context.share.free:
                await node.context.share.turn()
            result = await self._methods.run(node, key, name, body)
            # Public clients of this API read the replies of a batch without the envelope.
            bare = result if name == "batch" else {}
            self._rates.charge(key, _items(result))
            return answer_json(request, 200, {"result": result, **bare})
        except JsonError as error:
            outcome = "bad_request"
            refused = Refused(107, f"bad request: {error}")
            status = 400 if error.syntax else self._status(request, refused)
            return self._refuse(request, status, refused)
        except Refused as error:
            outcome = "refused"
            return self._refuse(request, self._status(request, error), error)
        except EngineUnavailable as error:
            outcome = "unavailable"
            return self._unavailable(request, error)
        except Exception:
            outcome = "error"
            _log.failure("{site}: {method} failed", site=node.context.name, method=name)
            return self._refuse(request, 500, Refused(100))
        finally:
            stats = node.context.stats
            stats.api_requests[self._method(request), outcome] += 1
            stats.api_duration.observe(self._clock.seconds() - began)

    def _slow_down(self, request: Asked, node: Node, pause: float) -> bytes:
        request.setHeader(b"Retry-After", retry_after(pause))
        node.context.stats.api_requests[self._method(request), "limited"] += 1
        refused = Refused(111)
        return self._refuse(request, self._status(request, refused), refused)

    def _method(self, request: Asked) -> str:
        """Give the method of a request, for the metrics."""
        name = b"/".join(request.postpath or []).decode("latin-1")
        return name if name in self._methods.names else "unknown"

    def _status(self, request: Asked, error: Refused) -> int:
        if error.code == 104:
            return 404
        wanted = header(request, "X-Centrifugo-Error-Mode") == "transport"
        return _STATUS.get(error.code, 400) if wanted else 200

    def _unavailable(self, request: Asked, error: EngineUnavailable) -> bytes:
        if isinstance(error, NotConnected | Overloaded | OutcomeUnknown):
            request.setHeader(b"Retry-After", RETRY_AFTER)
        return answer_json(request, 503, unavailable(error))

    def _refuse(self, request: Asked, status: int, error: Refused) -> bytes:
        return answer_json(request, status, {"error": {"code": error.code, "message": error.text}})

    def _write(self, body: bytes, request: Asked) -> None:
        if not request.gone:
            request.write(body)
            request.finish()


def retry_after(pause: float) -> bytes:
    """Give a header's value for some seconds: whole ones, at least one."""
    return b"%d" % max(1, ceil(pause))


def _items(result: Result) -> int:
    """Give how many things were done by one request."""
    items = result.get("replies", result.get("responses"))
    return len(items) if isinstance(items, list) else 1
