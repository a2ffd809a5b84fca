"""What the routes of the nodejs module have in common: a site, a call of a route, its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from attrs import define, field, frozen

from twisted_push.errors import Refused
from twisted_push.node.node import Node

__all__ = ["DONE", "MAX_CHANNELS", "Call", "Result", "Route", "Site", "failed", "missing"]

MAX_CHANNELS = 100_000
"""Most names that are noted of channels that the CMS added, for each site."""

Result = Mapping[str, object]

DONE: Result = {"status": "success"}


def failed(error: str) -> Result:
    """Give the answer of a route that did nothing."""
    return {"status": "failed", "error": error}


def missing() -> Refused:
    """Make the error of a request without what its route needs."""
    return Refused(107, "Required parameters are missing.")


@define(eq=False)
class Site:
    """One site as its CMS sees it through these routes. With ``debug`` each request is logged."""

    node: Node
    debug: bool = field(init=False, default=False)

    async def has_channel(self, name: str) -> bool:
        """Tell whether a channel was added, or somebody receives it.

        The one that broadcasts go into is none of the CMS's.
        """
        context = self.node.context
        if name in context.hub.channels and name != context.policy.site.broadcast_channel:
            return True
        return await context.engine.channel_added(name)

    async def add_channel(self, name: str) -> None:
        """Note a channel; if there are too many, the oldest is forgotten."""
        await self.node.context.engine.channel_add(name, MAX_CHANNELS)


@frozen
class Call:
    """One request for a route.

    ``params`` are the parts of the address after the route's name. ``typed`` is whether the
    request said what its body is: modules up to 7.x-1.10 do not, and know other answers. ``charge``
    takes notice of how many things it holds.
    """

    site: Site
    params: tuple[str, ...] = field(repr=False)
    body: bytes = field(repr=False)
    typed: bool
    charge: Callable[[int], None] = field(default=lambda count: None, repr=False)


@frozen
class Route:
    """One route: HTTP methods, the scope that a key needs ("" for none), and what it does.

    ``params`` says how many parts its address may have after its name.
    """

    name: str
    methods: frozenset[bytes]
    scope: str
    run: Callable[[Call], Awaitable[Result]]
    params: frozenset[int]
