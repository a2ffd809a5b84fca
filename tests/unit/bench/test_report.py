"""What a measurement says, and what it admits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve

from twisted_push.bench.measure import Plan
from twisted_push.bench.publisher import MOST_UNDER_WAY, message
from twisted_push.bench.report import short, table, text, warnings

PLAN = Plan(channel="broadcast", clients=10, messages=2, size=200, burst=1, rate=0.0, pid=1)
PARTS: dict[str, dict[str, Any]] = {
    "connections": {"count": 10, "per_second": 1234.5, "load_busy": 0.1, "waited": 0.0},
    "deliveries": {
        "cpu_us": 12.345,
        "latency_ms": {"p50": 0.5, "max": 1.25},
        "load_busy": 0.2,
        "waited": 0.05,
    },
}


def test_a_table() -> None:
    assert text(PARTS).splitlines() == [
        "| what                           | figure | unit |",
        "| ------------------------------ | ------ | ---- |",
        "| connections per second         | 1,234  |      |",
        "| CPU of the server per delivery | 12.3   | µs   |",
        "| latency, p50                   | 0.5    | ms   |",
        "| latency, max                   | 1.25   | ms   |",
    ]


def test_columns_are_as_wide_as_they_must() -> None:
    assert table([("a", "b"), ("long", "")]) == "| a    | b |\n| ---- | - |\n| long |   |"


@pytest.mark.parametrize(
    ("value", "said"), [(1234567, "1,234,567"), (99.96, "100"), (0.01234, "0.0123"), (0, "0")]
)
def test_numbers(value: float, said: str) -> None:
    assert short(value) == said


def test_nothing_to_admit() -> None:
    assert warnings(PLAN, PARTS, cores=2) == []


def test_a_load_that_was_the_limit_says_so() -> None:
    busy = {**PARTS, "deliveries": {**PARTS["deliveries"], "load_busy": 0.97}}
    [said] = warnings(PLAN, busy, cores=2)
    assert said.startswith("deliveries: the load was busy 97% of the time")


def test_other_work_on_the_machine_is_told() -> None:
    part = {**PARTS["deliveries"], "waited": 0.5}
    [said] = warnings(PLAN, {**PARTS, "deliveries": part}, cores=2)
    assert said.startswith("deliveries: the server waited for a processor 50% of the time")
    [said, _] = warnings(evolve(PLAN, pid=None), {**PARTS, "deliveries": part}, cores=2)
    assert said.startswith("deliveries: the load waited")


def test_messages_that_were_published_late_are_told() -> None:
    plan = evolve(PLAN, rate=100.0)
    part = {**PARTS["deliveries"], "published_late_ms": 9.0, "under_way": MOST_UNDER_WAY}
    assert warnings(plan, {**PARTS, "at a rate": part}, cores=2) == []
    part["published_late_ms"] = 11.0
    [said] = warnings(plan, {**PARTS, "at a rate": part}, cores=2)
    assert "the server, or the way to it, does not keep up with 100 per second" in said
    part["under_way"] -= 1
    [said] = warnings(plan, {**PARTS, "at a rate": part}, cores=2)
    assert "the load itself was in the way" in said


def test_what_is_not_known_is_told() -> None:
    said = warnings(evolve(PLAN, pid=None), PARTS, cores=1)
    assert [line.split(":")[0] for line in said] == [
        "the load and a server on this machine share its only core",
        "without --pid or --serve the server's CPU time and memory are not known",
    ]


@pytest.mark.parametrize("size", [100, 200, 5000])
def test_a_message_has_its_size(size: int) -> None:
    assert len(json.dumps(message(size, 10**15), separators=(",", ":"))) == size
