"""``/metrics`` as Prometheus reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.node.support import BROADCAST, KEY, World, sign
from tests.unit.test_api import Http
from twisted_push.errors import CLOSE_REASONS, ERROR_MESSAGES
from twisted_push.ops.metrics import Metrics, SiteCollector
from twisted_push.protocols.centrifugal import METHODS
from twisted_push.stats import DURATION_BUCKETS

LABELS: dict[str, set[str]] = {
    "connections_accepted": {"transport"},
    "connections_refused": {"reason"},
    "connections_closed": {"code"},
    "commands": {"method"},
    "command_errors": {"code"},
    "callbacks": {"outcome"},
    "callback_circuit": {"question", "state"},
    "callbacks_limit": {"question"},
    "callbacks_waiting": {"question"},
    "grants": {"source"},
    "api_requests": {"method", "outcome"},
}


CIRCUIT = ("closed", "open", "probing")


def read(*worlds: World) -> dict[str, Any]:
    """Give the metric families of our own by name, without ``twisted_push_``."""
    registry = CollectorRegistry()
    registry.register(SiteCollector([world.node for world in worlds]))
    text = generate_latest(registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("twisted_push_") for name in families)
    return {name.removeprefix("twisted_push_"): each for name, each in families.items()}


def value(family: Any, **labels: str) -> float | None:
    found = [s.value for s in family.samples if {**labels, "site": "default"} == s.labels]
    return found[0] if found else None


async def busy() -> World:
    """Give a site on which about everything happened that is counted."""
    world = await World(callback=True).start()
    tab = world.user("alice", channels=["secret-channel"])
    tab.ask("subscribe", channel="open:secret-channel")
    tab.ask("subscribe", channel="none")
    tab.ask("evil-method")
    world.user("bob").leave()
    asked = world.tab()
    asked.send("connect", token="secret-token")
    world.cms.reply({"error": {"code": 777_777, "message": "no"}})
    gone = world.tab()
    gone.send("connect", token="other")
    world.cms.reply({"disconnect": {"code": 4567, "reason": "secret-reason"}})
    http = Http(world)
    http.post("publish", {"channel": BROADCAST, "data": 1})
    http.post("evil-api-method")
    http.post("publish", b"{")
    return world


async def test_what_is_told() -> None:
    world = await busy()
    found = read(world)
    assert value(found["clients"]) == 1
    assert value(found["connections"]) == 2
    assert value(found["users"]) == 1
    assert value(found["channels"]) == 3
    assert value(found["engine_connected"]) == 1
    assert value(found["connects"]) == 2
    assert value(found["callbacks_waiting"], question="connect") == 0
    assert value(found["callbacks_in_flight"]) == 0
    assert value(found["callbacks_limit"], question="connect") == 4
    circuit = found["callback_circuit"]
    states = {state: value(circuit, question="connect", state=state) for state in CIRCUIT}
    assert states == {"closed": 1, "open": 0, "probing": 0}
    assert value(found["grants"], source="asked") is None
    assert value(found["hook_waiting"]) == value(found["hook_failures"]) == 0
    assert value(found["hook_lost"]) == 0
    assert value(found["publications"]) == 1
    assert value(found["deliveries"]) == 1
    assert value(found["connections_accepted"], transport="fake") == 4
    assert value(found["connections_closed"], code="0") == 1
    assert value(found["commands"], method="connect") == 4
    assert value(found["commands"], method="unknown") == 1
    assert value(found["command_errors"], code="103") == 1
    assert value(found["api_requests"], method="publish", outcome="ok") == 1
    assert value(found["api_requests"], method="publish", outcome="bad_request") == 1
    assert value(found["api_requests"], method="unknown", outcome="refused") == 1
    await world.end()


async def test_names_and_labels() -> None:
    world = await busy()
    for name, family in read(world).items():
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
        assert family.documentation
        for sample in family.samples:
            wanted = LABELS.get(name, set()) | {"site"}
            assert set(sample.labels) - {"le"} == wanted, sample
            if family.type == "counter":
                assert sample.name.endswith("_total")
    await world.end()


async def test_labels_come_from_closed_sets() -> None:
    """What a stranger, or a CMS, can choose freely is no label: each stays in memory for ever."""
    world = await busy()
    found = read(world)

    def labels(family: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in found[family].samples}

    assert labels("commands", "method") <= {*METHODS, "unknown"}
    assert labels("command_errors", "code") <= {*map(str, ERROR_MESSAGES), "other", "cms"}
    closed = {str(code) for code in (0, *CLOSE_REASONS, *range(4000, 5000))} | {"other", "cms"}
    assert labels("connections_closed", "code") <= closed
    shown = json.dumps([sample.labels for each in found.values() for sample in each.samples])
    for text in ("secret", "alice", "evil", "192.0.2.1", KEY, sign(sub="alice")):
        assert text not in shown
    await world.end()


async def test_histograms_add_up() -> None:
    world = await busy()
    family = read(world)["api_duration_seconds"]
    buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    assert [float(each.labels["le"]) for each in buckets] == [*DURATION_BUCKETS, float("inf")]
    counts = [each.value for each in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    [count] = [each.value for each in family.samples if each.name.endswith("_count")]
    assert count == 3
    await world.end()


async def test_two_sites_are_told_apart() -> None:
    worlds = [await World().start() for _ in range(2)]
    worlds[1].context.name = "other"
    worlds[0].connected()
    samples = {s.labels["site"]: s.value for s in read(*worlds)["clients"].samples}
    assert samples == {"default": 1, "other": 0}
    for world in worlds:
        await world.end()


async def test_the_page() -> None:
    world = await World().start()
    http = Http(world)
    http.site.resource = Metrics([world.node])
    answer = http.raw(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"twisted_push_clients", "python_gc_objects_collected"} <= names
    await world.end()
