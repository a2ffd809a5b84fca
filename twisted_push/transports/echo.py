"""What sends back whatever comes, for conformance suites: `/debug/echo`."""

from __future__ import annotations

from twisted_push.interfaces import ITransport
from twisted_push.transports.frames import binary_frame, text_frame

__all__ = ["EchoReceiver"]


class EchoReceiver:
    """Receives for a connection, and sends the same."""

    def __init__(self, transport: ITransport) -> None:
        self._transport = transport

    def received(self, payload: bytes) -> None:
        """Echo a text message."""
        self._transport.send(text_frame(payload))

    def received_binary(self, payload: bytes) -> None:
        """Echo a binary message."""
        self._transport.send(binary_frame(payload))

    def allow_frame(self) -> bool:
        """Allow everything."""
        return True

    def alive(self) -> None:
        """Take no notice."""

    def pause(self) -> None:
        """Go on: a suite reads what it asked for."""

    def resume(self) -> None:
        """Go on."""

    def closing(self) -> None:
        """Take no notice."""

    def lost(self) -> None:
        """There is nothing to end."""
