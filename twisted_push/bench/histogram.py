"""Latencies by the million, in a few hundred numbers that can be added up.

Microseconds are counted in buckets: of one each up to 64, and from there on 32 for every power of
two, so that a bucket is at most 3 % wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["Histogram", "bucket", "middle"]


def bucket(microseconds: int) -> int:
    """Give the number of the bucket of a latency, which is not negative."""
    shift = max(0, microseconds.bit_length() - 6)
    return (shift << 5) + (microseconds >> shift)


def middle(number: int) -> float:
    """Give the middle of a bucket, in microseconds."""
    if number < 64:
        return float(number)
    shift = (number >> 5) - 1
    return ((number - (shift << 5)) << shift) + ((1 << shift) - 1) / 2


class Histogram:
    """How many latencies were in each bucket."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, counts: Mapping[str, int]) -> None:
        """Add what a load counted: by bucket, whose number is text, as JSON has it."""
        self._counts.update({int(number): count for number, count in counts.items()})

    def merge(self, other: Histogram) -> None:
        """Add all of another."""
        self._counts.update(other._counts)

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self._counts.total()

    def percentile(self, percent: float) -> float:
        """Give the latency, in milliseconds, that so many percent do not exceed.

        Raises ValueError if there is none.
        """
        if not self._counts:
            raise ValueError("no latencies")
        rank = max(1.0, self.count * percent / 100)
        seen = 0
        for number in sorted(self._counts):
            seen += self._counts[number]
            if seen >= rank:
                return middle(number) / 1000
        return middle(max(self._counts)) / 1000
