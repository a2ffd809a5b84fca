"""``python -m tests.faults``: kills the server again and again, and proves that nothing is lost.

The report goes to the standard output as JSON, and to the file that ``--json`` names. The exit code
is 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.run import Plan, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Kill the server with SIGKILL again and again, under load, and judge whether"
        " every acknowledged publication was seen exactly once by each of its clients, or the"
        " client was told that something may be missing.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--clients", type=int, default=200, help="clients that are connected all the time")
    add("--kills", type=int, default=10, help="how often the server is killed")
    add("--seed", type=int, default=1, help="for the random choices")
    add("--channels", type=int, default=20, help="channels in all")
    add("--channels-each", type=int, default=4, help="channels of one client")
    add("--publishers", type=int, default=8, help="publishers at a time")
    add("--rate", type=float, default=40.0, help="publications per second; 0: as fast as can be")
    add("--durability", choices=("commit", "write", "none"), default="commit", help="the server's")
    add(
        "--duration",
        type=float,
        default=0.0,
        help="seconds over which the kills are spread,"
        " without the restarts; 0: three for each kill",
    )
    add(
        "--stays",
        type=float,
        default=20.0,
        help="seconds after which a client drops its connection, on average; 0: never",
    )
    add(
        "--history-size",
        type=int,
        default=10000,
        help="publications that a channel keeps; with"
        " few of them clients are told that something is missing",
    )
    add("--planned", type=float, default=0.0, help="part of the kills that is SIGTERM: 0 to 1")
    add("--json", type=Path, metavar="OUT", help="where the report is to be written")
    return parser.parse_args()


def main() -> int:
    """Run it as the command line says."""
    given = vars(_arguments())
    out: Path | None = given.pop("json")
    given["duration"] = given["duration"] or 3.0 * given["kills"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = run(Plan(**given))
    text = json.dumps(report, indent=2) + "\n"
    if out is not None:
        out.write_text(text, "utf-8")
    print(text, end="")
    print(_verdict(report), file=sys.stderr)
    return 1 if report["violations"] else 0


def _verdict(report: Mapping[str, Any]) -> str:
    if report["violations"]:
        return f"FAILED: {report['violations']}; the server's files are in {report['folder']}"
    counts = report["counts"]
    return (
        f"good: {counts['acknowledged']} acknowledged, {counts['seen']} seen by {counts['views']}"
        f" subscriptions, {counts.get('kills', 0)} kills, told of a loss {counts.get('told', 0)}"
        f" times, {report['callbacks']['afterwards']} callbacks, {report['seconds']} s"
    )


if __name__ == "__main__":
    sys.exit(main())
