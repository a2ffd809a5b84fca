"""What the server must be told so that the demo CMS is its CMS."""

from __future__ import annotations

import re
import secrets
import socket

from attrs import evolve, frozen

from twisted_push.config import CallbackConfig, Config, Namespace, from_mapping
from twisted_push.demo.callback import CALLBACK_PATH, RPC_PATH
from twisted_push.errors import ConfigError, ConfigErrors

__all__ = ["DemoSettings", "add_demo", "own_config"]

PUSH_PORT = 8080
DEMO_PORT = 8000

_KEPT = ("article:", "chat:", "user:", "watchdog", "broadcast")
"""Prefixes of channels that are kept for a while: an open page misses nothing, and a new one goes
on from where it was rendered."""

_TCP = re.compile(r"tcp:(?:port=)?(\d+)(?::|$)")


@frozen
class DemoSettings:
    """A configuration with the demo in it, and where the demo and the push server are."""

    config: Config
    demo_port: int
    push_url: str

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        return f"http://127.0.0.1:{self.demo_port}/"

    @property
    def key(self) -> str:
        """A service key of the demo's site. A secret."""
        return next(iter(self.config.sites.values())).keys[0].key


def own_config() -> Config:
    """Give a configuration for those who have none: loopback, a fresh key, a free port."""
    raw = {
        "listen": [f"tcp:{_free_port(PUSH_PORT)}:interface=127.0.0.1"],
        "sites": {"default": {"key": secrets.token_urlsafe(32)}},
    }
    return from_mapping(raw, environ={}, read_file=str)


def add_demo(config: Config) -> DemoSettings:
    """Make the demo the CMS of the first site. Raises ConfigErrors without a ``tcp:`` endpoint."""
    listening = _TCP.match(config.listen[0]) if config.listen else None
    if listening is None:
        raise ConfigErrors(
            (ConfigError("listen", "the demo needs tcp:PORT as the first endpoint"),)
        )
    port = _free_port(DEMO_PORT)
    name, site = next(iter(config.sites.items()))
    origins = tuple(f"http://{host}:{port}" for host in ("127.0.0.1", "localhost"))
    demo_site = evolve(
        site,
        allowed_origins=(*site.allowed_origins, *origins),
        callback=CallbackConfig(
            url=f"http://127.0.0.1:{port}{CALLBACK_PATH}",
            rpc_url=f"http://127.0.0.1:{port}{RPC_PATH}",
            dialect="connect",
            forward_headers=(),
            service_key=site.keys[0].key,
        ),
        namespaces=(*map(_kept, _KEPT), *site.namespaces),
    )
    changed = evolve(config, sites={**config.sites, name: demo_site})
    return DemoSettings(changed, port, f"http://127.0.0.1:{listening[1]}")


def _kept(prefix: str) -> Namespace:
    return Namespace(
        prefix=prefix, history_size=100, history_ttl=3600.0, recover=True, presence=True
    )


def _free_port(wanted: int) -> int:
    """Give a port of the loopback interface: the wanted one, another if that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigErrors((ConfigError("listen", "no port of 127.0.0.1 is free"),))
