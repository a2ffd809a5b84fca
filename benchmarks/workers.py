"""Two servers on one port and two cores (SO_REUSEPORT), against one."""

from __future__ import annotations

import os
import signal
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


_STILL = 0.01
"""Seconds without work after which a server is done."""


@dataclass(frozen=True)
class _Group:
    """Servers on one port, and their clients."""

    servers: list[peers.Ours]
    clients: Clients
    pids: list[int]

    def publish(self, times: int) -> float:
        """Publish to all servers at once, so often; give deliveries per second."""
        seconds = sum(self._once() for _ in range(times))
        return times * self.clients.count / seconds

    def _once(self) -> float:
        """Publish, and give the seconds until all was sent."""
        loads = [crowd.pid for crowd in self.clients.crowds]
        self.clients.expect(1)
        # The clients stand still meanwhile, and what they get waits in the kernel: the cores are
        # the servers' alone, whether that is one of them or both.
        for pid in loads:
            os.kill(pid, signal.SIGSTOP)
        # The answers come when the deliveries are on their way: nobody waits for another's.
        each = [threading.Thread(target=one.publish, args=(DATA_SIZE, 1)) for one in self.servers]
        begun = time.monotonic()
        for thread in each:
            thread.start()
        seconds = self._until_still() - begun
        for pid in loads:
            os.kill(pid, signal.SIGCONT)
        for thread in each:
            thread.join()
        self.clients.wait()
        return seconds

    def _until_still(self) -> float:
        """Wait until no server works any more, and give since when."""
        used, since = 0, time.monotonic()
        while time.monotonic() - since < _STILL:
            time.sleep(_STILL / 20)
            now = sum(server.cpu() for server in self.servers)
            if now > used:
                used, since = now, time.monotonic()
        return since


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
    found.open(clients)
    return _Group(ours, found, [server.pid for server in servers])
