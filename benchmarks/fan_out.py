"""A fan-out beside the floor and the peers, all of them with as many clients, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
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
class _Contestant:
    """A server with its clients."""

    peer: peers.Peer
    clients: Clients

    def round(self, times: int, burst: int) -> tuple[float, float]:
        """Publish so often, each time when all have the last.

        Gives µs of CPU time per delivery, and the ms until the last client had a message.
        """
        used = 0
        waits = []
        for _ in range(times):
            self.clients.expect(burst)
            before, begun = self.peer.cpu(), time.monotonic_ns()
            known = self.peer.publish(DATA_SIZE, burst)
            waits.append((self.clients.wait() - begun) / 1e6)
            time.sleep(_LINGER)
            used += self.peer.cpu() - before if known is None else known
        return used / 1e3 / (times * burst * self.clients.count), statistics.median(waits)


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
    memory = Figure(f"connection of {count:,} in a fan-out", "KiB resident")
    for name, each in contestants.items():
        if name == WITH_HISTORY:
            each.clients.open(count)
            continue
        before, used = each.peer.memory(), each.peer.cpu()
        each.clients.open(count)
        each.peer.settle()
        _put(cost, name, (each.peer.cpu() - used) / 1e3 / count)
        if name not in (peers.FLOOR, peers.PYTHON_FLOOR):
            _put(memory, name, (each.peer.memory() - before) / count)
    yield cost
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
    wall = Figure(f"{name}, from request to last receipt", "ms wall")
    for each in contestants.values():
        each.round(1, 1)
    for _ in range(scale.rounds):
        for which, each in contestants.items():
            used, waited = each.round(scale.publishes_per_round, 1)
            _put(cpu, which, used)
            _put(wall, which, waited)
    yield cpu
    yield wall


def _burst(contestants: dict[str, _Contestant], scale: Scale) -> Figure:
    figure = Figure(f"fan-out to {scale.subscribers:,}, {BURST} in one turn", "µs CPU per delivery")
    # The others have no request that publishes several; a floor for it is one send of all.
    taking_part = {OURS, WITH_HISTORY, peers.FLOOR, peers.PYTHON_FLOOR} & contestants.keys()
    for _ in range(scale.rounds):
        for which in sorted(taking_part):
            _put(figure, which, contestants[which].round(1, BURST)[0])
    return figure
