"""The clients of a measurement: what they ask a server for."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from benchmarks.c_programs import compiler, program
from twisted_push.bench.crowds import PYTHON, Crowd


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
