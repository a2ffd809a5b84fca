"""A flood on one site, until this process is ended: what `fairness` measures another one beside.

    python -m benchmarks.flood KIND PORT KEY

When it is under way it prints the number of connections that it has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from benchmarks.figures import DATA_SIZE
from benchmarks.load import Crowd, Loop, Publishers, api_request
from twisted_push.bench.publisher import message
from twisted_push.bench.server import CHANNEL

__all__ = ["FLOODS"]

_STORM = 400
_MANY = 5_000
_BATCH = 10_000


def _begin(connections: int) -> None:
    print(connections, flush=True)


def _publishes(port: int, key: str) -> NoReturn:
    """Publish over 64 connections, as fast as each is answered."""
    loop = Loop()
    publishers = Publishers(loop, port, 64)
    body = {"channel": CHANNEL, "data": message(DATA_SIZE, 0)}
    request = api_request(port, key, "publish", body)
    _begin(64)
    while True:
        publishers.publish(request, 640)


def _batches(port: int, key: str) -> NoReturn:
    """Publish batches of 10,000 over four connections."""
    loop = Loop()
    publishers = Publishers(loop, port, 4)
    command = {"publish": {"channel": CHANNEL, "data": 1}}
    request = api_request(port, key, "batch", {"commands": [command] * _BATCH})
    _begin(4)
    while True:
        publishers.publish(request, 4)


def _fan_outs(port: int, key: str) -> NoReturn:
    """Publish to 5,000 clients over eight connections, as fast as each is answered."""
    loop = Loop()
    crowd = Crowd(loop, port)
    crowd.open([None] * _MANY)
    publishers = Publishers(loop, port, 8)
    body = {"channel": CHANNEL, "data": message(DATA_SIZE, 0)}
    request = api_request(port, key, "publish", body)
    _begin(_MANY)
    while True:
        publishers.publish(request, 8)


def _connects(port: int, key: str) -> NoReturn:
    """Connect hundreds of clients at once, drop them, and again."""
    loop = Loop()
    crowd = Crowd(loop, port)
    crowd.window = _STORM
    _begin(_STORM)
    while True:
        crowd.open([None] * _STORM)
        crowd.close()


def _lists(port: int, key: str) -> NoReturn:
    """Look up all connections of 5,000 over four connections, again and again."""
    loop = Loop()
    crowd = Crowd(loop, port)
    crowd.open([None] * _MANY)
    publishers = Publishers(loop, port, 4)
    request = api_request(port, key, "connections", {})
    _begin(_MANY)
    while True:
        publishers.publish(request, 4)


FLOODS: dict[str, Callable[[int, str], NoReturn]] = {
    "publishes": _publishes,
    "batches of 10,000": _batches,
    "fan-outs to 5,000": _fan_outs,
    "connects, 400 at once": _connects,
    "lists of 5,000 connections": _lists,
}

if __name__ == "__main__":
    os.nice(10)  # What is measured beside it goes first.
    kind, port_text, key_text = sys.argv[1:]
    FLOODS[kind](int(port_text), key_text)
