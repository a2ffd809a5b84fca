"""Measures how much a flood on one site slows another one down: ``python -m benchmarks.fairness``.

One server has a quiet site and a loud one. On the quiet site 20 clients are connected, and a
publisher sends 50 messages a second, one after the other. How long does it take until it is
answered, and until the last of the clients has it? The same is measured while the other site is
flooded: by publishes, batches of 10,000 publishes, fan-outs to 5,000 clients, hundreds of connects
at once, and requests with long answers. JSON to stdout.

Beside the time on the wall there is the CPU time that the server uses meanwhile, for this publish
and before it. Both have a bound in 99 of 100 cases. Other work on the machine lengthens the one,
but not the other: so the time on the wall is judged where there is none.
"""

from __future__ import annotations

import argparse
import json
import secrets
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Figure
from benchmarks.flood import FLOODS
from benchmarks.load import api_request
from benchmarks.processes import LOAD_CORE, BenchmarkError, Child, prepare
from twisted_push.bench import frames
from twisted_push.bench.server import Server, running_server

CPU_BOUND = 40.0
"""Milliseconds of CPU time of the server, in 99 of 100 cases, until all have a publish."""

WALL_BOUND = 50.0
"""Milliseconds on the wall, in 99 of 100 cases, until a publish is answered and all have it.

For a machine that does nothing else, with a core for the server and one for what measures it.
"""

CPU = "CPU of the server"
WALL = ("answered", "received by all")

CLIENTS = 20
INTERVAL = 0.02
_TIMEOUT = 20.0
_WARM_UP = 25

_HOST = "quiet.test"
_SITES = """\
hosts = ["127.0.0.1"]

[sites.quiet]
hosts = ["quiet.test"]
key = "{key}"
anonymous = true
"""
_UPGRADE = (
    f"GET /connection/websocket HTTP/1.1\r\nHost: {_HOST}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    rounds: int
    publishes: int
    """Of each round."""


SHORT = Scale(1, 200)
FULL = Scale(3, 500)


class _Quiet:
    """The clients and the publisher of the quiet site."""

    def __init__(self, server: Server, key: str) -> None:
        port = server.port
        self._cpu = server.cpu
        self._poll = select.poll()
        self._clients = {each.fileno(): each for each in (_connect(port) for _ in range(CLIENTS))}
        self._api = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self._api.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in (*self._clients, self._api.fileno()):
            self._poll.register(number, select.POLLIN)
        self._request = api_request(port, key, "publish", {"channel": "broadcast", "data": 1})

    def publish(self) -> tuple[float, float, float]:
        """Publish once; give the ms until the answer, and until the last client has it.

        The third is the server's CPU time until both, in ms.
        """
        used = self._cpu()
        waiting = {*self._clients, self._api.fileno()}
        began = time.monotonic()
        self._api.sendall(self._request)
        answered = last = 0.0
        while waiting:
            found = self._poll.poll(_TIMEOUT * 1000)
            now = time.monotonic()
            if not found:
                raise BenchmarkError(f"a publish on the quiet site is lost after {_TIMEOUT:g} s")
            for number, _ in found:
                if number == self._api.fileno():
                    if b"200 OK" not in self._api.recv(4096):
                        raise BenchmarkError("a publish on the quiet site is refused")
                    answered = now
                elif b'"pub":' in self._read(number):
                    last = now
                else:
                    continue
                waiting.discard(number)
        used = self._cpu() - used
        return (answered - began) * 1000, (last - began) * 1000, used / 1e6

    def _read(self, number: int) -> bytes:
        client = self._clients[number]
        data = client.recv(4096)
        if not data:
            raise BenchmarkError("the server closed a client of the quiet site")
        for opcode, payload in frames.split(data)[0]:
            if opcode == frames.TEXT and payload == b"{}":
                client.sendall(frames.masked(b"{}"))
        return data

    def measure(self, count: int) -> tuple[float, ...]:
        """Publish that often; give p50 and p99 of all three, in ms."""
        found = []
        for number in range(_WARM_UP + count):
            began = time.monotonic()
            taken = self.publish()
            if number >= _WARM_UP:
                found.append(taken)
            time.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))
        return tuple(each for column in zip(*found, strict=True) for each in _percentiles(column))

    def close(self) -> None:
        for each in (*self._clients.values(), self._api):
            each.close()


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    found = sorted(values)
    return found[len(found) // 2], found[int(len(found) * 0.99)]


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(_UPGRADE)
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(4096)
    if not data.startswith(b"HTTP/1.1 101 "):
        raise BenchmarkError("the quiet site lets nobody in")
    client.sendall(frames.masked(b'{"id":1,"connect":{}}'))
    while b'"connect":' not in data:
        data += client.recv(4096)
    return client


def _measure(server: Server, key: str, kind: str, scale: Scale) -> Iterator[Figure]:
    """Measure beside one kind of flood; what it is without any is the floor."""
    parts = (*WALL, CPU)
    names = [f"{part}, {percentile}" for part in parts for percentile in ("p50", "p99")]
    alone: list[tuple[float, ...]] = []
    beside: list[tuple[float, ...]] = []
    for _ in range(scale.rounds):
        quiet = _Quiet(server, key)
        server.settle()
        alone.append(quiet.measure(scale.publishes))
        arguments = ["-m", "benchmarks.flood", kind, str(server.port), server.key]
        with Child(arguments, LOAD_CORE) as flood:
            flood.listen()
            beside.append(quiet.measure(scale.publishes))
            flood.check()
        quiet.close()
    for index, name in enumerate(names):
        yield Figure(
            f"{kind}: {name}",
            "ms",
            [each[index] for each in beside],
            [each[index] for each in alone],
        )


def judge(figures: Sequence[Figure]) -> dict[str, dict[str, float | bool]]:
    """Hold the worst p99 against its bound: in CPU time, and on the wall."""

    def worst(parts: Sequence[str]) -> float:
        names = tuple(f": {part}, p99" for part in parts)
        return max(each.median for each in figures if each.name.endswith(names))

    found = {"cpu": (CPU_BOUND, worst((CPU,))), "wall": (WALL_BOUND, worst(WALL))}
    return {
        kind: {"p99_ms": bound, "worst": round(value, 3), "kept": value <= bound}
        for kind, (bound, value) in found.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table to stderr and JSON to stdout; 1 if a p99 is above its bound."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/fairness.py",
        description="Measure what a flood on one site does to another.",
        allow_abbrev=False,
    )
    parser.add_argument("--short", action="store_true", help="less of everything")
    parser.add_argument("--only", choices=tuple(FLOODS), action="append", help="this flood alone")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    options = parser.parse_args(argv)
    scale = SHORT if options.short else FULL
    prepare(900)
    figures: list[Figure] = []
    key = secrets.token_urlsafe(32)
    with ExitStack() as stack:
        server = stack.enter_context(running_server(site=_SITES.format(key=key)))
        for kind in options.only or FLOODS:
            for figure in _measure(server, key, kind, scale):
                print(report.line(figure), file=sys.stderr, flush=True)
                figures.append(figure)
    command = " ".join(["benchmarks/fairness.py", *(sys.argv[1:] if argv is None else argv)])
    bounds = judge(figures)
    document = report.document(command, scale, figures)
    document["bound"] = bounds
    text = json.dumps(document, indent=2)
    print(f"\n{report.table(figures)}\n", file=sys.stderr)
    for kind, each in bounds.items():
        print(f"worst p99, {kind}: {each['worst']:.1f} ms of {each['p99_ms']:g}", file=sys.stderr)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0 if all(each["kept"] for each in bounds.values()) else 1


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
