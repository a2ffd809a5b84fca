"""What is measured, one part after the other: connections, deliveries, deliveries at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from twisted_push.bench import process
from twisted_push.bench.crowds import Clients
from twisted_push.bench.histogram import Histogram
from twisted_push.bench.publisher import Publisher, Steady

__all__ = ["BUSY", "WAITED", "Plan", "measure"]

BUSY = 0.8
"""The part of the time from which the load counts as what was measured."""

WAITED = 0.1
"""The part of the time from which other work on the machine counts as measured, too."""

PERCENTILES = (50, 90, 99, 99.9, 100)
_WARM_UP = 3
_LINGER = 0.2
"""Seconds in which a delivery too many would come."""

Part = dict[str, Any]


@frozen(kw_only=True)
class Plan:
    """How much is done. ``pid`` is the server's process, if it is on this machine."""

    channel: str
    clients: int
    messages: int
    size: int
    """Of the data of a message, in bytes."""
    burst: int
    """Messages in one request."""
    rate: float
    """Requests per second of the part at a rate; 0: there is none."""
    pid: int | None


def measure(
    plan: Plan, clients: Clients, publisher: Publisher, tell: Callable[[str], None]
) -> dict[str, Part]:
    """Do it all, and give the figures by part; raise BenchError."""
    tell(f"connecting {plan.clients:,} clients")
    parts = {"connections": _connections(plan, clients)}
    for _ in range(_WARM_UP):
        _publish(plan, clients, publisher)
    clients.heard()
    tell(f"publishing {plan.messages} times, each when all have the last")
    parts["deliveries"] = _watched(plan, clients, lambda: _closed_loop(plan, clients, publisher))
    if plan.rate:
        tell(f"publishing {plan.messages} times at {plan.rate:g} per second")
        parts["at a rate"] = _watched(plan, clients, lambda: _open_loop(plan, clients, publisher))
    return parts


def _connections(plan: Plan, clients: Clients) -> Part:
    if plan.pid is not None:
        before, used = process.memory(plan.pid), process.cpu(plan.pid)
    else:
        before = used = 0
    # Who answers has started: what that cost does not count, and they begin at the same time.
    clients.heard()
    waited = _waited(plan, clients)
    seconds = clients.open(plan.clients)
    part: Part = {
        "count": plan.clients,
        "per_second": plan.clients / seconds,
        "load_busy": _busy(clients.heard().cpu, seconds, clients),
        "waited": (_waited(plan, clients) - waited) / 1e9 / seconds,
    }
    if plan.pid is not None:
        process.settle(plan.pid)
        part["cpu_us"] = (process.cpu(plan.pid) - used) / 1e3 / plan.clients
        part["kib"] = (process.memory(plan.pid) - before) / plan.clients
    return part


def _publish(plan: Plan, clients: Clients, publisher: Publisher) -> float:
    """Publish once, wait until all have it, and give the seconds that it took."""
    clients.expect(plan.burst)
    begun = publisher.publish(plan.channel, plan.size, plan.burst)
    return (clients.wait() - begun) / 1e9


def _closed_loop(plan: Plan, clients: Clients, publisher: Publisher) -> Part:
    seconds = sum(_publish(plan, clients, publisher) for _ in range(plan.messages))
    return {"per_second": plan.messages * plan.burst * plan.clients / seconds}


def _open_loop(plan: Plan, clients: Clients, publisher: Publisher) -> Part:
    """Publish at a steady rate, whether or not the last was delivered."""
    steady = Steady(publisher.another)

    def publish(each: Publisher, due: float) -> None:
        # One that is late has waited since it was due.
        each.publish(plan.channel, plan.size, plan.burst, int(due * 1e9))

    clients.expect(plan.burst * plan.messages)
    begun = steady.publish(plan.rate, plan.messages, publish)
    seconds = clients.wait() / 1e9 - begun
    return {
        "per_second": plan.messages * plan.burst * plan.clients / seconds,
        "published_late_ms": steady.late * 1e3,
        "under_way": steady.under_way,
    }


def _watched(plan: Plan, clients: Clients, part: Callable[[], Part]) -> Part:
    """Do a part, and add what it cost and how long messages took."""
    begun = time.monotonic()
    used = 0 if plan.pid is None else process.cpu(plan.pid)
    waited = _waited(plan, clients)
    found = part()
    seconds = time.monotonic() - begun
    waited = _waited(plan, clients) - waited
    time.sleep(_LINGER)
    heard = clients.heard()
    expected = plan.messages * plan.burst * plan.clients
    if heard.messages != expected:
        raise process.BenchError(f"{heard.messages - expected} deliveries too many")
    if plan.pid is not None:
        found["cpu_us"] = (process.cpu(plan.pid) - used) / 1e3 / expected
    return {
        "count": expected,
        **found,
        "latency_ms": _latency(heard.latency),
        "load_busy": _busy(heard.cpu, seconds, clients),
        "waited": waited / 1e9 / seconds,
    }


def _latency(latency: Histogram) -> dict[str, float]:
    names = {percent: f"p{percent:g}" for percent in PERCENTILES} | {100: "max"}
    return {name: latency.percentile(percent) for percent, name in names.items()}


def _waited(plan: Plan, clients: Clients) -> int:
    """Give how long the server waited for a processor; where it is unknown, how long the load."""
    if plan.pid is not None:
        return process.waited(plan.pid)
    return max(process.waited(crowd.pid) for crowd in clients.crowds)


def _busy(cpu: int, seconds: float, clients: Clients) -> float:
    """Give which part of the time the load worked, of as many cores as it has processes."""
    return cpu / 1e9 / seconds / len(clients.crowds)
