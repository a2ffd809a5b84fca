"""What happened on a site, counted. The hot paths add to plain numbers; metrics read them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from attrs import Factory, define

__all__ = ["DURATION_BUCKETS", "OTHER_CODE", "Durations", "SiteStats"]

OTHER_CODE = -1
"""Stands for the error codes of the CMS's own, which are too many to count one by one."""

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of `Durations`, in seconds."""


@define
class Durations:
    """A histogram of durations in seconds; ``counts`` has one more entry for the rest."""

    counts: list[int] = Factory(lambda: [0] * (len(DURATION_BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.total += seconds


@define
class SiteStats:
    """The counters of one site since its start.

    Keys: ``accepted`` transport; ``refused`` why a client was turned away before a session;
    ``closed`` close code (0: the client left); ``commands`` method; ``command_errors`` error
    code; ``api_requests`` (method, outcome); ``callbacks`` outcome; ``grants`` where they are from.
    """

    accepted: Counter[str] = Factory(Counter)
    refused: Counter[str] = Factory(Counter)
    closed: Counter[int] = Factory(Counter)
    commands: Counter[str] = Factory(Counter)
    command_errors: Counter[int] = Factory(Counter)
    api_requests: Counter[tuple[str, str]] = Factory(Counter)
    api_duration: Durations = Factory(Durations)
    callbacks: Counter[str] = Factory(Counter)
    callback_duration: Durations = Factory(Durations)
    callbacks_in_flight: int = 0
    grants: Counter[str] = Factory(Counter)
    hook_failures: int = 0
    hook_lost: int = 0
    mirrored: int = 0
    mirror_failures: int = 0
    connects: int = 0
    publications: int = 0
    deliveries: int = 0
