"""The parts of the benchmarks: see README.md for how to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.fan_out import fan_out
from benchmarks.figures import BURST, DATA_SIZE, FULL, SHORT, Figure, Scale
from benchmarks.handshakes import handshakes
from benchmarks.idle import idle, pings, small_frames
from benchmarks.pauses import pauses
from benchmarks.publishing import durability, publishing
from benchmarks.workers import workers

__all__ = ["BURST", "DATA_SIZE", "FULL", "PARTS", "SHORT", "Figure", "Scale", "measure"]

PARTS: Mapping[str, Callable[[Scale], Iterator[Figure]]] = {
    "fan-out": fan_out,
    "memory": idle,
    "handshake": handshakes,
    "ping": pings,
    "frames": small_frames,
    "publish": publishing,
    "durability": durability,
    "pauses": pauses,
    "workers": workers,
}


def measure(scale: Scale, parts: Sequence[str]) -> Iterator[Figure]:
    """Measure the parts, one after the other."""
    for name, part in PARTS.items():
        if name in parts:
            yield from part(scale)
