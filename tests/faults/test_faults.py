"""The fault program at a small size. By hand it is run with more: see ``docs/contributing.md``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import ROOT, bound, environment

pytestmark = pytest.mark.e2e

Faults = Callable[..., dict[str, Any]]


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """Give a function that runs the program, and gives its report: there is no violation."""

    def run(**options: object) -> dict[str, Any]:
        out = tmp_path / "report.json"
        given = {"duration": 4, "stays": 3, "json": out, **options}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        done = subprocess.run(
            bound([sys.executable, "-m", "tests.faults", *arguments]),
            cwd=ROOT,
            env=environment(TMPDIR=str(tmp_path)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(out.read_text("utf-8"))
        assert report["violations"] == {}
        assert json.loads(done.stdout) == report
        assert not list(tmp_path.glob("twisted-push-faults-*"))
        counts = report["counts"]
        assert counts.get("kills", 0) + counts.get("planned restarts", 0) == 5
        assert counts["views"] == 160
        assert counts["acknowledged"] == counts["sent"] > 100
        assert counts["recoveries"] > 160
        assert report["callbacks"]["afterwards"] == 0
        return report

    return run


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_by_kills(faults: Faults, seed: int) -> None:
    counts = faults(clients=40, kills=5, seed=seed, rate=100)["counts"]
    assert counts["recovered publications"] > 0
    assert counts["seen"] > counts["acknowledged"]
    # There was always proof that nothing is missing.
    assert counts["views never told"] == 160


def test_nothing_is_lost_by_kills_without_waiting_for_the_disk(faults: Faults) -> None:
    counts = faults(clients=40, kills=5, seed=3, rate=0, durability="write")["counts"]
    assert counts["recovered publications"] > 0
    assert counts["views never told"] == 160


def test_nothing_is_lost_by_planned_restarts(faults: Faults) -> None:
    """With no durability at all: what was published is written before the end."""
    report = faults(clients=40, kills=5, seed=6, rate=0, durability="none", planned=1)
    assert report["counts"]["planned restarts"] == 5
    assert report["counts"]["views never told"] == 160
    assert report["ends of connections"]["closed: 3001"] > 100


def test_what_is_lost_by_kills_is_told(faults: Faults) -> None:
    counts = faults(clients=40, kills=5, seed=4, rate=0, durability="none")["counts"]
    assert counts["told of another epoch"] == counts["told"] > 0
    assert counts["views never told"] == 0


def test_what_is_not_kept_is_told(faults: Faults) -> None:
    """Some of those who come back missed more than is kept: they are told, and no one else."""
    counts = faults(clients=40, kills=5, seed=5, rate=200, history_size=5)["counts"]
    assert counts["told"] > 0
    assert "told of another epoch" not in counts
