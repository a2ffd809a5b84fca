"""A server of our own to measure, started as its users start it."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from twisted_push.bench.process import SERVER_CORE, BenchError, Child

__all__ = ["CHANNEL", "Server", "free_port", "running_server"]

CHANNEL = "broadcast"
"""The channel that every client is in."""

_START_TIMEOUT = 30.0
_COMMAND = (sys.executable, "-m", "twisted_push.cli")

# Runs the command in its arguments, and has the kernel end it when who started it ends: that may be
# when the process is there, and not known yet.
_BOUND = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, int(signal.SIGTERM)); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)

# As users have it, but that everybody is let in, and that a stop need not be gentle.
_CONFIG = """\
listen = ["tcp:{port}:interface=127.0.0.1"]
log_level = "warn"
{top}
[limits]
shutdown_timeout = "0s"
{limits}
[sites.default]
key = "{key}"
broadcast_channel = "{channel}"
anonymous = true
{site}
"""


class Server(Child):
    """A running server. ``port`` is where clients connect, ``api_port`` where the CMS posts.

    It ends with the thread that made it, at the latest.
    """

    def __init__(
        self,
        config: Path,
        port: int,
        key: str,
        *,
        api_port: int | None = None,
        core: int = SERVER_CORE,
        command: Sequence[str] = _COMMAND,
        talks: bool = False,
    ) -> None:
        self.port = port
        self.api_port = port if api_port is None else api_port
        self.key = key
        bound = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid())]
        serve = [*command, "serve", "--config", str(config)]
        super().__init__([*bound, *serve], core, talks=talks)

    def wait(self) -> None:
        """Wait until it serves; raise BenchError if that takes too long."""
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(URLError, ConnectionError, TimeoutError):
                urlopen(f"http://127.0.0.1:{self.api_port}/ready", timeout=5.0).close()
                return
            time.sleep(0.05)
        raise BenchError(f"the server is not ready: {self.last_words()}")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running_server(
    *,
    top: str = "",
    limits: str = "",
    site: str = "",
    port: int | None = None,
    api_port: int | None = None,
    core: int = SERVER_CORE,
    command: Sequence[str] = _COMMAND,
    talks: bool = False,
) -> Iterator[Server]:
    """Run a server that lets everybody in, with lines added to these tables of its file."""
    port = free_port() if port is None else port
    key = secrets.token_urlsafe(32)
    if api_port is not None:
        top += f'backend_listen = ["tcp:{api_port}:interface=127.0.0.1"]\n'
    text = _CONFIG.format(port=port, key=key, channel=CHANNEL, top=top, limits=limits, site=site)
    with tempfile.TemporaryDirectory(prefix="twisted-push-bench-") as folder:
        config = Path(folder, "push.toml")
        config.touch(mode=0o600)
        config.write_text(text, encoding="utf-8")
        with Server(
            config, port, key, api_port=api_port, core=core, command=command, talks=talks
        ) as server:
            server.wait()
            yield server
