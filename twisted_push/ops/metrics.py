"""``/metrics`` for Prometheus: the counters of each site, read when asked.

Labels are sites and small closed sets, never channels, users or addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_push.cms.breaker import Circuit
from twisted_push.cms.entrance import Entrance
from twisted_push.errors import CLOSE_REASONS, ERROR_MESSAGES
from twisted_push.node.node import Node
from twisted_push.stats import DURATION_BUCKETS, Durations, SiteStats
from twisted_push.web import answer

__all__ = ["Metrics", "SiteCollector"]


def _known(counts: Mapping[int, int], codes: Mapping[int, str]) -> Mapping[str, int]:
    """Give counts by code; those of codes that only a CMS uses together, as ``other``."""
    named: Counter[str] = Counter()
    for code, count in counts.items():
        named[str(code) if code in codes or code == 0 else "other"] += count
    return named


_GAUGES: Mapping[str, tuple[str, Callable[[Node], float]]] = {
    "connections": ("Open connections, those not let in yet included", lambda n: len(n.sessions)),
    "clients": ("Clients that are let in", lambda n: len(n.context.hub.clients)),
    "users": ("Distinct users who are here", lambda n: len(n.context.hub.users)),
    "channels": ("Channels that somebody receives", lambda n: len(n.context.hub.channels)),
    "callbacks_in_flight": (
        "Questions to the CMS without an answer yet",
        lambda n: n.context.stats.callbacks_in_flight,
    ),
    "hook_waiting": (
        "Users whose coming or going the CMS's hook is yet to be told",
        lambda n: n.context.gate.hook.waiting,
    ),
    "engine_connected": ("1 while the engine works", lambda n: float(not n.engine_fault)),
}
_BY_QUESTION: Mapping[str, tuple[str, Callable[[Entrance], float]]] = {
    "callbacks_waiting": ("Questions to the CMS that are not put yet", lambda e: e.waiting),
    "callbacks_limit": (
        "Questions that the CMS is asked at once, as long as it answers",
        lambda e: e.limit,
    ),
}
_TOTALS: Mapping[str, tuple[str, Callable[[SiteStats], float]]] = {
    "connects": ("Connect commands that were granted", lambda s: s.connects),
    "publications": (
        "Publications that were delivered to a channel here",
        lambda s: s.publications,
    ),
    "hook_failures": ("Requests to the CMS's hook that failed", lambda s: s.hook_failures),
    "hook_lost": (
        "Users whose coming or going the CMS's hook is not told any more",
        lambda s: s.hook_lost,
    ),
    "mirrored": ("Publications that were shown on another site", lambda s: s.mirrored),
    "mirror_failures": (
        "Publications that could not be shown on another site",
        lambda s: s.mirror_failures,
    ),
    "deliveries": ("Publications given to clients", lambda s: s.deliveries),
}
_LABELLED: Mapping[str, tuple[str, str, Callable[[SiteStats], Mapping[Any, int]]]] = {
    "connections_accepted": ("transport", "Connections taken in", lambda s: s.accepted),
    "connections_refused": ("reason", "Connections turned away", lambda s: s.refused),
    "connections_closed": (
        "code",
        "Connections ended, by close code; 0: the client left",
        lambda s: _known(s.closed, CLOSE_REASONS),
    ),
    "commands": ("method", "Commands of clients", lambda s: s.commands),
    "command_errors": (
        "code",
        "Commands that were refused",
        lambda s: _known(s.command_errors, ERROR_MESSAGES),
    ),
    "callbacks": ("outcome", "Questions to the CMS", lambda s: s.callbacks),
    "grants": ("source", "Where grants came from", lambda s: s.grants),
}
_DURATIONS: Mapping[str, tuple[str, Callable[[SiteStats], Durations]]] = {
    "callback_duration_seconds": ("Time of a question to the CMS", lambda s: s.callback_duration),
    "api_duration_seconds": ("Time of a request to the API", lambda s: s.api_duration),
}


class SiteCollector(Collector):
    """Turns the counters of all sites into metrics named ``twisted_push_…``."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = tuple(nodes)

    def collect(self) -> Iterator[Metric]:
        """Give every metric with a sample for each site."""
        yield from self._gauges()
        yield from self._questions()
        yield from self._counters()
        yield self._api_requests()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        for name, (text, read) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"twisted_push_{name}", text, labels=["site"])
            for node in self._nodes:
                gauge.add_metric([node.context.name], read(node))
            yield gauge

    def _questions(self) -> Iterator[Metric]:
        for name, (text, read) in _BY_QUESTION.items():
            gauge = GaugeMetricFamily(f"twisted_push_{name}", text, labels=["site", "question"])
            for site, kind, entrance in self._entrances():
                gauge.add_metric([site, kind], read(entrance))
            yield gauge
        circuits = GaugeMetricFamily(
            "twisted_push_callback_circuit",
            "1 for what the circuit to the CMS is",
            labels=["site", "question", "state"],
        )
        for site, kind, entrance in self._entrances():
            for state in Circuit:
                is_so = entrance.circuit is state
                circuits.add_metric([site, kind, state.value], float(is_so))
        yield circuits

    def _entrances(self) -> Iterator[tuple[str, str, Entrance]]:
        for node in self._nodes:
            for kind, entrance in node.context.gate.entrances.items():
                yield node.context.name, kind, entrance

    def _counters(self) -> Iterator[Metric]:
        for name, (text, total) in _TOTALS.items():
            plain = CounterMetricFamily(f"twisted_push_{name}", text, labels=["site"])
            for node in self._nodes:
                plain.add_metric([node.context.name], total(node.context.stats))
            yield plain
        for name, (label, text, counts) in _LABELLED.items():
            counter = CounterMetricFamily(f"twisted_push_{name}", text, labels=["site", label])
            for node in self._nodes:
                for value, count in counts(node.context.stats).items():
                    counter.add_metric([node.context.name, str(value)], count)
            yield counter

    def _api_requests(self) -> Metric:
        counter = CounterMetricFamily(
            "twisted_push_api_requests", "Requests to the API", labels=["site", "method", "outcome"]
        )
        for node in self._nodes:
            for (method, outcome), count in node.context.stats.api_requests.items():
                counter.add_metric([node.context.name, method, outcome], count)
        return counter

    def _histograms(self) -> Iterator[Metric]:
        for name, (text, read) in _DURATIONS.items():
            histogram = HistogramMetricFamily(f"twisted_push_{name}", text, labels=["site"])
            for node in self._nodes:
                durations = read(node.context.stats)
                histogram.add_metric([node.context.name], _buckets(durations), durations.total)
            yield histogram


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
    running, buckets = 0, []
    for bound, count in zip(bounds, durations.counts, strict=True):
        running += count
        buckets.append((bound, float(running)))
    return buckets


class Metrics(Resource):
    """``/metrics``."""

    isLeaf = True

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__()
        self._registry = CollectorRegistry()
        self._registry.register(SiteCollector(nodes))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render_GET(self, request: Request) -> bytes:
        return answer(request, 200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
