"""What a publish by HTTP costs, with one receiver."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.figures import DATA_SIZE, Figure, Scale
from benchmarks.load import Loop, Publishers, api_request
from benchmarks.processes import Child
from twisted_push.bench import process
from twisted_push.bench.process import SERVER_CORE
from twisted_push.bench.publisher import message
from twisted_push.bench.server import CHANNEL, Server, running_server

__all__ = ["BATCH", "durability", "publishing"]

BATCH = 20
_WARM_UP = 100
_MANY = 32
_HISTORY = """
[[sites.default.namespaces]]
prefix = ""
history_size = 100
"""
_JOURNALS = {
    "no journal": "",
    **{
        f"durability {each}": f'state_dir = "state"\ndurability = "{each}"\n'
        for each in ("none", "write", "commit")
    },
}


def publishing(scale: Scale) -> Iterator[Figure]:
    """Measure it over one keep-alive connection and over eight, and 20 messages in a batch."""
    with (
        running_server() as server,
        Child(["-m", "benchmarks.floor", "http"], SERVER_CORE) as floor,
        crowd(peers.Ours(server)) as receiver,
    ):
        receiver.open(1)
        run = _Run(server, floor, floor.listen(), Loop(), scale)
        single = {"channel": CHANNEL, "data": message(DATA_SIZE, 0)}
        request = api_request(server.port, server.key, "publish", single)
        for connections in (1, 8):
            name = f"publish to 1 receiver, {connections} connection{'s'[: connections - 1]}"
            yield from run.measure(name, request, connections)
        body = {"commands": [{"publish": single}] * BATCH}
        request = api_request(server.port, server.key, "batch", body)
        yield from run.measure(f"publish in batches of {BATCH}", request, 1, BATCH)


def durability(scale: Scale) -> Iterator[Figure]:
    """Measure publishes that are kept, by 32 connections, with and without a journal."""
    for name, top in _JOURNALS.items():
        rate = Figure(f"publish, {name}, {_MANY} connections", "messages per second")
        p99 = Figure(f"publish, {name}, 99 % answered within", "ms")
        with (
            running_server(top=top, site=_HISTORY) as server,
            _publishers(Loop(), server.port, _MANY) as backend,
        ):
            params = {"channel": "kept", "data": message(DATA_SIZE, 0)}
            request = api_request(server.port, server.key, "publish", params)
            _publish(server, backend, request, _WARM_UP)
            for _ in range(scale.rounds):
                backend.waits.clear()
                _, seconds = _publish(server, backend, request, scale.publishes)
                rate.rounds.append(scale.publishes / seconds)
                p99.rounds.append(sorted(backend.waits)[len(backend.waits) * 99 // 100] / 1e6)
        yield rate
        yield p99


class _Run:
    """The server, and beside it a floor that answers all with one canned response."""

    def __init__(
        self, server: Server, floor: Child, floor_port: int, loop: Loop, scale: Scale
    ) -> None:
        self._server = server
        self._floor = floor
        self._floor_port = floor_port
        self._loop = loop
        self._scale = scale

    def measure(
        self, name: str, request: bytes, connections: int, batch: int = 1
    ) -> Iterator[Figure]:
        """Give the rate and the cost of messages that are sent so."""
        rate = Figure(name, "messages per second")
        cost = Figure(name, "µs CPU per message")
        count = self._scale.publishes // batch
        with (
            _publishers(self._loop, self._server.port, connections) as backend,
            _publishers(self._loop, self._floor_port, connections) as bare,
        ):
            _publish(self._server, backend, request, _WARM_UP // batch)
            _publish(self._floor, bare, request, _WARM_UP // batch)
            for _ in range(self._scale.rounds):
                cpu, seconds = _publish(self._server, backend, request, count)
                cost.rounds.append(cpu / batch)
                rate.rounds.append(count * batch / seconds)
                cpu, seconds = _publish(self._floor, bare, request, count)
                cost.floor.append(cpu / batch)
                rate.floor.append(count * batch / seconds)
        yield rate
        yield cost


@contextlib.contextmanager
def _publishers(loop: Loop, port: int, connections: int) -> Iterator[Publishers]:
    found = Publishers(loop, port, connections)
    try:
        yield found
    finally:
        found.close()


def _publish(
    server: process.Child, backend: Publishers, request: bytes, count: int
) -> tuple[float, float]:
    """Publish so often; give µs per request, and seconds."""
    before = server.cpu()
    begun = time.monotonic()
    backend.publish(request, count)
    return (server.cpu() - before) / 1e3 / count, time.monotonic() - begun
