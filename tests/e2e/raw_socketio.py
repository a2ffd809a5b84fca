"""A Socket.IO client on a WebSocket that hides nothing: every packet as it is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket_connect

from tests.e2e.server import PATIENCE


class RawSocketIo:
    """A page without a browser, connected by Engine.IO 3 or 4. ``packets`` is all that came.

    ``id`` is what Socket.IO's own clients show as ``socket.id``.
    """

    def __init__(
        self,
        port: int,
        *,
        version: int = 3,
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: str = "/socket.io",
    ) -> None:
        self.packets: list[str] = []
        self._stack = ExitStack()
        self._next_ack = 0
        self._read = 0
        opening = websocket_connect(
            f"ws://127.0.0.1:{port}{path}/?EIO={version}&transport=websocket",
            origin=origin,  # type: ignore[arg-type]
            additional_headers=dict(headers or {}),
            proxy=None,
            max_size=2**24,
            ping_interval=None,
            close_timeout=2,
            compression=None,
        )
        self.socket = self._stack.enter_context(opening)
        opened = json.loads(self._next(PATIENCE).removeprefix("0"))
        if version == 4:
            self.send("40")
        connected = self._next(PATIENCE)
        assert connected.startswith("40"), connected
        self.id: str = opened["sid"] if version == 3 else json.loads(connected[2:])["sid"]

    # -- Packets ----------------------------------------------------------------------------

    def send(self, packet: str) -> None:
        """Send a packet of Engine.IO as it is."""
        self.socket.send(packet)

    def _next(self, timeout: float) -> str:
        """Give the next packet; a heartbeat is answered and passed over."""
        end = time.monotonic() + timeout
        while self._read == len(self.packets):
            packet = self.socket.recv(timeout=max(0.0, end - time.monotonic()))
            assert isinstance(packet, str), "a binary frame"
            if packet == "2":
                self.socket.send("3")
            else:
                self.packets.append(packet)
        self._read += 1
        return self.packets[self._read - 1]

    # -- Events -----------------------------------------------------------------------------

    def emit(self, name: str, *arguments: object, ack: bool = False) -> int:
        """Send an event; give the number of the acknowledgement that was asked for."""
        self._next_ack += 1
        number = str(self._next_ack) if ack else ""
        self.send(f"42{number}{json.dumps([name, *arguments])}")
        return self._next_ack

    def ask(self, name: str, *arguments: object) -> Any:
        """Send an event; give what it is acknowledged with."""
        wanted = f"43{self.emit(name, *arguments, ack=True)}["
        while not (packet := self._next(PATIENCE)).startswith(wanted):
            pass
        return json.loads(packet[len(wanted) - 1 :])[0]

    def message(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Give the next event ``message``, which is all that the server ever tells."""
        while not (packet := self._next(timeout)).startswith("42"):
            pass
        name, message = json.loads(packet[2:])
        assert name == "message"
        assert isinstance(message, dict)
        return message

    def message_of(self, **fields: object) -> dict[str, Any]:
        """Give the next message with these fields."""
        while True:
            message = self.message()
            if fields.items() <= message.items():
                return message

    def authenticate(self, token: str, **more: object) -> dict[str, Any]:
        """Present a token; give what the page is told when it is let in."""
        self.emit("authenticate", {"authToken": token, **more})
        told: dict[str, Any] = self.message_of(callback="clientAuthenticated")["data"]
        return told

    # -- The end ----------------------------------------------------------------------------

    def closing(self, timeout: float = PATIENCE) -> list[str]:
        """Read to the end; give the packets that came."""
        start = self._read
        try:
            while True:
                self._next(timeout)
        except ConnectionClosed:
            return self.packets[start:]

    def stays_away(self) -> bool:
        """Read to the end; tell whether Socket.IO's clients would not come back from it."""
        return "41" in self.closing()

    @property
    def text(self) -> str:
        """All that came."""
        return "\n".join(self.packets)

    def close(self) -> None:
        """Close, if it is open."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
