"""Measures what the server costs: ``python benchmarks/run.py --short``. See README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table to stderr and JSON to stdout, and give the exit code."""
    from benchmarks import processes, report, suite

    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py", description="Measure what the server costs.", allow_abbrev=False
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds; under a minute")
    parser.add_argument("--only", choices=suite.PARTS, action="append", help="this part alone")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    options = parser.parse_args(argv)

    scale = suite.SHORT if options.short else suite.FULL
    processes.prepare(scale.time_limit)
    figures = []
    try:
        for figure in suite.measure(scale, options.only or suite.PARTS):
            print(report.line(figure), file=sys.stderr, flush=True)
            figures.append(figure)
    except processes.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    arguments = sys.argv[1:] if argv is None else argv
    command = " ".join(["benchmarks/run.py", *arguments])
    text = json.dumps(report.document(command, scale, figures), indent=2)
    print(f"\n{report.table(figures)}", file=sys.stderr)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    # Run as a file: the tree, and not this folder, is what to import from.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
