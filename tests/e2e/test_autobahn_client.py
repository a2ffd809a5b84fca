"""Autobahn's own WebSocket client, in this process and its reactor."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from tests.e2e.server import PATIENCE, PushServer


class Recorder(WebSocketClientProtocol):
    """Keeps the messages, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: DeferredQueue[dict[str, Any]] = DeferredQueue()
        self.ended: Deferred[int | None] = Deferred()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        for line in payload.splitlines():
            self.messages.put(json.loads(line))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.ended.callback(code)

    def say(self, **command: object) -> None:
        self.sendMessage(json.dumps(command).encode())


def _in_time(waiting: Deferred[Any]) -> Deferred[Any]:
    from twisted.internet import reactor

    return waiting.addTimeout(PATIENCE, IReactorTime(reactor))


async def _client(server: PushServer) -> Recorder:
    from twisted.internet import reactor

    factory = WebSocketClientFactory(server.websocket_url, reactor=reactor)
    factory.protocol = Recorder
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", server.port)
    protocol = await _in_time(endpoint.connect(factory))
    assert isinstance(protocol, Recorder)
    await _in_time(protocol.is_open)
    return protocol


async def test_connect_and_receive(server: PushServer) -> None:
    client = await _client(server)

    client.say(id=1, connect={"token": "alice-token"})
    reply = await _in_time(client.messages.get())
    assert "news" in reply["connect"]["subs"]

    client.say(id=2, subscribe={"channel": "open:autobahn"})
    assert "subscribe" in await _in_time(client.messages.get())
    for channel in ("news", "open:autobahn"):
        await deferToThread(server.publish, channel, {"to": channel})
        push = (await _in_time(client.messages.get()))["push"]
        assert (push["channel"], push["pub"]["data"]) == (channel, {"to": channel})

    client.sendClose(1000)
    assert await _in_time(client.ended) == 1000


async def test_kicked(server: PushServer) -> None:
    client = await _client(server)
    client.say(id=1, connect={"token": "kicked-token"})
    await _in_time(client.messages.get())

    await deferToThread(server.api, "disconnect", user="kicked")

    assert await _in_time(client.ended) == 3503


async def test_nothing_but_garbage(server: PushServer) -> None:
    client = await _client(server)
    client.sendMessage(b"garbage")
    assert await _in_time(client.ended) == 3501
