"""The real server, started as its users start it, with a configuration for the measurement."""

from __future__ import annotations

from contextlib import AbstractContextManager

from twisted_push.bench import server
from twisted_push.bench.server import CHANNEL, Server

__all__ = ["CHANNEL", "Server", "running_server"]

_CALLBACK = """
[sites.default.callback]
url = "http://127.0.0.1:{port}/connect"
dialect = "connect"
"""


def running_server(cms_port: int | None = None) -> AbstractContextManager[Server]:
    """Run a server that lets everybody in; with ``cms_port``, tokens are checked there."""
    site = "" if cms_port is None else _CALLBACK.format(port=cms_port)
    return server.running_server(site=site)
