"""Minutes of coming and going, after which nothing may be left: ``python -m benchmarks.churn``.

Round after round: clients connect, subscribe and get messages; some drop their connection, some die
in the middle of a fan-out, some never read, some give up before they are connected. When all are
gone the server must be as it was: as much memory, and no session, connection, timer or descriptor
of theirs. JSON to stdout; the exit code is 1 if something is left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks import peers
from benchmarks.fan_out import crowd
from benchmarks.processes import prepare
from twisted_push.bench import frames
from twisted_push.bench.crowds import Clients
from twisted_push.bench.process import BenchError
from twisted_push.bench.publisher import Publisher
from twisted_push.bench.report import machine
from twisted_push.bench.server import CHANNEL, Server, running_server

_WATCHED = (sys.executable, "-m", "benchmarks.watched")
_LIMITS = 'max_outbox = "64KiB"\nstale_close_delay = "2s"\n'
_ROOMS = """
[[sites.default.namespaces]]
prefix = "room:"
history_size = 20
history_ttl = "5s"
recover = true
presence = true
join_leave = true
client_subscribe = "anyone"
"""
_ROOM_COUNT = 40
_CLIENTS = 150
_KILLED = 100
_SLOW = 5
_STREAMS = 20
_HALF_WAY = 20
_LARGE = 30_000
_UNTIL_CLOSED = 400
"""Large messages after which nobody who does not read may be left."""
_GROWTH = 0.05
"""Of memory, that counts as none."""
_OF_CHANNELS = ("twisted_push.model.", "twisted_push.engines.")
"""Where the classes are of what channels keep, which is bounded and outlives their clients."""
_AFTERWARDS = 15.0
"""Seconds in which all that outlives a client for a while must be over."""


@dataclass
class _Load:
    """What goes on, and how often it did."""

    server: Server
    publisher: Publisher
    connections: int = 0
    published: int = 0
    slow_closed: int = 0

    def round(self, number: int) -> None:
        """Do all of it once."""
        room = f"room:{number % _ROOM_COUNT}"
        with self._clients(_CLIENTS, room), self._streams(), self._given_up():
            killed = crowd(peers.Ours(self.server))
            with killed:
                killed.open(_KILLED)
                self.connections += _KILLED
                self._publish(room, 200)
                self._publish(CHANNEL, 2_000)
                for each in killed.crowds:
                    os.kill(each.pid, signal.SIGKILL)
                self._publish(CHANNEL, 2_000)
            self._slow_readers()

    def _publish(self, channel: str, size: int) -> None:
        self.publisher.publish(channel, size)
        self.published += 1

    @contextmanager
    def _clients(self, count: int, room: str) -> Iterator[Clients]:
        with crowd(peers.Ours(self.server)) as clients:
            clients.open(count)
            self.connections += count
            command = {"id": 2, "subscribe": {"channel": room}}
            for each in clients.crowds:
                each.ask(f"say 1 {json.dumps(command)}")
            yield clients
            clients.close()

    @contextmanager
    def _streams(self) -> Iterator[None]:
        """Connect clients of Server-Sent Events."""
        path = "/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        each = [self._dial(request) for _ in range(_STREAMS)]
        for one in each:
            _read_until(one, b'"connect":')
        yield
        for one in each:
            one.close()

    @contextmanager
    def _given_up(self) -> Iterator[None]:
        """Connect, and say half of what is to be said."""
        each = [self._dial(_upgrade()[: number * 10]) for number in range(_HALF_WAY)]
        yield
        for one in each:
            one.close()

    def _slow_readers(self) -> None:
        """Connect clients that do not read, and publish until the server has closed them."""
        each = [self._dial(_upgrade(), receive_buffer=4096) for _ in range(_SLOW)]
        for one in each:
            one.sendall(frames.masked(b'{"id":1,"connect":{}}'))
            _read_until(one, b'"connect":')
        before = self.clients()
        for _ in range(_UNTIL_CLOSED):
            self._publish(CHANNEL, _LARGE)
            if self.clients() <= before - _SLOW:
                self.slow_closed += _SLOW
                break
        else:
            raise BenchError("clients that do not read are still connected")
        for one in each:
            one.close()

    def _dial(self, said: str, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(30.0)
        sock.connect(("127.0.0.1", self.server.port))
        sock.sendall(said.encode())
        self.connections += 1
        return sock

    def clients(self) -> int:
        """Give how many clients the server has."""
        return int(self.ask("info")["nodes"][0]["num_clients"])

    def ask(self, method: str) -> Any:
        """Give the result of a method of the API that needs no parameters."""
        url = f"http://127.0.0.1:{self.server.port}/api/{method}"
        with urlopen(Request(url, b"{}", {"X-API-Key": self.server.key}), timeout=30) as answer:
            return json.load(answer)["result"]


def _upgrade() -> str:
    return (
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


def _read_until(sock: socket.socket, text: bytes) -> None:
    read = b""
    while text not in read:
        more = sock.recv(4096)
        if not more:
            raise BenchError(f"a connection ended early: {read!r}")
        read += more


@dataclass(frozen=True)
class _Held:
    """What the server holds when nobody is connected. ``memory`` is in KiB."""

    memory: int
    descriptors: int
    timers: int
    objects: dict[str, int]


def _held(server: Server, load: _Load) -> _Held:
    """Wait until all clients are gone, and what outlives them for a while; then look."""
    deadline = time.monotonic() + 60.0
    while load.clients() or load.ask("channels")["channels"]:
        if time.monotonic() > deadline:
            raise BenchError(f"{load.clients()} clients are still there, who left a minute ago")
        time.sleep(0.2)
    time.sleep(_AFTERWARDS)
    server.settle()
    memory = server.memory()
    found = server.ask("held")
    descriptors = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    return _Held(memory, descriptors, found["timers"], found["objects"])


def _left(before: _Held, after: _Held) -> list[str]:
    """Say what there is more of than there was."""
    found = []
    if after.memory > before.memory * (1 + _GROWTH):
        found.append(f"memory grew from {before.memory:,} to {after.memory:,} KiB")
    for name in ("descriptors", "timers"):
        if getattr(after, name) > getattr(before, name):
            found.append(f"{name}: {getattr(after, name)}, and {getattr(before, name)} before")
    for kind, count in after.objects.items():
        if not kind.startswith(_OF_CHANNELS) and count > before.objects.get(kind, 0):
            found.append(f"{kind}: {count}, and {before.objects.get(kind, 0)} before")
    return found


def _run(seconds: float) -> tuple[_Load, int, _Held, _Held]:
    with running_server(limits=_LIMITS, site=_ROOMS, command=_WATCHED, talks=True) as server:
        publisher = Publisher(f"http://127.0.0.1:{server.port}", server.key)
        load = _Load(server, publisher)
        # What is made once, and the rooms' positions, which outlive everybody.
        for number in range(_ROOM_COUNT):
            load.round(number)
        before = _held(server, load)
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end:
            load.round(rounds)
            rounds += 1
        after = _held(server, load)
        publisher.close()
        return load, rounds, before, after


def main(argv: Sequence[str] | None = None) -> int:
    """Churn, look, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="default: 10")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    options = parser.parse_args(argv)
    prepare(int(options.minutes * 60) + 300, ahead=False)
    try:
        load, rounds, before, after = _run(options.minutes * 60)
    except BenchError as error:
        print(f"churn: {error}", file=sys.stderr)
        return 1
    left = _left(before, after)
    report = {
        "minutes": options.minutes,
        "rounds": rounds,
        "connections": load.connections,
        "published": load.published,
        "closed_as_slow": load.slow_closed,
        "before": {name: value for name, value in vars(before).items() if name != "objects"},
        "after": {name: value for name, value in vars(after).items() if name != "objects"},
        "left": left,
        "machine": machine(),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    for line in left:
        print(f"*** LEFT: {line}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
