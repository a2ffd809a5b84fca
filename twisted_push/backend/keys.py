"""Whose key a request brings: it selects the site."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_push.model import ServiceKey
from twisted_push.node.node import Node

__all__ = ["find_key"]


def find_key(nodes: Iterable[Node], presented: str) -> tuple[Node, ServiceKey] | None:
    """Give the site of a key, and the key; None if it is nobody's, or empty.

    Every site is asked, so that time tells nothing.
    """
    found = None
    for node in nodes:
        key = node.context.policy.service_key(presented)
        if key is not None:
            found = (node, key)
    return found if presented else None
