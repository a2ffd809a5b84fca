"""A proxy that accepts WebSockets and then swallows all that goes through them.

It may hold back answers without end, too, as proxies do that pass on nothing but whole answers.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class SilentProxy:
    """Listens on loopback, for a server on loopback; use it as a context manager.

    All else is passed on as it is. ``silenced`` is the number of WebSockets that were accepted,
    ``held`` that of answers that are held back, if it is to do so (``holding``).
    """

    def __init__(self, port: int, *, holding: bool = False) -> None:
        self._to = ("127.0.0.1", port)
        self._holding = holding
        self.held = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.silenced = 0
        self._sockets: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                self._sockets += [client, server]
                silent = threading.Event()
                for pump, ends in ((self._up, (client, server)), (self._down, (server, client))):
                    threading.Thread(target=pump, args=(*ends, silent), daemon=True).start()

    def _up(self, source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if silent.is_set():
                    continue
                if b"\r\nupgrade: websocket\r\n" in data.lower():
                    silent.set()
                target.sendall(data)
        _end(target)

    def _down(self, source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if silent.is_set():
                    # The answer to the upgrade still passes, without what comes behind it.
                    target.sendall(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                    self.silenced += 1
                    break
                if self._holding and b"\r\ntransfer-encoding: chunked\r\n" in data.lower():
                    self.held += 1
                    silent.set()
                    break
                target.sendall(data)
            while silent.is_set() and source.recv(65536):
                pass
        _end(target)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in tuple(self._sockets):
            _end(each)
            each.close()
        self._thread.join(5)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
