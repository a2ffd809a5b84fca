"""A fan-out beside the floor and the peers, all of them with as many clients, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.c_programs import compiler, program
from benchmarks.figures import BURST, DATA_SIZE, Figure, Scale
from twisted_push.bench.crowds import PYTHON, WINDOW, Clients, Crowd
from twisted_push.bench.process import LOAD_CORE
from twisted_push.bench.server import running_server

__all__ = ["OURS", "WITH_HISTORY", "crowd", "fan_out"]

OURS = "twisted_push"
WITH_HISTORY = "history on"
_HISTORY = """
[[sites.default.namespaces]]
prefix = ""
history_size = 100
recover = true
"""

PERCENTILES = (50, 90, 99)
"""Of the latencies of deliveries, from the request to publish on."""

_LINGER = 0.01
"""Seconds after the last receipt in which a server ends its work."""


def crowd(peer: peers.Peer, hello: str | None = None) -> Clients:
    """Give clients for a server, in C if there is a compiler."""
    command = [program("load")] if compiler() else PYTHON
    hello = peer.hello if hello is None else hello
    return Clients(
        [Crowd(peer.url, hello=hello, ready=peer.ready, core=LOAD_CORE, command=command)]
    )


@dataclass(frozen=True)
class _Round:
    """What some publishes took: µs of CPU time per delivery, deliveries per second, and ms.

    ``wait`` is until the last client had a message, ``latencies`` until so many percent had it.
    """

    cpu: float
    rate: float
    wait: float
    latencies: Sequence[float]


@dataclass(frozen=True)
class _Contestant:
    """A server with its clients."""

    peer: peers.Peer
    clients: Clients

    def round(self, times: int, burst: int) -> _Round:
        """Publish so often, each time when all have the last."""
        used = 0
        waits = []
        for _ in range(times):
            self.clients.expect(burst)
            before, begun = self.peer.cpu(), time.monotonic_ns()
            known = self.peer.publish(DATA_SIZE, burst)
            waits.append((self.clients.wait() - begun) / 1e6)
            time.sleep(_LINGER)
            used += self.peer.cpu() - before if known is None else known
        latency = self.clients.heard().latency
        wait = statistics.median(waits)
        return _Round(
            cpu=used / 1e3 / (times * burst * self.clients.count),
            rate=burst * self.clients.count / wait * 1e3,
            wait=wait,
            latencies=[latency.percentile(percent) for percent in PERCENTILES],
        )


def fan_out(scale: Scale) -> Iterator[Figure]:
    """Measure it, and what a connection and its memory cost each of them."""
    count = scale.subscribers
    with ExitStack() as stack:
        ours = peers.Ours(stack.enter_context(running_server()))
        with_history = peers.Ours(stack.enter_context(running_server(site=_HISTORY)))
        others = {name: stack.enter_context(peers.running_peer(name)) for name in peers.present()}
        all_of_them = {OURS: ours, WITH_HISTORY: with_history, **others}
        contestants = {
            name: _Contestant(peer, stack.enter_context(crowd(peer)))
            for name, peer in all_of_them.items()
        }
        yield from _opened(contestants, count)
        yield from _single(contestants, scale)
        yield _burst(contestants, scale)


def _opened(contestants: dict[str, _Contestant], count: int) -> Iterator[Figure]:
    """Connect all clients: what that costs, and what stays."""
    cost = Figure(f"handshake, {count:,} at {WINDOW} a time", "µs CPU per connection")
    rate = Figure(f"handshake, {count:,} at {WINDOW} a time", "connections per second")
    memory = Figure(f"connection of {count:,} in a fan-out", "KiB resident")
    for name, each in contestants.items():
        if name == WITH_HISTORY:
            each.clients.open(count)
            continue
        before, used = each.peer.memory(), each.peer.cpu()
        _put(rate, name, count / each.clients.open(count))
        each.peer.settle()
        _put(cost, name, (each.peer.cpu() - used) / 1e3 / count)
        if name not in (peers.FLOOR, peers.PYTHON_FLOOR):
            _put(memory, name, (each.peer.memory() - before) / count)
    yield cost
    yield rate
    yield memory


def _put(figure: Figure, name: str, value: float) -> None:
    if name == OURS:
        figure.rounds.append(value)
    elif name == peers.FLOOR:
        figure.floor.append(value)
    else:
        figure.peers.setdefault(name, []).append(value)


def _single(contestants: dict[str, _Contestant], scale: Scale) -> Iterator[Figure]:
    name = f"fan-out to {scale.subscribers:,}"
    cpu = Figure(name, "µs CPU per delivery")
    rate = Figure(name, "deliveries per second")
    latencies = [Figure(f"{name}, {percent} % within", "ms wall") for percent in PERCENTILES]
    wall = Figure(f"{name}, from request to last receipt", "ms wall")
    for each in contestants.values():
        each.round(1, 1)
    for _ in range(scale.rounds):
        for which, each in contestants.items():
            took = each.round(scale.publishes_per_round, 1)
            _put(cpu, which, took.cpu)
            _put(rate, which, took.rate)
            _put(wall, which, took.wait)
            for figure, latency in zip(latencies, took.latencies, strict=True):
                _put(figure, which, latency)
    yield from (cpu, rate, *latencies, wall)


def _burst(contestants: dict[str, _Contestant], scale: Scale) -> Figure:
    figure = Figure(f"fan-out to {scale.subscribers:,}, {BURST} in one turn", "µs CPU per delivery")
    # The others have no request that publishes several; a floor for it is one send of all.
    taking_part = {OURS, WITH_HISTORY, peers.FLOOR, peers.PYTHON_FLOOR} & contestants.keys()
    for _ in range(scale.rounds):
        for which in sorted(taking_part):
            _put(figure, which, contestants[which].round(1, BURST).cpu)
    return figure
