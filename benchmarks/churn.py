"""Clients that come, subscribe, publish, do not read, and go in every way, for as long as you like.

``python benchmarks/churn.py --minutes 10`` ends with what is left of them when all are gone: the
memory beside that of the beginning, and sessions, sockets and timers, of which none may be left
over. The exit code is 1 if something is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Run as a file: the tree, and not this folder, is what to import from.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from twisted_push.bench import frames
from twisted_push.bench.process import Child
from twisted_push.bench.server import Server, running_server

_LEFT = (sys.executable, "-m", "benchmarks.left")
_LIMITS = 'max_outbox = "64KiB"\nmax_commands_per_second = 0\nstale_close_delay = "3s"\n'
_SITE = """
[[sites.default.namespaces]]
prefix = "plain:"
client_subscribe = "anyone"
client_publish = "subscriber"

[[sites.default.namespaces]]
prefix = "kept:"
client_subscribe = "anyone"
history_size = 20
history_ttl = "20s"
recover = true
presence = true
join_leave = true
"""
_CHANNELS = [f"{kind}:{number}" for kind in ("plain", "kept") for number in range(20)]
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_RESET = struct.pack("ii", 1, 0)
_QUIET = 20.0
"""Seconds after which all is gone, graces included."""


class _Client:
    """One connection. One that is ``slow`` is not read."""

    def __init__(self, port: int, *, slow: bool) -> None:
        self.slow = slow
        self.sock = socket.socket()
        if slow:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.commands = 0

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.send(data)

    def command(self, method: str, **params: object) -> None:
        self.commands += 1
        command = {"id": self.commands, method: params}
        self.send(frames.masked(json.dumps(command).encode()))

    def drop(self, *, reset: bool) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()


class _Churn:
    """All that happens, by the numbers of ``seed``."""

    def __init__(self, server: Server, seed: int, most: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._most = most
        self._clients: dict[int, _Client] = {}
        self._poller = select.epoll()
        self._api = HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._host = f"127.0.0.1:{server.port}"
        self.done: Counter[str] = Counter()
        acts: Mapping[Callable[[], None], int] = {
            self.come: 30,
            self.come_slow: 2,
            self.come_oddly: 3,
            self.stream: 3,
            self.shake_hands: 3,
            self.subscribe: 25,
            self.unsubscribe: 5,
            self.say: 10,
            self.publish: 25,
            self.publish_much: 2,
            self.go: 12,
            self.go_politely: 8,
            self.go_in_a_frame: 3,
            self.break_rules: 3,
            self.kick: 1,
        }
        self._acts = tuple(acts)
        self._weights = tuple(acts.values())

    def run(self, seconds: float, rate: float) -> None:
        """Do ``rate`` things a second."""
        begun = time.monotonic()
        done = 0
        while (passed := time.monotonic() - begun) < seconds:
            while done < passed * rate:
                [act] = self._random.choices(self._acts, self._weights)
                act()
                self.done[act.__name__] += 1
                done += 1
            self._read(0.005)

    def end(self) -> None:
        """Have all clients go, and wait until nothing of them can be there.

        What channels keep would be there for a minute longer: the engine looks once in a while.
        """
        for client in tuple(self._clients.values()):
            self._forget(client, reset=self._random.random() < 0.5)
        for channel in _CHANNELS:
            if channel.startswith("kept:"):
                self._call("history_remove", channel=channel)
        self._api.close()
        time.sleep(_QUIET)
        self._server.settle()

    def _read(self, seconds: float) -> None:
        for number, _ in self._poller.poll(seconds, 1024):
            client = self._clients.get(number)
            if client is None:
                continue
            try:
                data = client.sock.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._forget(client)
            elif b"\x81\x02{}" in data:
                client.send(frames.masked(b"{}"))

    # --- Coming ------------------------------------------------------------------------------

    def _open(self, *, slow: bool = False) -> _Client:
        if len(self._clients) >= self._most:
            self.go()
        client = _Client(self._server.port, slow=slow)
        self._clients[client.sock.fileno()] = client
        if not slow:
            self._poller.register(client.sock, select.EPOLLIN)
        return client

    def _upgrade(self, client: _Client) -> None:
        client.send(_UPGRADE.format(path="/connection/websocket", host=self._host).encode())
        client.command("connect")

    def come(self) -> None:
        """Connect, in one piece or in two."""
        client = self._open()
        if self._random.random() < 0.9:
            self._upgrade(client)
            return
        client.send(b"GET /connection/websocket HTTP/1.1\r\n")
        time.sleep(0.002)
        rest = _UPGRADE.format(path="", host=self._host).partition("\r\n")[2]
        client.send(rest.encode())
        client.command("connect")

    def come_slow(self) -> None:
        """Connect, and read nothing of what comes."""
        client = self._open(slow=True)
        self._upgrade(client)
        client.command("subscribe", channel=self._random.choice(_CHANNELS))

    def come_oddly(self) -> None:
        """Begin something that comes to nothing."""
        client = self._open()
        beginning = [
            b"",
            b"GET / HT",
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x00",
        ]
        client.send(self._random.choice(beginning))

    def stream(self) -> None:
        """Read server-sent events."""
        query = "%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
        head = f"GET /connection/sse?cf_connect={query} HTTP/1.1\r\nHost: {self._host}\r\n\r\n"
        self._open().send(head.encode())

    def shake_hands(self) -> None:
        """Begin to poll as Engine.IO does, and do not go on."""
        head = f"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {self._host}\r\n\r\n"
        self._open().send(head.encode())

    # --- Being there -------------------------------------------------------------------------

    def _any(self) -> _Client | None:
        return self._random.choice(tuple(self._clients.values())) if self._clients else None

    def subscribe(self) -> None:
        """Subscribe somebody."""
        if (client := self._any()) is not None:
            client.command("subscribe", channel=self._random.choice(_CHANNELS))

    def unsubscribe(self) -> None:
        """Take it back, or what is not there."""
        if (client := self._any()) is not None:
            client.command("unsubscribe", channel=self._random.choice(_CHANNELS))

    def say(self) -> None:
        """Publish as a client."""
        if (client := self._any()) is not None:
            channel = self._random.choice(_CHANNELS)
            client.command("publish", channel=channel, data={"text": "x" * 100})

    def _call(self, method: str, **params: object) -> None:
        headers = {"X-API-Key": self._server.key, "Content-Type": "application/json"}
        self._api.request("POST", f"/api/{method}", json.dumps(params), headers)
        self._api.getresponse().read()

    def publish(self) -> None:
        """Publish as the CMS."""
        data = {"text": "x" * self._random.choice((10, 100, 1000))}
        self._call("publish", channel=self._random.choice([*_CHANNELS, "broadcast"]), data=data)

    def publish_much(self) -> None:
        """Publish more than a client that does not read may leave unread."""
        channel = self._random.choice(_CHANNELS)
        for _ in range(8):
            self._call("publish", channel=channel, data={"text": "x" * 60_000})

    def kick(self) -> None:
        """Send everybody away, once in a while; else tell a channel's to leave it."""
        if self._random.random() < 0.05:
            self._call("disconnect", anonymous=True)
        else:
            self._call("unsubscribe", anonymous=True, channel=self._random.choice(_CHANNELS))

    # --- Going -------------------------------------------------------------------------------

    def _forget(self, client: _Client, *, reset: bool = False) -> None:
        del self._clients[client.sock.fileno()]
        client.drop(reset=reset)

    def go(self) -> None:
        """Drop a connection, by a reset or not."""
        if (client := self._any()) is not None:
            self._forget(client, reset=self._random.random() < 0.5)

    def go_politely(self) -> None:
        """Close as the protocol has it."""
        if (client := self._any()) is not None:
            client.send(frames.masked(b"\x03\xe8", frames.CLOSE))

    def go_in_a_frame(self) -> None:
        """Drop a connection in the middle of a frame."""
        if (client := self._any()) is not None:
            client.send(frames.masked(b'{"id":1,"ping":{}}' * 20)[: self._random.randrange(1, 100)])
            self._forget(client)

    def break_rules(self) -> None:
        """Send what no client may."""
        if (client := self._any()) is not None:
            faults = [b"\x81\x00", b"\xf1\x80....", frames.masked(b"\xff"), frames.masked(b"{")]
            client.send(self._random.choice(faults))


@contextlib.contextmanager
def _server() -> Iterator[Server]:
    with running_server(limits=_LIMITS, site=_SITE, command=_LEFT, talks=True) as server:
        yield server


def _left(server: Child) -> Mapping[str, int]:
    found: Mapping[str, int] = server.ask("")
    return found


def churn(seconds: float, *, warm_up: float, rate: float, most: int, seed: int) -> dict[str, Any]:
    """Churn for so long, and give what is left; see the module."""
    with _server() as server:
        # What is made once is not left over: a short while of all of it comes first.
        first = _Churn(server, seed + 1, most)
        first.run(warm_up, rate)
        first.end()
        before, base = _left(server), server.memory()
        churning = _Churn(server, seed, most)
        memory = []
        for _ in range(10):
            churning.run(seconds / 10, rate)
            memory.append(server.memory())
        churning.end()
        after = _left(server)
        return {
            "seconds": seconds,
            "warm_up_seconds": warm_up,
            "seed": seed,
            "done": dict(churning.done),
            "memory_before_kib": base,
            "memory_in_it_kib": memory,
            "memory_after_kib": server.memory(),
            "blocks": after["blocks"] - before["blocks"],
            "left": {
                name: count - before.get(name, 0)
                for name, count in after.items()
                if name not in ("blocks", "objects")
            },
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Churn, print what is left as JSON, and give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--warm-up", type=float, default=1, help="minutes before the first look")
    parser.add_argument("--rate", type=float, default=300.0, help="things that happen in a second")
    parser.add_argument("--clients", type=int, default=500, help="most at a time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    found = churn(
        options.minutes * 60,
        warm_up=min(options.warm_up, options.minutes) * 60,
        rate=options.rate,
        most=options.clients,
        seed=options.seed,
    )
    growth = found["memory_after_kib"] / found["memory_before_kib"] - 1
    left = {name: count for name, count in found["left"].items() if count > 0}
    print(json.dumps({**found, "growth": round(growth, 4)}, indent=2))
    if left or growth > 0.05:
        print(f"churn: left over: {left}, memory {growth:+.1%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
