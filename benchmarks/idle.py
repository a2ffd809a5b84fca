"""What clients cost who say little: their memory, their pings, their small frames."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.figures import Figure, Scale
from twisted_push.bench.process import BenchError
from twisted_push.bench.server import running_server

__all__ = ["idle", "pings", "small_frames"]

_WARM_UP = 100
_PING_INTERVAL = 2.0
_COMMAND = '{"send":{"data":{"typing":true}}}'
"""A command that has no answer."""


def idle(scale: Scale) -> Iterator[Figure]:
    """Measure the memory of idle clients, and what stays of those who are gone."""
    count = scale.idle_connections
    figure = Figure(f"idle connection of {count:,}", "KiB resident")
    again = Figure("the same, when all left and as many came at once", "KiB resident")
    empty = Figure("the server without connections", "MiB resident")
    with running_server() as server, crowd(peers.Ours(server)) as clients:
        # What is imported or allocated once is not a connection's.
        clients.open(_WARM_UP)
        clients.close()
        server.settle()
        base = server.memory()
        empty.rounds.append(base / 1024)
        for each in (figure, again):
            clients.open(count)
            server.settle()
            each.rounds.append((server.memory() - base) / count)
            clients.close()
            server.settle()
    yield from (figure, again, empty)


def pings(scale: Scale) -> Iterator[Figure]:
    """Measure a ping of the server and the client's pong, with nothing else going on."""
    figure = Figure("ping and pong of a client", "µs CPU each")
    count = scale.idle_connections
    limits = f'ping_interval = "{_PING_INTERVAL:g}s"'
    with running_server(limits=limits) as server, crowd(peers.Ours(server)) as clients:
        clients.open(count)
        clients.heard()
        for _ in range(3):
            before = server.cpu()
            # Clients who came together are pinged together: of two rounds one is whole.
            time.sleep(2 * _PING_INTERVAL)
            used, found = server.cpu() - before, clients.heard().pings
            if found < count:
                raise BenchError(f"{found} pings of {2 * count}")
            figure.rounds.append(used / 1e3 / found)
    yield figure


def small_frames(scale: Scale) -> Iterator[Figure]:
    """Measure a client's small frame, up to its command: a pong, and one that says something.

    Each client sends one in a round, so that none comes together with another.
    """
    pong = Figure("small frame of a client: a pong", "µs CPU each")
    command = Figure("small frame of a client: a command", "µs CPU each")
    count = min(2_000, scale.idle_connections)
    with running_server() as server, crowd(peers.Ours(server)) as clients:
        clients.open(count)
        [load] = clients.crowds
        for text, figure in (("{}", pong), (_COMMAND, command)):
            for number in range(scale.rounds + 1):
                server.settle()
                before = server.cpu()
                load.ask(f"say 1 {text}")
                server.settle()
                if number:
                    figure.rounds.append((server.cpu() - before) / 1e3 / count)
    yield from (pong, command)
