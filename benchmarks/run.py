"""Measures what the server costs: ``python benchmarks/run.py --short``. See README.md."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the tables to stderr and JSON to stdout, and give the exit code."""
    from benchmarks import peers, processes, report, suite

    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py", description="Measure what the server costs.", allow_abbrev=False
    )
    parser.add_argument("--short", action="store_true", help="less of everything; two minutes")
    parser.add_argument(
        "--only", choices=list(suite.PARTS), action="append", help="this part alone"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    options = parser.parse_args(argv)

    scale = suite.SHORT if options.short else suite.FULL
    parts = options.only or list(suite.PARTS)
    skipped = peers.missing() if "fan-out" in parts else {}
    _tell_of(skipped)
    processes.prepare(scale.time_limit)
    # Pauses of the load's own collector would stretch the wall times.
    gc.disable()
    figures = []
    load = [os.getloadavg()[0]]
    try:
        for figure in suite.measure(scale, parts):
            print(report.line(figure), file=sys.stderr, flush=True)
            figures.append(figure)
    except processes.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    command = " ".join(["benchmarks/run.py", *(sys.argv[1:] if argv is None else argv)])
    load.append(os.getloadavg()[0])
    found = {**report.document(command, scale, figures, skipped), "load_average": load}
    text = json.dumps(found, indent=2)
    for table in (
        report.table(figures),
        report.peers_table(figures),
        report.targets_table(figures),
    ):
        if table:
            print(f"\n{table}", file=sys.stderr)
    if options.short:
        print(
            "\nTargets for 10,000 and 18,000 clients are judged in the full run.", file=sys.stderr
        )
    _tell_of(skipped)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


def _tell_of(skipped: dict[str, str]) -> None:
    for name, why in skipped.items():
        print(f"\n*** SKIPPED: {name}: {why}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Run as a file: the tree, and not this folder, is what to import from.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
