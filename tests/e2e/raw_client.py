"""A client of the native protocol that hides nothing: every frame as it is."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket_connect

from tests.e2e.server import PATIENCE, PushServer


class RawClient:
    """One WebSocket. The pings of the protocol are answered while something is waited for."""

    def __init__(
        self,
        server: PushServer,
        *,
        path: str = "/connection/websocket",
        port: int | None = None,
        origin: str | None = None,
        headers: dict[str, str] | None = None,
        answer_pings: bool = True,
    ) -> None:
        url = f"ws://127.0.0.1:{port or server.port}{path}"
        self._stack = ExitStack()
        opening = websocket_connect(
            url,
            origin=origin,  # type: ignore[arg-type]
            additional_headers=headers,
            proxy=None,
            max_size=2**24,
            ping_interval=None,
            close_timeout=2,
            compression=None,
        )
        self.socket = self._stack.enter_context(opening)
        self._answer_pings = answer_pings
        self._waiting: list[str] = []
        self._id = 0

    # -- Frames -----------------------------------------------------------------------------

    def send(self, frame: str | bytes) -> None:
        """Send a frame as it is."""
        self.socket.send(frame)

    def line(self, timeout: float = PATIENCE) -> str:
        """Give the next line (one JSON object) that is no ping, as it came."""
        end = time.monotonic() + timeout
        while True:
            while not self._waiting:
                frame = self.socket.recv(timeout=max(0.0, end - time.monotonic()))
                assert isinstance(frame, str), "a binary frame"
                self._waiting = [line for line in frame.split("\n") if line]
            line = self._waiting.pop(0)
            if line != "{}":
                return line
            if self._answer_pings:
                self.socket.send("{}")

    def message(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Give the next object that is no ping."""
        parsed = json.loads(self.line(timeout))
        assert isinstance(parsed, dict)
        return parsed

    def closing(self, timeout: float = PATIENCE, seen: list[str] | None = None) -> tuple[int, str]:
        """Read to the end; give the server's close code and reason. ``seen`` gets the lines."""
        lines = [] if seen is None else seen
        try:
            while True:
                lines.append(self.line(timeout))
        except ConnectionClosed as closed:
            return _said(closed)

    def failure(self, timeout: float = PATIENCE) -> int:
        """Give the code of the error that is said next, or of the close; 0 if it is neither."""
        try:
            message = self.message(timeout)
        except ConnectionClosed as closed:
            return _said(closed)[0]
        code: int = message.get("error", {}).get("code", 0)
        return code

    # -- Commands ---------------------------------------------------------------------------

    def command(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command; give its reply. Pushes that come before are passed over."""
        self._id += 1
        self.send(json.dumps({"id": self._id, method: params}))
        while True:
            reply = self.message()
            if reply.get("id") == self._id:
                return reply

    def connect(self, token: str = "alice-token", **params: object) -> dict[str, Any]:
        """Connect; give the result."""
        reply = self.command("connect", token=token, **params)
        assert "connect" in reply, reply
        result: dict[str, Any] = reply["connect"]
        return result

    def publication(self, channel: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Give the next publication of a channel."""
        while True:
            push = self.message(timeout).get("push", {})
            if push.get("channel") == channel and "pub" in push:
                found: dict[str, Any] = push["pub"]
                return found

    # -- The end ----------------------------------------------------------------------------

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


def _said(closed: ConnectionClosed) -> tuple[int, str]:
    assert closed.rcvd is not None, "dropped without a close frame"
    return closed.rcvd.code, closed.rcvd.reason


def check_untouched(bystander: RawClient, server: PushServer) -> None:
    """Check that a client in the channel ``news`` is served as before."""
    mark = time.monotonic_ns()
    server.publish("news", {"mark": mark})
    while bystander.publication("news")["data"] != {"mark": mark}:
        pass
