"""What is measured, and how: see README.md for how to read it."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Crowd, Loop, Publishers, api_request, crowd
from benchmarks.processes import LOAD_CORE, SERVER_CORE, BenchmarkError, Child
from benchmarks.server import CHANNEL, Server, running_server

__all__ = ["FULL", "PARTS", "SHORT", "Figure", "Scale", "measure"]

PARTS = ("fan-out", "memory", "handshake", "publish")
BURST = 16
DATA_SIZE = 200


@dataclass(frozen=True)
class Scale:
    """How much is done. Rounds are what medians are taken of."""

    time_limit: int
    """Of everything, in seconds."""
    rounds: int
    deliveries: int
    """Per round of a fan-out."""
    idle_connections: int
    idle_rounds: int
    handshakes: int
    """Per round."""
    publishes: int
    """Per round."""


SHORT = Scale(
    time_limit=120,
    rounds=5,
    deliveries=10_000,
    idle_connections=5_000,
    idle_rounds=1,
    handshakes=200,
    publishes=500,
)
FULL = Scale(
    time_limit=900,
    rounds=15,
    deliveries=40_000,
    idle_connections=5_000,
    idle_rounds=5,
    handshakes=500,
    publishes=3_000,
)


@dataclass(frozen=True)
class Figure:
    """One thing that was measured: a value per round, and per round of the floor beside it."""

    name: str
    unit: str
    rounds: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)


def measure(scale: Scale, parts: Sequence[str]) -> Iterator[Figure]:
    """Measure the parts, one after the other."""
    # Pauses of the load's own garbage collector would stretch the wall times.
    gc.disable()
    if "fan-out" in parts:
        yield from _fan_out(scale, 1_000)
        yield from _fan_out(scale, 5_000)
    if "memory" in parts:
        yield from _memory(scale)
    if "handshake" in parts:
        yield from _handshakes(scale)
    if "publish" in parts:
        yield from _publishing(scale)


def _params() -> dict[str, object]:
    """Give the parameters of a publish whose data are 200 bytes of JSON text."""
    empty = len(json.dumps({"text": ""}, separators=(",", ":")))
    return {"channel": CHANNEL, "data": {"text": "x" * (DATA_SIZE - empty)}}


def _publish_request(server: Server) -> bytes:
    return api_request(server.port, server.key, "publish", _params())


def _burst_request(server: Server) -> bytes:
    body = {"commands": [{"publish": _params()}] * BURST}
    return api_request(server.port, server.key, "batch", body)


@contextlib.contextmanager
def _publishers(loop: Loop, port: int, connections: int = 1) -> Iterator[Publishers]:
    found = Publishers(loop, port, connections)
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def _floor(kind: str) -> Iterator[tuple[Child, int]]:
    """Run a floor on the server's core; give it and its port."""
    with Child(["-m", "benchmarks.floor", kind], SERVER_CORE) as floor:
        yield floor, floor.listen()


# --- Fan-out -------------------------------------------------------------------------------


def _fan_out(scale: Scale, subscribers: int) -> Iterator[Figure]:
    loop = Loop()
    with (
        running_server() as server,
        _floor("fan") as (floor, floor_port),
        crowd(loop, server.port) as clients,
        crowd(loop, floor_port, speaks=False) as bare,
        _publishers(loop, server.port) as backend,
    ):
        clients.open([None] * subscribers)
        bare.open([None] * subscribers)
        push = _Push(server, clients, backend, subscribers)
        sends = _Sends(floor, bare, subscribers)
        count = scale.deliveries // subscribers
        request = _publish_request(server)
        push.round(request, 1)
        sends.round(clients.sample, 1)

        single = Figure(f"fan-out to {subscribers:,}", "µs CPU per delivery")
        wall = Figure(f"fan-out to {subscribers:,}, from request to last receipt", "ms wall")
        burst = Figure(f"fan-out to {subscribers:,}, {BURST} at once", single.unit)
        text = clients.sample
        for _ in range(scale.rounds):
            cpu, seconds = push.round(request, count)
            single.rounds.append(cpu)
            wall.rounds.append(seconds * 1e3 / count)
            cpu, seconds = sends.round(text, count)
            single.floor.append(cpu)
            wall.floor.append(seconds * 1e3 / count)
        yield single
        yield wall
        request = _burst_request(server)
        for _ in range(scale.rounds):
            cpu, _ = push.round(request, max(1, count // 4), BURST)
            burst.rounds.append(cpu)
        yield burst


@dataclass(frozen=True)
class _Push:
    """Publishing through the server, each time when all have got the last."""

    server: Server
    clients: Crowd
    backend: Publishers
    subscribers: int

    def round(self, request: bytes, count: int, burst: int = 1) -> tuple[float, float]:
        """Send a request with ``burst`` messages so often; give µs per delivery, and seconds."""
        deliveries = self.subscribers * burst
        begun = time.monotonic()
        before = self.server.cpu()
        for _ in range(count):
            expected = self.clients.messages + deliveries
            self.backend.publish(request)
            self.clients.wait_for(expected)
        used = self.server.cpu() - before
        return used / 1e3 / (count * deliveries), time.monotonic() - begun


@dataclass(frozen=True)
class _Sends:
    """The same with a loop of sends."""

    floor: Child
    clients: Crowd
    subscribers: int

    def round(self, text: bytes, count: int) -> tuple[float, float]:
        """Send a text to all so often; give µs per delivery, and seconds."""
        used = 0
        begun = time.monotonic()
        for _ in range(count):
            expected = self.clients.messages + self.subscribers
            self.floor.tell(text)
            self.clients.wait_for(expected)
            used += self.floor.listen()
        return used / 1e3 / (count * self.subscribers), time.monotonic() - begun


# --- Memory --------------------------------------------------------------------------------


def _memory(scale: Scale) -> Iterator[Figure]:
    count = scale.idle_connections
    idle = Figure(f"idle connection of {count:,}", "KiB resident")
    again = Figure("the same, when all left and as many came at once", "KiB resident")
    empty = Figure("the server without connections", "MiB resident")
    for _ in range(scale.idle_rounds):
        loop = Loop()
        with running_server() as server, crowd(loop, server.port) as clients:
            # What is imported or allocated once is not a connection's.
            clients.open([None] * 100)
            clients.close()
            server.settle()
            base = server.memory()
            empty.rounds.append(base / 1024)
            for figure in (idle, again):
                clients.open([None] * count)
                server.settle()
                figure.rounds.append((server.memory() - base) / count)
                clients.close()
                server.settle()
    yield from (idle, again, empty)


# --- Handshakes ----------------------------------------------------------------------------


def _handshakes(scale: Scale) -> Iterator[Figure]:
    loop = Loop()
    count = scale.handshakes
    unit = "µs CPU per connection"
    anonymous = Figure("handshake and connect, anonymous", unit)
    known = Figure("handshake and connect, known grant", unit)
    asked = Figure("handshake and connect, answered callback", unit)
    gone = Figure("connection closed by the client", unit)
    with (
        Child(["-m", "benchmarks.cms"], LOAD_CORE) as cms,
        running_server(cms.listen()) as server,
        _floor("websocket") as (floor, floor_port),
        crowd(loop, server.port) as clients,
        crowd(loop, floor_port) as bare,
    ):
        _connect(server, clients, ["same", *(f"warm-{n}" for n in range(50))])
        for number in range(scale.rounds):
            questions = _questions(cms)
            cpu, close_cpu = _connect(server, clients, [None] * count)
            anonymous.rounds.append(cpu)
            gone.rounds.append(close_cpu)
            cpu, _ = _connect(server, clients, ["same"] * count)
            known.rounds.append(cpu)
            if _questions(cms) != questions:
                raise BenchmarkError("the CMS was asked about a grant that is known")
            tokens = [f"token-{number}-{n}" for n in range(count)]
            cpu, _ = _connect(server, clients, tokens)
            asked.rounds.append(cpu)
            if _questions(cms) != questions + count:
                raise BenchmarkError("the CMS was not asked once for every token")
            cpu, close_cpu = _connect(floor, bare, [None] * count)
            for figure in (anonymous, known, asked):
                figure.floor.append(cpu)
            gone.floor.append(close_cpu)
    yield from (anonymous, known, asked, gone)


def _questions(cms: Child) -> int:
    cms.tell(b"")
    return cms.listen()


def _connect(server: Child, clients: Crowd, tokens: Sequence[str | None]) -> tuple[float, float]:
    """Connect clients and drop them; give µs per connection for each."""
    before = server.cpu()
    clients.open(tokens)
    opened = server.cpu()
    clients.close()
    server.settle()
    return (opened - before) / 1e3 / len(tokens), (server.cpu() - opened) / 1e3 / len(tokens)


# --- Publishing ----------------------------------------------------------------------------


def _publishing(scale: Scale) -> Iterator[Figure]:
    loop = Loop()
    count = scale.publishes
    with (
        running_server() as server,
        _floor("http") as (floor, floor_port),
        crowd(loop, server.port) as receiver,
    ):
        receiver.open([None])
        request = _publish_request(server)
        for connections in (1, 8):
            name = f"publish to 1 receiver, {connections} connection{'s'[: connections - 1]}"
            rate = Figure(name, "per second")
            cost = Figure(name, "µs CPU per publish")
            with (
                _publishers(loop, server.port, connections) as backend,
                _publishers(loop, floor_port, connections) as bare,
            ):
                expected = receiver.messages + 100
                _publish(server, backend, request, 100)
                receiver.wait_for(expected)
                _publish(floor, bare, request, 100)
                for _ in range(scale.rounds):
                    expected = receiver.messages + count
                    cpu, seconds = _publish(server, backend, request, count)
                    cost.rounds.append(cpu)
                    rate.rounds.append(count / seconds)
                    receiver.wait_for(expected)
                    cpu, seconds = _publish(floor, bare, request, count)
                    cost.floor.append(cpu)
                    rate.floor.append(count / seconds)
            yield rate
            yield cost


def _publish(server: Child, backend: Publishers, request: bytes, count: int) -> tuple[float, float]:
    """Publish so often; give µs per publish, and seconds."""
    before = server.cpu()
    begun = time.monotonic()
    backend.publish(request, count)
    return (server.cpu() - before) / 1e3 / count, time.monotonic() - begun
