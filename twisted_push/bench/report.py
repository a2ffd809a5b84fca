"""The figures, for people and for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from twisted_push.bench.measure import BUSY, WAITED, Plan
from twisted_push.bench.publisher import MOST_UNDER_WAY

__all__ = ["machine", "short", "table", "text", "warnings"]

_PACKAGES = ("twisted", "autobahn", "treq", "msgspec", "attrs", "zope.interface")

_ROWS = (
    ("connections", "per_second", "connections per second", ""),
    ("connections", "cpu_us", "CPU of the server per connection", "µs"),
    ("connections", "kib", "memory of the server per connection", "KiB"),
    ("deliveries", "per_second", "deliveries per second", ""),
    ("deliveries", "cpu_us", "CPU of the server per delivery", "µs"),
    ("deliveries", "latency_ms", "latency", "ms"),
    ("at a rate", "per_second", "at a rate: deliveries per second", ""),
    ("at a rate", "cpu_us", "at a rate: CPU of the server per delivery", "µs"),
    ("at a rate", "latency_ms", "at a rate: latency", "ms"),
)


def machine() -> dict[str, object]:
    """Tell on what it was measured."""
    information = Path("/proc/cpuinfo")
    text = information.read_text("utf-8") if information.exists() else ""
    model = re.search(r"(?m)^model name\s*: (.+)$", text)
    return {
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "cpus": os.cpu_count(),
        "cpu_model": model[1] if model else platform.machine(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def text(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Give the figures as a table that can be read as it is."""
    rows = []
    for part, key, name, unit in _ROWS:
        value = parts.get(part, {}).get(key)
        if isinstance(value, dict):
            rows += [(f"{name}, {which}", short(each), unit) for which, each in value.items()]
        elif value is not None:
            rows.append((name, short(value), unit))
    return table([("what", "figure", "unit"), *rows])


def warnings(plan: Plan, parts: Mapping[str, Mapping[str, Any]], cores: int) -> list[str]:
    """Say what the figures do not show, because the load itself was in the way."""
    found = [
        f"{name}: the load was busy {part['load_busy']:.0%} of the time. It may be what was "
        "measured: use more --processes, or run it on other machines as well"
        for name, part in parts.items()
        if part["load_busy"] >= BUSY
    ]
    found += [
        f"{name}: {'the load' if plan.pid is None else 'the server'} waited for a processor "
        f"{part['waited']:.0%} of the time. Other work on this machine is in the figures, most of "
        "all in rates and latencies"
        for name, part in parts.items()
        if part["waited"] >= WAITED
    ]
    at_rate = parts.get("at a rate", {})
    if plan.rate and at_rate and at_rate["published_late_ms"] > 1000 / plan.rate:
        found.append(_late(plan.rate, at_rate["published_late_ms"], at_rate["under_way"]))
    if cores < 2:
        found.append("the load and a server on this machine share its only core")
    if plan.pid is None:
        found.append("without --pid or --serve the server's CPU time and memory are not known")
    return found


def _late(rate: float, late: float, under_way: int) -> str:
    """Say who was late: those who answer, or the load, which had not as many requests as it may."""
    said = f"at a rate: a request was sent {short(late)} ms late"
    if under_way < MOST_UNDER_WAY:
        return (
            f"{said}, with at most {under_way} under way: the load itself was in the way, or other "
            "work on its machine, and that is in the latencies"
        )
    return (
        f"{said}, because {under_way} were not answered yet, the most that the load has: the "
        f"server, or the way to it, does not keep up with {rate:g} per second"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Give a Markdown table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], _line(["-" * width for width in widths], widths), *lines[1:]])


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(map(str.ljust, row, widths)) + " |"


def short(value: float) -> str:
    """Give a number with three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
