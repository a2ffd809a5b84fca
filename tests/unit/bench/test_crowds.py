"""The clients of a measurement: what they ask a server for, and how long they take to connect."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.c_programs import compiler, program
from twisted_push.bench.crowds import PYTHON, Clients, Crowd
from twisted_push.bench.measure import Plan, measure

STAND_IN = """
import json, sys, time
for _ in range(5):
    input()
time.sleep(float(sys.argv[1]))
took, cpu = float(sys.argv[2]) * 1e9, 9e9
wanted = told = 0
for line in sys.stdin:
    name, _, number = line.partition(" ")
    if name == "open":
        cpu += took / 2
        answer = {"ready": int(number), "ns": took}
    elif name == "expect":
        wanted = int(number)
        answer = {"messages": wanted, "last": time.monotonic_ns()}
    else:
        came, told = wanted - told, wanted
        answer = {"messages": came, "pings": 0, "cpu": cpu, "latency": {"1": came}}
    print(json.dumps(answer), flush=True)
"""
"""A crowd that takes a while and 9 s of CPU time to start, and works half of the time that it says
it took to connect."""


class NoPublisher:
    """Publishes to those who need nobody for it."""

    def publish(self, *_: object) -> int:
        return time.monotonic_ns()


def crowd(took: float, start: float = 0.0) -> Crowd:
    return Crowd("ws://x/", command=[sys.executable, "-c", STAND_IN, str(start), str(took)])


@pytest.fixture(params=["python", "c"])
def load(request: pytest.FixtureRequest) -> Sequence[str]:
    """Give the program that is the clients."""
    if request.param == "python":
        return PYTHON
    if compiler() is None:
        pytest.skip("there is no C compiler (cc)")
    return [program("load")]


@pytest.mark.parametrize("path", ["/", "/socket.io/?EIO=4&transport=websocket"])
def test_the_url_is_asked_for_with_its_query(load: Sequence[str], path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}{path}"
        with Crowd(url, command=load) as crowd:
            crowd.tell("open 1")
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as stream:
                sock.settimeout(10)
                assert stream.readline() == f"GET {path} HTTP/1.1\r\n".encode()


def test_how_long_they_took_to_connect_is_without_their_start() -> None:
    """Of the slowest of them, by what they say themselves."""
    begun = time.monotonic()
    with Clients([crowd(0.25, start=0.5), crowd(0.125, start=0.5)]) as clients:
        assert clients.open(20) == 0.25
        assert time.monotonic() - begun >= 0.5
        assert clients.open(1) == 0.25


def test_connections_per_second_are_those_of_the_time_in_which_they_connected() -> None:
    """And of it the load was busy with them, whatever its own start has used."""
    plan = Plan(channel="news", clients=20, messages=1, size=200, burst=1, rate=0.0, pid=None)
    publisher: Any = NoPublisher()
    with Clients([crowd(0.25, start=0.5), crowd(0.25)]) as clients:
        found = measure(plan, clients, publisher, lambda _: None)["connections"]
    assert (found["per_second"], found["load_busy"]) == (80, 0.5)
