"""The counters of a site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.stats import DURATION_BUCKETS, Durations, SiteStats


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (0.01, 1), (1.0, 7), (10.0, 10), (10.1, 11), (1e9, 11)],
)
def test_a_bucket_holds_durations_up_to_its_bound(seconds: float, bucket: int) -> None:
    durations = Durations()
    durations.observe(seconds)
    assert durations.counts == [int(n == bucket) for n in range(len(DURATION_BUCKETS) + 1)]
    assert durations.total == seconds


@given(st.lists(st.floats(0, 100)))
def test_every_duration_is_counted_once(values: list[float]) -> None:
    durations = Durations()
    for value in values:
        durations.observe(value)
    assert sum(durations.counts) == len(values)
    for index, bound in enumerate(DURATION_BUCKETS):
        assert sum(durations.counts[: index + 1]) == sum(value <= bound for value in values)


def test_sites_do_not_share_counters() -> None:
    one, other = SiteStats(), SiteStats()
    one.closed[3008] += 1
    one.api_duration.observe(1.0)
    assert other == SiteStats()
    assert one != other
