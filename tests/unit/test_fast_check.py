"""What the fast path leans on: with the versions that are installed, and with ones that differ."""

from __future__ import annotations

from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock

from twisted_push.config import Config
from twisted_push.transports.door import Door
from twisted_push.transports.fast import find_fast_path


def why_not() -> str:
    path, why = find_fast_path(Door([], Config()), lambda head: None, Clock())
    assert (path is None) is bool(why)
    return why


def test_the_installed_versions_have_a_fast_path() -> None:
    """If this fails, these versions differ in what is named: see `twisted_push.transports.fast`."""
    assert why_not() == ""


def _autobahn_keeps(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    made = WebSocketServerProtocol._connectionMade

    def more(self: Any) -> None:
        made(self)
        setattr(self, name, value)

    monkeypatch.setattr(WebSocketServerProtocol, "_connectionMade", more)


def test_an_autobahn_that_keeps_more(monkeypatch: pytest.MonkeyPatch) -> None:
    _autobahn_keeps(monkeypatch, "newState", None)
    assert why_not() == "autobahn keeps newState"


def test_an_autobahn_that_begins_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    _autobahn_keeps(monkeypatch, "triggered", True)
    assert why_not() == "autobahn keeps triggered"


def test_an_autobahn_that_opens_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketServerProtocol, "succeedHandshake", lambda self, res: None)
    assert why_not() == "BlockingIOError: [Errno 11] Resource temporarily unavailable"


def test_an_autobahn_that_writes_past_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: Any, opcode: int, payload: bytes = b"", **more: Any) -> None:
        self.transport.write(b"!")

    monkeypatch.setattr(WebSocketServerProtocol, "sendFrame", send)
    assert why_not().startswith("autobahn answers ")


def test_a_twisted_that_keeps_more(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tcp.Server.__init__

    def more(self: Any, *args: Any) -> None:
        made(self, *args)
        self._priority = 1

    monkeypatch.setattr(tcp.Server, "__init__", more)
    assert why_not() == "twisted keeps _priority"


def test_a_twisted_that_queues_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileDescriptor, "write", lambda self, data: None)
    assert why_not() == "BlockingIOError: [Errno 11] Resource temporarily unavailable"


def test_a_twisted_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any) -> None:
        self.writeSomeData(b"".join(self._tempDataBuffer))
        self._tempDataBuffer, self._tempDataLen = [], 0

    monkeypatch.setattr(FileDescriptor, "doWrite", write)
    assert why_not() != ""


def test_a_twisted_that_closes_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp.Connection, "connectionLost", lambda self, reason: None)
    assert why_not() == "twisted does not let go of a connection"
