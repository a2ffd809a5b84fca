"""Measures the journal, at the engine: ``python -m benchmarks.journal --short``. JSON to stdout.

Each part runs in a process of its own, with its files in a new directory below ``--directory``
(by default where temporary files go): what a commit costs is what the disk there costs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.figures import DATA_SIZE, Figure

PARTS = ("publish", "memory", "start")
DURABILITIES = ("no journal", "none", "write", "commit")
KEPT = 100
"""Publications that each channel keeps."""


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    rounds: int
    publishes: int
    """Per round, by 64 at a time; a sixteenth of it one after the other."""
    memory_publications: int
    start_publications: int
    start_channels: int


SHORT = Scale(3, 6_400, 100_000, 100_000, 1_000)
FULL = Scale(7, 32_000, 200_000, 1_000_000, 10_000)


def _data() -> bytes:
    return b'"' + b"x" * (DATA_SIZE - 2) + b'"'


def _engine(reactor: Any, durability: str, directory: str) -> Any:
    from twisted_push.engines.journal import Journal
    from twisted_push.engines.memory import MemoryEngine

    if durability == "no journal":
        return MemoryEngine(reactor)
    return MemoryEngine(reactor, Journal(directory, durability, reactor))


class _Events:
    """A node without clients."""

    def publication_received(self, publication: object) -> int:
        return 0

    def state(self, connected: bool, why: str) -> None:
        raise SystemExit(why)


async def _publishing(engine: Any, name: str, count: int, waits: list[float]) -> None:
    from twisted_push.model import Publication, PublishOptions

    options = PublishOptions(KEPT, 3600.0)
    for _ in range(count):
        began = time.perf_counter()
        await engine.publish(Publication(name, _data(), time=1_700_000_000_000), options)
        waits.append(time.perf_counter() - began)


async def _publish(reactor: Any, scale: Scale, directory: str) -> Iterator[Figure]:
    """Publishes per second and the 99th percentile of the answers' time."""
    from twisted.internet.defer import Deferred, gatherResults

    figures = []
    for durability in DURABILITIES:
        engine = _engine(reactor, durability, os.path.join(directory, durability))
        await engine.start(_Events())
        for at_once in (1, 64):
            name = f"{durability}, {at_once} at a time"
            rate = Figure(f"publish, {name}", "/s")
            p99 = Figure(f"publish p99, {name}", "ms")
            count = scale.publishes // (16 if at_once == 1 else at_once)
            for _ in range(scale.rounds):
                waits: list[float] = []
                began = time.perf_counter()
                each = [_publishing(engine, f"c{n}", count, waits) for n in range(at_once)]
                await gatherResults([Deferred.fromCoroutine(one) for one in each])
                rate.rounds.append(len(waits) / (time.perf_counter() - began))
                p99.rounds.append(sorted(waits)[int(len(waits) * 0.99)] * 1000)
            figures += [rate, p99]
        await engine.stop()
    return iter(figures)


def _resident() -> int:
    from twisted_push.collector import resident

    gc.collect()
    return resident()


async def _memory(reactor: Any, scale: Scale, directory: str) -> Iterator[Figure]:
    """Memory of what is kept: as it was published, and as it comes back after a restart."""
    figures = []
    channels = scale.memory_publications // KEPT
    engine = _engine(reactor, "write", directory)
    await engine.start(_Events())
    before = _resident()
    for number in range(channels):
        await _publishing(engine, f"channel:{number}", KEPT, [])
    per_thousand = scale.memory_publications / 1000 * 1024
    used = (_resident() - before) / per_thousand
    figures.append(Figure("memory per 1,000 kept", "KiB", [used]))
    await engine.stop()
    del engine
    return iter(figures)


def _fill(scale: Scale, directory: str) -> None:
    """Write a journal as it is after many publishes, only faster."""
    from twisted_push.engines.journal.records import Batch, StreamRow, StreamWrite, stream_body
    from twisted_push.engines.journal.store import Store
    from twisted_push.history import pack
    from twisted_push.model import Publication

    store = Store(directory, "commit", 0)
    store.open()
    body = pack(Publication("", _data(), time=1_700_000_000_000))
    each = scale.start_publications // scale.start_channels
    rows = [(offset, time.time() + 3600.0, body) for offset in range(1, each + 1)]
    for number in range(1, scale.start_channels + 1):
        row = StreamRow(f"channel:{number}", f"epoch{number}", each, 0.0)
        write = StreamWrite(number, stream_body(number, row), 0, None, rows)
        store.write(Batch([write]))
    store.close(clean=True)


async def _start(reactor: Any, scale: Scale, directory: str) -> Iterator[Figure]:
    """The time until an engine with a large journal takes part, and its memory."""
    figure = Figure(f"start with {scale.start_publications:,} publications", "s")
    memory = Figure("memory per 1,000 kept, after a restart", "KiB")
    before = _resident()
    for number in range(scale.rounds):
        engine = _engine(reactor, "commit", directory)
        began = time.perf_counter()
        await engine.start(_Events())
        figure.rounds.append(time.perf_counter() - began)
        if not number:
            used = _resident() - before
            memory.rounds.append(used / (scale.start_publications / 1000 * 1024))
        await engine.stop()
        del engine
    return iter([figure, memory])


def _child(part: str, scale: Scale, directory: str) -> None:
    """Do one part, and print its figures."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    doing = {"publish": _publish, "memory": _memory, "start": _start}[part]
    if part == "start" and not os.path.exists(os.path.join(directory, "journal.sqlite")):
        _fill(scale, directory)

    async def work(reactor: Any) -> None:
        for figure in await doing(reactor, scale, directory):
            print(json.dumps(asdict(figure)), flush=True)

    react(lambda reactor: Deferred.fromCoroutine(work(reactor)))


def _measure(part: str, arguments: Sequence[str]) -> Iterator[Figure]:
    command = [sys.executable, "-m", "benchmarks.journal", "--child", part, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=900)
    for line in done.stdout.splitlines():
        yield Figure(**json.loads(line))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table to stderr and JSON to stdout, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/journal.py", description="Measure the journal.", allow_abbrev=False
    )
    parser.add_argument("--short", action="store_true", help="less of everything")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--directory", metavar="DIR", help="where the files go")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    scale = SHORT if options.short else FULL
    if options.child:
        _child(options.child, scale, options.directory)
        return 0
    figures = []
    for part in options.only or PARTS:
        with tempfile.TemporaryDirectory(prefix="journal", dir=options.directory) as directory:
            given = ["--directory", directory, *(["--short"] if options.short else [])]
            for figure in _measure(part, given):
                print(report.line(figure), file=sys.stderr, flush=True)
                figures.append(figure)
    command = " ".join(["benchmarks/journal.py", *(sys.argv[1:] if argv is None else argv)])
    text = json.dumps(report.document(command, scale, figures), indent=2)
    print(f"\n{report.table(figures)}", file=sys.stderr)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
