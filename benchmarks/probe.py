"""A client that asks the server something every millisecond, and notes how long answers take.

``python -m benchmarks.probe PORT`` prints a line when it is connected; then, for every line on its
standard input, the answers since the last: a list of when each was asked for, and how long it took,
in ns.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from twisted_push.bench import frames

_UPGRADE = (
    "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_PAUSE = 0.001


class _Probe:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._number = 1
        self._socket.sendall(_UPGRADE.format(port=port).encode())
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._socket.recv(65536)
        self._rest = self._rest.partition(b"\r\n\r\n")[2]
        self._ask("connect")

    def _ask(self, method: str) -> None:
        self._number += 1
        command = {"id": self._number, method: {}}
        self._socket.sendall(frames.masked(json.dumps(command).encode()))
        wanted = f'"id":{self._number},'.encode()
        answered = False
        while not answered:
            read = self._socket.recv(65536)
            if not read:
                raise SystemExit("the server closed the probe's connection")
            found, self._rest = frames.split(self._rest + read)
            for _, payload in found:
                answered = answered or wanted in payload
                if payload == b"{}":
                    self._socket.sendall(frames.masked(b"{}"))

    def ask(self) -> tuple[int, int]:
        """Ask once; give when, and how long it took."""
        begun = time.monotonic_ns()
        self._ask("ping")
        return begun, time.monotonic_ns() - begun


def main(port: int) -> None:
    """Ask until the input ends."""
    probe = _Probe(port)
    print("true", flush=True)
    answers: list[tuple[int, int]] = []
    while True:
        answers.append(probe.ask())
        if select.select([sys.stdin], [], [], _PAUSE)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(answers), flush=True)
            answers.clear()


if __name__ == "__main__":
    main(int(sys.argv[1]))
