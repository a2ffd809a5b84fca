"""What systemd is told: ready, stopping, alive. A protocol of one datagram each.

Source: sd_notify(3): the address of a datagram socket stands in ``NOTIFY_SOCKET`` (an ``@`` at
its beginning means the abstract namespace), the watchdog's time in ``WATCHDOG_USEC``, in
microseconds, for the process ``WATCHDOG_PID``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from attrs import frozen
from twisted.logger import Logger

__all__ = ["Notifier"]

_log = Logger()


@frozen
class Notifier:
    """Tells systemd; without ``address`` nobody listens and nothing is done.

    ``watchdog`` is the number of seconds within which a sign of life is expected, None for none.
    """

    address: str | None
    watchdog: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """Read what systemd set for this very process."""
        meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        valid = meant and microseconds.isascii() and microseconds.isdigit()
        watchdog = int(microseconds) / 1e6 if valid else None
        return cls(environ.get("NOTIFY_SOCKET") or None, watchdog or None)

    def ready(self) -> None:
        """The server serves."""
        self._tell("READY=1")

    def reloaded(self, status: str) -> None:
        """The configuration was read again; ``status`` says with what end."""
        self._tell(f"STATUS={status}")

    def stopping(self) -> None:
        """The server is on its way out."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The reactor turns."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(state.encode("utf-8"), address)
        except OSError as error:
            _log.warn("systemd could not be told {state}: {why}", state=state, why=error.strerror)
