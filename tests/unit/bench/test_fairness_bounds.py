"""What is judged of a flood beside a quiet site: two bounds, each for 99 of 100 cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fairness import CPU, CPU_BOUND, WALL_BOUND, judge
from benchmarks.figures import Figure

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "fairness.json"
PARTS = ("answered", "received by all", CPU)


def figures(**worst: float) -> list[Figure]:
    """Figures of two floods; ``worst`` by part, with ``_`` for spaces, of the second's p99."""
    return [
        Figure(f"{kind}: {part}, {percentile}", "ms", [value], [0.5])
        for kind in ("publishes", "connects")
        for part in PARTS
        for percentile in ("p50", "p99")
        for value in [
            worst.get(part.replace(" ", "_"), 2.0)
            if (kind, percentile) == ("connects", "p99")
            else 1.0
        ]
    ]


@pytest.mark.parametrize("part", ["answered", "received_by_all"])
def test_the_wall_has_a_bound(part: str) -> None:
    found = judge(figures(**{part: WALL_BOUND}))
    assert found["wall"] == {"p99_ms": WALL_BOUND, "worst": WALL_BOUND, "kept": True}
    assert found["cpu"] == {"p99_ms": CPU_BOUND, "worst": 2.0, "kept": True}
    assert judge(figures(**{part: WALL_BOUND + 0.1}))["wall"]["kept"] is False


def test_the_cpu_has_a_bound() -> None:
    found = judge(figures(CPU_of_the_server=CPU_BOUND + 0.1))
    assert (found["cpu"]["kept"], found["wall"]["kept"]) == (False, True)


def test_the_figures_that_stand_are_within_both() -> None:
    document = json.loads(RESULTS.read_text())
    stand = [
        Figure(each["name"], each["unit"], each["rounds"], each["floor"]["rounds"])
        for each in document["figures"]
    ]
    assert document["bound"] == judge(stand)
    assert all(each["kept"] for each in document["bound"].values())
