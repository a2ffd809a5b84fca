"""The real server, started as its users start it, with a configuration for the measurement."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.processes import SERVER_CORE, BenchmarkError, Child

__all__ = ["CHANNEL", "Server", "running_server"]

CHANNEL = "broadcast"
"""The channel that every client is in."""

_START_TIMEOUT = 30.0

# As users have it, but that everybody is let in, and that a stop need not be gentle.
_CONFIG = """\
listen = ["tcp:{port}:interface=127.0.0.1"]
log_level = "warn"

[limits]
shutdown_timeout = "0s"

[sites.default]
key = "{key}"
broadcast_channel = "{channel}"
anonymous = true
"""

_CALLBACK = """
[sites.default.callback]
url = "http://127.0.0.1:{port}/connect"
dialect = "connect"
"""


class Server(Child):
    """A running server."""

    def __init__(self, config: Path, port: int, key: str) -> None:
        self.port = port
        self.key = key
        super().__init__(
            ["-m", "twisted_push.cli", "serve", "--config", str(config)], SERVER_CORE, talks=False
        )

    def wait(self) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(URLError, ConnectionError, TimeoutError):
                urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5.0).close()
                return
            time.sleep(0.05)
        raise BenchmarkError(f"the server is not ready: {self.last_words()}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running_server(cms_port: int | None = None) -> Iterator[Server]:
    """Run a server that lets everybody in; with ``cms_port``, tokens are checked there."""
    port = _free_port()
    key = secrets.token_urlsafe(32)
    text = _CONFIG.format(port=port, key=key, channel=CHANNEL)
    if cms_port is not None:
        text += _CALLBACK.format(port=cms_port)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        config = Path(folder, "push.toml")
        config.touch(mode=0o600)
        config.write_text(text, encoding="utf-8")
        with Server(config, port, key) as server:
            server.wait()
            yield server
