"""Whose key a request brings: it selects the site; and how often it may come."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define

from twisted_push.model import ServiceKey
from twisted_push.node.node import Node
from twisted_push.policy import key_digest

__all__ = ["Rates", "find_key"]


def find_key(nodes: Iterable[Node], presented: str) -> tuple[Node, ServiceKey] | None:
    """Give the site of a key, and the key; None if it is nobody's, or empty.

    Every site is asked, so that time tells nothing.
    """
    found = None
    digest = key_digest(presented)
    for node in nodes:
        key = node.context.policy.service_key(digest)
        if key is not None:
            found = (node, key)
    return found if presented else None


@define
class _Allowance:
    """What a key may do at a time; below 0 after a large batch."""

    left: float
    at: float


class Rates:
    """How many requests each key may make, in bursts of twice its rate.

    A batch may be larger than what is left; the key then waits until that is made up for.
    """

    def __init__(self) -> None:
        self._allowances: dict[bytes, _Allowance] = {}

    def take(self, key: ServiceKey, now: float) -> float:
        """Take one request; give the seconds after which to try again if there is none left."""
        if not key.rate:
            return 0.0
        burst = 2.0 * key.rate
        allowance = self._allowances.get(key.digest)
        if allowance is None:
            allowance = self._allowances[key.digest] = _Allowance(burst, now)
        gained = max(0.0, now - allowance.at) * key.rate
        allowance.left, allowance.at = min(burst, allowance.left + gained), now
        if allowance.left < 1.0:
            return (1.0 - allowance.left) / key.rate
        allowance.left -= 1.0
        return 0.0

    def charge(self, key: ServiceKey, count: int) -> None:
        """Take what a request held more than one of."""
        if key.rate and count > 1:
            self._allowances[key.digest].left -= count - 1
