"""Nothing is delivered after a revocation was answered, whatever else is under way.

`PUSH_INTERLEAVINGS` sets how many interleavings are tried; by hand it is ten thousand:
``python -m tests.revocation``.
"""

from __future__ import annotations

import os
from collections import Counter

from tests.revocation.play import Play

INTERLEAVINGS = int(os.environ.get("PUSH_INTERLEAVINGS", "400"))


def test_nothing_is_delivered_after_the_answer() -> None:
    counts: Counter[str] = Counter()
    for seed in range(INTERLEAVINGS):
        counts += Play(seed).run().counts
    # It would be easy to deliver nothing at all.
    assert counts["let in"] > 2 * INTERLEAVINGS
    assert counts["publications"] > 5 * INTERLEAVINGS
    assert counts["cuts"] > 5 * INTERLEAVINGS
    assert counts["views"] > 2 * INTERLEAVINGS
