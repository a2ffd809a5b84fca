"""The results, as a table for people and as a document for programs."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from benchmarks.suite import Figure, Scale

__all__ = ["document", "line", "table"]

_PACKAGES = ("twisted", "autobahn", "treq", "msgspec", "attrs", "zope.interface")
_HEADER = ("what", "unit", "median", "min", "max", "floor", "ratio")


def document(command: str, scale: Scale, figures: Sequence[Figure]) -> dict[str, object]:
    """Give everything, ready for JSON."""
    return {
        "command": command,
        "machine": _machine(),
        "scale": asdict(scale),
        "figures": [
            {
                "name": each.name,
                "unit": each.unit,
                **_summary(each.rounds),
                "floor": _summary(each.floor) if each.floor else None,
            }
            for each in figures
        ],
    }


def line(figure: Figure) -> str:
    """Give one figure, for those who wait."""
    return f"{figure.name}: {_short(statistics.median(figure.rounds))} {figure.unit}"


def table(figures: Sequence[Figure]) -> str:
    """Give a Markdown table that can also be read as it is."""
    rows = [_HEADER, *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(map(str.ljust, row, widths)).replace("\n", " ") + " |" for row in rows
    )


def _row(figure: Figure) -> tuple[str, ...]:
    middle = statistics.median(figure.rounds)
    values = (middle, min(figure.rounds), max(figure.rounds))
    floor = statistics.median(figure.floor) if figure.floor else None
    return (
        figure.name,
        figure.unit,
        *map(_short, values),
        "" if floor is None else _short(floor),
        "" if floor is None else f"{middle / floor:.2f}",
    )


def _summary(rounds: Sequence[float]) -> dict[str, object]:
    return {
        "median": round(statistics.median(rounds), 3),
        "min": round(min(rounds), 3),
        "max": round(max(rounds), 3),
        "rounds": [round(each, 3) for each in rounds],
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _machine() -> dict[str, object]:
    model = re.search(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"))
    return {
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "cpus": os.cpu_count(),
        "cpu_model": model[1] if model else platform.machine(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }
