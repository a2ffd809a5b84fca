"""What the server is to reach, and whether it does: see docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.fan_out import WITH_HISTORY
from benchmarks.figures import BURST, FULL, Figure
from benchmarks.publishing import BATCH

__all__ = ["TARGETS", "Target", "judged"]


def _median(figure: Figure) -> float:
    return figure.median


def _of_floor(figure: Figure) -> float | None:
    return figure.ratio(figure.floor) if figure.floor else None


def _history_of_floor(figure: Figure) -> float | None:
    with_history = figure.peers.get(WITH_HISTORY)
    if not with_history or not figure.floor:
        return None
    return Figure(figure.name, figure.unit, with_history).ratio(figure.floor)


def _of_peer(name: str) -> Callable[[Figure], float | None]:
    def ratio(figure: Figure) -> float | None:
        return figure.ratio(figure.peers[name]) if name in figure.peers else None

    return ratio


@dataclass(frozen=True)
class Target:
    """``figure`` matches the name of the figure that it is about, and ``unit`` is the value's."""

    what: str
    figure: str
    unit: str
    value: Callable[[Figure], float | None]
    must: float | None
    moonshot: float | None = None
    at_least: bool = False

    def verdict(self, value: float) -> str:
        """Say what a value reaches."""
        if self.must is None:
            return "measured"
        sign = -1 if self.at_least else 1
        if self.moonshot is not None and sign * value <= sign * self.moonshot:
            return "moonshot"
        return "yes" if sign * value <= sign * self.must else "NO"


# What depends on how many clients there are is judged with as many as the target is for.
_FAN_OUT = f"fan-out to {FULL.subscribers:,}"
_IDLE = f"idle connection of {FULL.idle_connections:,}"
_MANY = f"{FULL.many:,}"
TARGETS = (
    Target("fan-out, CPU: of one send(2) in C", _FAN_OUT, "x", _of_floor, 1.35, 1.08),
    Target("… with history on", _FAN_OUT, "x", _history_of_floor, 1.49, 1.19),
    Target("… of Node's ws", _FAN_OUT, "x", _of_peer("ws"), 0.8, 0.65),
    Target("… of Nchan", _FAN_OUT, "x", _of_peer("Nchan"), 1.0),
    Target(
        f"{BURST} publications in one turn", rf"{_FAN_OUT}, {BURST} .*", "µs", _median, 1.6, 1.1
    ),
    Target("memory of an idle connection", _IDLE, "KiB", _median, 3.0, 2.0),
    Target(
        f"the server with {_MANY} idle", f"the server with {_MANY} idle", "MB", _median, 130, 100
    ),
    Target("handshake and connect, grant known", ".*, known grant", "µs", _median, 400, 300),
    Target("ping and pong of a client", "ping and pong .*", "µs", _median, 25),
    Target("small frame up to its command", "small frame .*: a command", "µs", _median, 20, 14),
    Target("publish by HTTP", "publish to 1 receiver, 1 connection", "µs", _median, 230, 160),
    Target(f"… at batch {BATCH}", "publish in batches .*", "µs", _median, 15, 6),
    Target("worst answer during a fan-out", f"worst answer .* {_MANY}", "ms", _median, 30, 12),
    Target(
        "longest collection",
        f"longest collection, {_MANY} .*",
        "ms",
        lambda it: max(it.rounds),
        10,
        2,
    ),
    Target(
        "2 workers on 2 cores: of one",
        f"2 workers .*, {_FAN_OUT}",
        "x",
        _of_floor,
        1.7,
        1.85,
        at_least=True,
    ),
    Target("callback through treq", "callback .*", "µs", _median, None),
)


def judged(figures: Sequence[Figure]) -> Iterable[tuple[Target, float]]:
    """Give the targets that were measured, with what was."""
    for target in TARGETS:
        for figure in figures:
            about = re.fullmatch(target.figure, figure.name) and "second" not in figure.unit
            value = target.value(figure) if about and figure.rounds else None
            if value is not None:
                yield target, value
