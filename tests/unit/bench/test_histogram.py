"""Latencies in buckets: what is said of them is what they were, within 3 %."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.bench.histogram import Histogram, bucket, middle

latencies = st.integers(0, 10**8) | st.integers(0, 200)


def of(microseconds: list[int]) -> Histogram:
    """Fill a histogram as a load's answer does, by way of JSON."""
    found = Histogram()
    found.add(json.loads(json.dumps(Counter(map(bucket, microseconds)))))
    return found


@given(latencies)
def test_a_bucket_is_narrow(latency: int) -> None:
    assert middle(bucket(latency)) == pytest.approx(latency, rel=0.016)


@given(latencies)
def test_buckets_are_in_order_and_none_is_left_out(latency: int) -> None:
    assert bucket(latency + 1) - bucket(latency) in (0, 1)


@given(st.lists(latencies, min_size=1), st.floats(0, 100))
def test_percentiles_are_those_of_the_latencies(given: list[int], percent: float) -> None:
    rank = max(1, -(-len(given) * percent // 100))
    exact = sorted(given)[int(rank) - 1]
    assert of(given).percentile(percent) == pytest.approx(exact / 1000, rel=0.016)


def test_some_known_ones() -> None:
    found = of(list(range(1, 61)))
    assert [found.percentile(p) for p in (0, 50, 90, 100)] == [0.001, 0.03, 0.054, 0.06]


@given(st.lists(latencies, min_size=1), st.lists(latencies, min_size=1))
def test_two_loads_are_as_one(one: list[int], other: list[int]) -> None:
    merged = of(one)
    merged.merge(of(other))
    whole = of(one + other)
    assert merged.count == len(one) + len(other)
    assert [merged.percentile(p) for p in range(101)] == [whole.percentile(p) for p in range(101)]


def test_nothing_has_no_percentiles() -> None:
    with pytest.raises(ValueError, match="no latencies"):
        Histogram().percentile(50)
