"""What was measured, a value per round, and how much is done."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["BURST", "DATA_SIZE", "FULL", "SHORT", "Figure", "Scale"]

BURST = 16
DATA_SIZE = 200


@dataclass(frozen=True)
class Scale:
    """How much is done. Rounds are what medians are taken of."""

    time_limit: int
    """Of everything, in seconds."""
    rounds: int
    subscribers: int
    """Of a fan-out beside the floor and the peers."""
    publishes_per_round: int
    """Of a fan-out, each when all have the last."""
    idle_connections: int
    many: int
    """Connections of the largest server that a process may be."""
    handshakes: int
    """Per round."""
    publishes: int
    """Per round, to one receiver."""
    churn: float
    """Seconds of work under which the collector's pauses are looked for."""


SHORT = Scale(
    time_limit=300,
    rounds=5,
    subscribers=2_000,
    publishes_per_round=3,
    idle_connections=2_000,
    many=5_000,
    handshakes=200,
    publishes=500,
    churn=3.0,
)
FULL = Scale(
    time_limit=1_500,
    rounds=9,
    subscribers=10_000,
    publishes_per_round=3,
    idle_connections=10_000,
    many=18_000,
    handshakes=500,
    publishes=2_000,
    churn=10.0,
)


@dataclass(frozen=True)
class Figure:
    """One thing that was measured: a value per round, and per round of the floor beside it.

    ``peers`` has the same of each peer. A figure of ours is set against the floor's and the peers'
    of the same round, so that what both suffered does not count.
    """

    name: str
    unit: str
    rounds: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    def ratio(self, other: Sequence[float]) -> float:
        """Give the median of the ratios to what another took in the same round."""
        pairs = zip(self.rounds, other, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)
