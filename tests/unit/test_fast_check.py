"""What the fast path leans on: with the versions that are installed, and with ones that differ."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from tests.unit.autobahn_support import leans_on
from twisted_push.config import Config
from twisted_push.transports import websocket
from twisted_push.transports.door import Door
from twisted_push.transports.fast import find_fast_path, transport
from twisted_push.transports.fast import websocket as fast_websocket
from twisted_push.transports.fast.check import AUTOBAHN, TWISTED, open_theirs, wired


def why_not() -> str:
    path, why = find_fast_path(Door([], Config()), Clock())
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


def test_all_names_of_autobahn_are_listed() -> None:
    """What Twisted's own protocols have is no matter of Autobahn's."""
    theirs = set(dir(open_theirs())) - set(dir(Protocol()))
    assert leans_on(websocket, fast_websocket) & theirs == AUTOBAHN


def test_all_names_of_twisted_are_listed() -> None:
    with wired(tcp.Server) as (theirs, _):
        assert leans_on(transport) & set(dir(theirs)) - set(dir(object)) == TWISTED


def _rename(monkeypatch: pytest.MonkeyPatch, whose: type, name: str, *, keep: bool = False) -> None:
    """Have a class and its parents say ``name_2`` wherever they say ``name``; or keep both."""
    for each in whose.__mro__[:-1]:
        for function in filter(inspect.isfunction, tuple(vars(each).values())):
            code = function.__code__
            names = tuple(f"{name}_2" if found == name else found for found in code.co_names)
            monkeypatch.setattr(function, "__code__", code.replace(co_names=names))
        if name in vars(each):
            monkeypatch.setattr(each, f"{name}_2", vars(each)[name], raising=False)
            if not keep:
                monkeypatch.delattr(each, name)


@pytest.mark.parametrize("name", sorted(AUTOBAHN))
def test_an_autobahn_that_names_something_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _rename(monkeypatch, WebSocketServerProtocol, name)
    assert name in why_not()


@pytest.mark.parametrize("name", sorted(TWISTED))
def test_a_twisted_that_names_something_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _rename(monkeypatch, tcp.Server, name)
    assert why_not()


def _is_overridden(name: str) -> bool:
    function = getattr(fast_websocket.LeanWebSocket, name, None)
    return inspect.isfunction(function) and function.__module__.startswith("twisted_push.")


# On the fast path nobody waits for these: a request and whole messages are read before.
_OF_THE_PLAIN_PATH = {"onConnect", "onMessage"}


@pytest.mark.parametrize("name", sorted(filter(_is_overridden, AUTOBAHN - _OF_THE_PLAIN_PATH)))
def test_an_autobahn_that_calls_something_else(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is overridden is there as ever, but of no effect."""
    _rename(monkeypatch, WebSocketServerProtocol, name, keep=True)
    assert why_not()


def test_an_autobahn_that_opens_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketServerProtocol, "succeedHandshake", lambda self, res: None)
    assert why_not().startswith("autobahn has no current_frame, ")


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
