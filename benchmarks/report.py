"""The results, as tables for people and as a document for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.figures import Figure
from benchmarks.targets import Target, judged
from twisted_push.bench.report import machine, short
from twisted_push.bench.report import table as markdown

__all__ = ["document", "line", "peers_table", "table", "targets_table"]


def document(
    command: str,
    scale: object,
    figures: Sequence[Figure],
    skipped: dict[str, str] | None = None,
) -> dict[str, object]:
    """Give everything, ready for JSON. ``scale`` is a dataclass."""
    return {
        "command": command,
        "machine": machine(),
        "scale": asdict(scale),  # type: ignore[call-overload]
        "skipped": skipped or {},
        "figures": [
            {
                "name": each.name,
                "unit": each.unit,
                **_summary(each.rounds),
                "floor": _beside(each, each.floor) if each.floor else None,
                "peers": {name: _beside(each, rounds) for name, rounds in each.peers.items()},
            }
            for each in figures
        ],
        "targets": [
            {
                "what": target.what,
                "must": target.must,
                "moonshot": target.moonshot,
                "at_least": target.at_least,
                "unit": target.unit,
                "measured": round(value, 3),
                "reached": target.verdict(value),
            }
            for target, value in judged(figures)
        ],
    }


def line(figure: Figure) -> str:
    """Give one figure, for those who wait."""
    return f"{figure.name}: {short(figure.median)} {figure.unit}"


def table(figures: Sequence[Figure]) -> str:
    """Give a Markdown table that can also be read as it is."""
    head = ("what", "unit", "median", "min", "max", "floor", "ratio")
    return markdown([head, *map(_row, figures)])


def _row(figure: Figure) -> tuple[str, ...]:
    values = (figure.median, min(figure.rounds), max(figure.rounds))
    return (
        figure.name,
        figure.unit,
        *map(short, values),
        short(statistics.median(figure.floor)) if figure.floor else "",
        f"{figure.ratio(figure.floor):.2f}" if figure.floor else "",
    )


def peers_table(figures: Sequence[Figure]) -> str:
    """Give what the peers took, and in brackets ours as a part of it."""
    beside = [figure for figure in figures if figure.peers]
    names = list(dict.fromkeys(name for figure in beside for name in figure.peers))
    rows = [("what", "unit", "ours", *names)]
    for figure in beside:
        cells = [
            f"{short(statistics.median(figure.peers[name]))} "
            f"({figure.ratio(figure.peers[name]):.2f})"
            if name in figure.peers
            else ""
            for name in names
        ]
        rows.append((figure.name, figure.unit, short(figure.median), *cells))
    return markdown(rows) if beside else ""


def targets_table(figures: Sequence[Figure]) -> str:
    """Give the targets, and what of them is reached."""
    rows = [("target", "must", "moonshot", "measured", "reached")]
    rows += [
        (
            target.what,
            _limit(target, target.must),
            _limit(target, target.moonshot),
            f"{short(value)} {target.unit}",
            target.verdict(value),
        )
        for target, value in judged(figures)
    ]
    return markdown(rows) if len(rows) > 1 else ""


def _limit(target: Target, value: float | None) -> str:
    return "" if value is None else f"{'≥' if target.at_least else '≤'} {short(value)}"


def _summary(rounds: Sequence[float]) -> dict[str, object]:
    return {
        "median": round(statistics.median(rounds), 3),
        "min": round(min(rounds), 3),
        "max": round(max(rounds), 3),
        "rounds": [round(each, 3) for each in rounds],
    }


def _beside(figure: Figure, rounds: Sequence[float]) -> dict[str, object]:
    return {**_summary(rounds), "ratio": round(figure.ratio(rounds), 3)}
