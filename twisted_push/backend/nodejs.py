"""The HTTP API that Drupal's nodejs module knows: ``/nodejs/…``, a key in ``NodejsServiceKey``.

Source: the specification of the module and its server, section 1. Nearly every answer has status
200, with ``error`` where something is wrong: the modules tell no more from another status than
that there was none of the expected. Each route is there by the methods of all generations of the
module, which once asked by GET for what they post today.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_push.backend import nodejs_messages as messages
from twisted_push.backend import nodejs_users as users
from twisted_push.backend.api import LARGE, RETRY_AFTER, retry_after
from twisted_push.backend.calls import Call, Result, Route, Site
from twisted_push.backend.keys import Rates, find_key
from twisted_push.errors import EngineUnavailable, Refused
from twisted_push.jsontext import JsonError
from twisted_push.model import ServiceKey
from twisted_push.node.node import Node
from twisted_push.web import (
    Asked,
    address_of,
    answer,
    answer_json,
    bad_header,
    header,
)

__all__ = ["ROUTES", "NodejsRoutes"]

_POST = frozenset({b"POST"})
_BOTH = frozenset({b"GET", b"POST"})

_ALL = (
    Route("publish", _POST, "publish", messages.publish, frozenset({0})),
    Route("content/token", _POST, "manage", messages.content_token, frozenset({0})),
    Route("content/token/message", _POST, "publish", messages.content_message, frozenset({0})),
    Route("content/token/users", _POST, "read", messages.content_users, frozenset({0})),
    Route("user/kick", _BOTH, "manage", users.kick, frozenset({1})),
    Route("user/logout", _BOTH, "manage", users.logout, frozenset({1})),
    Route("user/channel/add", _BOTH, "manage", users.add_to_user, frozenset({2})),
    Route("user/channel/remove", _BOTH, "manage", users.remove_from_user, frozenset({2})),
    Route("user/presence-list", _BOTH, "manage", users.see, frozenset({1, 2})),
    Route("authtoken/channel/add", _BOTH, "manage", users.add_to_token, frozenset({2})),
    Route("authtoken/channel/remove", _BOTH, "manage", users.remove_from_token, frozenset({2})),
    Route("channel/add", _BOTH, "manage", users.add_channel, frozenset({1})),
    Route("channel/check", _BOTH, "read", users.check_channel, frozenset({1})),
    Route("channel/remove", _BOTH, "manage", users.remove_channel, frozenset({1})),
    # Asked before anything else, whatever the key is for.
    Route("health/check", _BOTH, "", users.health, frozenset({0})),
    Route("debug/toggle", _POST, "manage", users.toggle_debug, frozenset({0})),
    Route("stats/server", _BOTH, "read", users.stats_server, frozenset({0})),
    Route("stats/channels", _BOTH, "read", users.stats_channels, frozenset({0})),
    Route("stats/users", _BOTH, "read", users.stats_users, frozenset({0})),
)

ROUTES = {tuple(route.name.split("/")): route for route in _ALL}
"""All routes, by the parts of their names."""

_log = Logger()


@frozen
class _Answer:
    """An answer: its status, what it came to for the metrics, and its body."""

    status: int
    outcome: str
    body: Result


class NodejsRoutes(Resource):
    """All routes for all sites: the key selects the site."""

    isLeaf = True

    def __init__(self, nodes: Sequence[Node], clock: IReactorTime, rates: Rates) -> None:
        super().__init__()
        self._rates = rates
        self._sites = {node: Site(node) for node in nodes}
        self._clock = clock
        self._book = nodes[0].context.book

    def render(self, request: Asked) -> bytes | int:
        fault = bad_header(request)
        if fault is not None:
            return answer_json(request, 400, {"error": f"bad request: {fault}"})
        found = find_key(self._sites, header(request, "NodejsServiceKey") or "")
        if found is None:
            return self._unauthorized(request)
        if request.too_large:
            request.setHeader(b"Connection", b"close")
            return answer_json(request, 413, {"error": "The request is too large."})
        pause = self._rates.take(found[1], self._clock.seconds())
        if pause:
            request.setHeader(b"Retry-After", retry_after(pause))
            found[0].context.stats.api_requests["nodejs", "limited"] += 1
            return answer_json(request, 200, {"error": "Too many requests."})
        began = self._clock.seconds()
        answering = Deferred.fromCoroutine(self._answer(request, *found))
        answering.addCallback(self._write, request)
        found[0].context.share.spend(self._clock.seconds() - began)
        return NOT_DONE_YET

    def _unauthorized(self, request: Asked) -> bytes:
        given = header(request, "NodejsServiceKey")
        why = "the key in NodejsServiceKey is not valid" if given else "there is no key"
        self._book.tell(
            _log,
            "warn",
            f"nodejs request refused: {why}",
            "nodejs request refused: {why}, from {address}",
            why=why,
            address=address_of(request, ()),
        )
        return answer_json(request, 200, {"error": "Invalid service key."})

    async def _answer(self, request: Asked, node: Node, key: ServiceKey) -> bytes:
        began = self._clock.seconds()
        site = self._sites[node]
        route, params = _find(request)
        name = f"nodejs/{route.name if route else 'unknown'}"
        if route is None:
            answered = _Answer(404, "refused", {})
            body = answer(request, 404, b"Not Found.")
        else:
            given = request.read() or b"{}"
            typed = header(request, "Content-Type") is not None
            call = Call(site, params, given, typed, partial(self._rates.charge, key))
            answered = await self._carry_out(route, call, key)
            if answered.outcome == "unavailable":
                request.setHeader(b"Retry-After", RETRY_AFTER)
            body = answer_json(request, answered.status, answered.body)
        took = self._clock.seconds() - began
        stats = node.context.stats
        stats.api_requests[name, answered.outcome] += 1
        stats.api_duration.observe(took)
        if site.debug:
            _log_request(node, request, name, answered, took)
        return body

    async def _carry_out(self, route: Route, call: Call, key: ServiceKey) -> _Answer:
        context = call.site.node.context
        try:
            if len(call.body) > LARGE or not context.share.free:
                await context.share.turn()
            if route.scope:
                context.policy.check_scope(key, route.scope)
            result = await route.run(call)
        except JsonError as error:
            return _Answer(400, "bad_request", {"error": f"bad request: {error}"})
        except Refused as error:
            return _Answer(200, "refused", {"error": error.text})
        except EngineUnavailable:
            return _Answer(503, "unavailable", {"error": "the engine is not available"})
        except Exception:
            _log.failure("{site}: nodejs/{route} failed", site=context.name, route=route.name)
            return _Answer(500, "error", {"error": "internal server error"})
        return _Answer(200, "refused" if "error" in result else "ok", result)

    def _write(self, body: bytes, request: Asked) -> None:
        if not request.gone:
            request.write(body)
            request.finish()


def _find(request: Asked) -> tuple[Route | None, tuple[str, ...]]:
    """Give the route of a request and its parameters; None if there is none.

    Slashes that stand beside each other, or at the end, count as one or none.
    """
    parts = tuple(part.decode("utf-8", "replace") for part in request.postpath or () if part)
    for length in range(len(parts), 0, -1):
        route = ROUTES.get(parts[:length])
        if route is None:
            continue
        params = parts[length:]
        if len(params) in route.params and request.method in route.methods:
            return route, params
    return None, ()


def _log_request(node: Node, request: Asked, name: str, answered: _Answer, took: float) -> None:
    """Log what was asked, without what addresses and bodies say of users and tokens."""
    _log.info(
        "{site}: {method} {route}: {status} {outcome} in {took:.3f} s",
        site=node.context.name,
        method=request.method.decode("latin-1"),
        route=name,
        status=answered.status,
        outcome=answered.outcome,
        took=took,
    )
