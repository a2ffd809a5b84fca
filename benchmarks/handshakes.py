"""What a new connection costs: anonymous, with a known grant, with a question to the CMS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.figures import Figure, Scale
from benchmarks.server import running_server
from twisted_push.bench.crowds import HELLO, READY, Clients
from twisted_push.bench.process import LOAD_CORE, SERVER_CORE, BenchError, Child

__all__ = ["handshakes"]

_KNOWN = '{"id":1,"connect":{"token":"the same for all"}}'
_ASKED = '{"id":1,"connect":{"token":"token-#"}}'
_WARM_UP = 50


class _PythonFloor:
    """An accept and two canned answers, in Python."""

    hello = HELLO
    ready = READY

    def __init__(self, child: Child) -> None:
        self.child = child
        self.url = f"ws://127.0.0.1:{child.hear()}/"
        self.cpu = child.cpu
        self.memory = child.memory
        self.settle = child.settle

    def publish(self, size: int, burst: int) -> int | None:
        raise NotImplementedError


def handshakes(scale: Scale) -> Iterator[Figure]:
    """Measure it; a connection that the client drops, too."""
    count = scale.handshakes
    unit = "µs CPU per connection"
    anonymous = Figure("handshake and connect, anonymous", unit)
    known = Figure("handshake and connect, known grant", unit)
    asked = Figure("handshake and connect, answered callback", unit)
    callback = Figure("callback to the CMS through treq", "µs CPU per call")
    gone = Figure("connection closed by the client", unit)
    with ExitStack() as stack:
        cms = stack.enter_context(Child(_python("benchmarks.cms"), LOAD_CORE))
        server = stack.enter_context(running_server(cms.hear()))
        ours = peers.Ours(server)
        child = stack.enter_context(Child(_python("benchmarks.floor", "websocket"), SERVER_CORE))
        floor = _PythonFloor(child)
        without, same, new = (
            stack.enter_context(crowd(ours, hello)) for hello in (HELLO, _KNOWN, _ASKED)
        )
        bare = stack.enter_context(crowd(floor))
        for clients in (without, same, new):
            _connect(ours, clients, _WARM_UP)
        for _ in range(scale.rounds):
            questions = cms.ask("")
            cpu, close_cpu = _connect(ours, without, count)
            anonymous.rounds.append(cpu)
            gone.rounds.append(close_cpu)
            known.rounds.append(_connect(ours, same, count)[0])
            if cms.ask("") != questions:
                raise BenchError("the CMS was asked about a grant that is known")
            asked.rounds.append(_connect(ours, new, count)[0])
            if cms.ask("") != questions + count:
                raise BenchError("the CMS was not asked once for every token")
            callback.rounds.append(asked.rounds[-1] - known.rounds[-1])
            cpu, close_cpu = _connect(floor, bare, count)
            for figure in (anonymous, known, asked):
                figure.floor.append(cpu)
            gone.floor.append(close_cpu)
    yield from (anonymous, known, asked, callback, gone)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _connect(server: peers.Peer, clients: Clients, count: int) -> tuple[float, float]:
    """Connect clients and drop them; give µs per connection for each."""
    before = server.cpu()
    clients.open(count)
    opened = server.cpu()
    clients.close()
    server.settle()
    return (opened - before) / 1e3 / count, (server.cpu() - opened) / 1e3 / count
