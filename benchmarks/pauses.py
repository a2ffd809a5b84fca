"""As many connections as one process may have: its memory, and how long others have to wait."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.figures import DATA_SIZE, Figure, Scale
from benchmarks.load import Loop, Publishers, api_request
from benchmarks.processes import undisturbed
from twisted_push.bench.crowds import Clients
from twisted_push.bench.process import LOAD_CORE, BenchError, Child
from twisted_push.bench.publisher import message
from twisted_push.bench.server import Server, running_server

__all__ = ["pauses"]

_WATCHED = (sys.executable, "-m", "benchmarks.watched")
# The probe asks more often than a client may.
_LIMITS = "max_connections = 19900\nmax_commands_per_second = 0\n"
_KEPT = "kept:"
_HISTORY = f"""
[[sites.default.namespaces]]
prefix = "{_KEPT}"
history_size = 10
"""
_BATCH = 100
_PASSING = 50
"""Clients that come and go at a time."""


def pauses(scale: Scale) -> Iterator[Figure]:
    """Measure memory, the worst answer during a fan-out, and the collector under JSON churn."""
    count = scale.many
    with (
        running_server(limits=_LIMITS, site=_HISTORY, command=_WATCHED, talks=True) as server,
        crowd(peers.Ours(server)) as clients,
    ):
        clients.open(count)
        server.settle()
        yield Figure(f"the server with {count:,} idle", "MB resident", [server.memory() / 976.5625])
        # What was made while they came is not theirs to wait for: the collector looks once.
        server.ask("")
        yield from _waiting(server, clients, scale)
        yield from _churning(server, clients, scale)


def _waiting(server: Server, clients: Clients, scale: Scale) -> Iterator[Figure]:
    """Ask something every ms, while all others are given a message."""
    name = f"answer to another client during a fan-out to {clients.count:,}"
    worst = Figure(f"worst {name}", "ms")
    usual = Figure(f"median {name}", "ms")
    between = Figure("worst answer without a fan-out", "ms")
    ours = peers.Ours(server)
    command = [sys.executable, "-m", "benchmarks.probe", str(server.port)]
    with ExitStack() as stack:
        probe = stack.enter_context(Child(command, LOAD_CORE))
        probe.hear()
        others = [server.pid, *(crowd.pid for crowd in clients.crowds)]
        stack.enter_context(undisturbed(others, [probe.pid, os.getpid()]))
        for number in range(scale.rounds + 1):
            time.sleep(0.3)
            quiet = probe.ask("")
            clients.expect(1)
            begun = time.monotonic_ns()
            ours.publish(DATA_SIZE, 1)
            last = clients.wait()
            answers = sorted(took for at, took in probe.ask("") if begun - took <= at <= last)
            if not answers:
                raise BenchError("nobody asked during the fan-out")
            if number:
                worst.rounds.append(answers[-1] / 1e6)
                usual.rounds.append(answers[len(answers) // 2] / 1e6)
                between.rounds.append(max(took for _, took in quiet) / 1e6)
    yield from (worst, usual, between)


def _churning(server: Server, clients: Clients, scale: Scale) -> Iterator[Figure]:
    """Publish much JSON that is kept, and have clients come and go, while all are connected."""
    name = f"{clients.count:,} connections"
    longest = Figure(f"longest collection, {name}, JSON churn", "ms")
    count = Figure("collections in that time", "number")
    full = Figure(f"a full collection, {name}", "ms")
    with crowd(peers.Ours(server)) as passing:
        _churn(server, passing, 1.0)
        server.ask("")
        for _ in range(3):
            _churn(server, passing, scale.churn / 3)
            found = server.ask("")
            longest.rounds.append(found["longest_ms"])
            count.rounds.append(found["count"])
        full.rounds.append(server.ask("collect")["longest_ms"])
    yield from (longest, count, full)


def _churn(server: Server, passing: Clients, seconds: float) -> None:
    backend = Publishers(Loop(), server.port, 4)
    data = {**message(DATA_SIZE, 0), "list": [{"id": n, "tags": ["a", "b"]} for n in range(20)]}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        commands = [
            {"publish": {"channel": f"{_KEPT}{number}-{n}", "data": data}} for n in range(_BATCH)
        ]
        request = api_request(server.port, server.key, "batch", {"commands": commands})
        backend.publish(request, 20)
        passing.open(_PASSING)
        passing.close()
    backend.close()
