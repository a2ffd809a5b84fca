"""Two servers on one port and two cores (SO_REUSEPORT), against one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.figures import DATA_SIZE, Figure, Scale
from benchmarks.processes import undisturbed
from twisted_push.bench.crowds import Clients
from twisted_push.bench.process import LOAD_CORE, SERVER_CORE, BenchError
from twisted_push.bench.server import free_port, running_server

__all__ = ["workers"]


@dataclass(frozen=True)
class _Group:
    """Servers on one port, and their clients."""

    servers: list[peers.Ours]
    clients: Clients
    pids: list[int]

    def publish(self, times: int) -> float:
        """Publish to all servers at once, so often; give deliveries per second."""
        seconds = 0.0
        for _ in range(times):
            self.clients.expect(1)
            # The answers come when the deliveries are on their way: nobody waits for another's.
            each = [
                threading.Thread(target=one.publish, args=(DATA_SIZE, 1)) for one in self.servers
            ]
            begun = time.monotonic_ns()
            for thread in each:
                thread.start()
            seconds += (self.clients.wait() - begun) / 1e9
            for thread in each:
                thread.join()
        return times * self.clients.count / seconds


def workers(scale: Scale) -> Iterator[Figure]:
    """Measure deliveries per second of two workers; the floor is one worker."""
    figure = Figure(f"2 workers on 2 cores, fan-out to {scale.subscribers:,}", "deliveries/s")
    if SERVER_CORE == LOAD_CORE:
        raise BenchError("two workers need two cores")
    with ExitStack() as stack:
        one = _group(stack, [SERVER_CORE], scale.subscribers)
        two = _group(stack, [SERVER_CORE, LOAD_CORE], scale.subscribers)
        for group in (one, two):
            group.publish(1)
        stack.enter_context(undisturbed([*one.pids, *two.pids], [os.getpid()]))
        for _ in range(scale.rounds):
            figure.floor.append(one.publish(scale.publishes_per_round))
            figure.rounds.append(two.publish(scale.publishes_per_round))
    yield figure


def _group(stack: ExitStack, cores: list[int], clients: int) -> _Group:
    port = free_port()
    servers = [
        stack.enter_context(
            running_server(top="reuse_port = true\n", port=port, api_port=free_port(), core=core)
        )
        for core in cores
    ]
    ours = [peers.Ours(server) for server in servers]
    found = stack.enter_context(crowd(ours[0]))
    for each in found.crowds:
        # Both cores do the work of both sides, where there are two of them.
        os.sched_setaffinity(each.pid, {SERVER_CORE, LOAD_CORE})
    found.open(clients)
    pids = [process.pid for process in (*servers, *found.crowds)]
    return _Group(ours, found, pids)
