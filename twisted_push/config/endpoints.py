"""Checks of Twisted endpoint descriptions, without opening anything.

The description is taken apart by Twisted's own tokenizer and its arguments are compared with
those of the endpoint that it names. Certificates are not read and no socket is made, so a
description that passes may still fail to listen. Kinds of endpoints that come with Twisted are
known here; others are looked up among the installed plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.endpoints import _parse
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from twisted_push.config.values import BadValue, Parser, show, text

__all__ = ["check_endpoint", "endpoint", "is_tcp"]


def _number(name: str, value: str, most: int, base: int = 10) -> None:
    try:
        good = 0 <= int(value, base) <= most
    except ValueError:
        good = False
    if not good:
        raise BadValue(f"{name} {show(value)} is not a number from 0 to {most}")


def _needed(name: str, value: str) -> None:
    if not value:
        raise BadValue(f"{name} is missing")


def _tcp(port: str, interface: str = "", backlog: str = "50") -> None:
    _number("port", port, 65535)
    _number("backlog", backlog, 2**31 - 1)


def _tcp6(port: str, backlog: str = "50", interface: str = "::") -> None:
    _tcp(port, interface, backlog)


def _ssl(  # noqa: PLR0917
    port: str,
    privateKey: str = "server.pem",  # noqa: N803 (Twisted's names)
    certKey: str = "server.pem",  # noqa: N803
    sslmethod: str = "",
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str = "",  # noqa: N803
    dhParameters: str = "",  # noqa: N803
) -> None:
    _tcp(port, interface, backlog)
    _needed("privateKey", privateKey)
    _needed("certKey", certKey)


def _tls(path: str, port: str = "443", backlog: str = "50", interface: str = "::") -> None:
    _needed("the directory of certificates", path)
    _tcp(port, interface, backlog)


def _unix(address: str, mode: str = "666", backlog: str = "50", lockfile: str = "1") -> None:
    _needed("the path of the socket", address)
    _number("mode", mode, 0o7777, base=8)
    _number("backlog", backlog, 2**31 - 1)
    _number("lockfile", lockfile, 1)


def _systemd(domain: str, index: str | None = None, name: str | None = None) -> None:
    if domain not in {"INET", "INET6", "UNIX"}:
        raise BadValue(f"domain {show(domain)} is none of INET, INET6, UNIX")
    if (index is None) == (name is None):
        raise BadValue("give either index or name")
    if index is not None:
        _number("index", index, 2**31 - 1)


_KINDS: dict[str, Callable[..., None]] = {
    "tcp": _tcp,
    "tcp6": _tcp6,
    "ssl": _ssl,
    "tls": _tls,
    "unix": _unix,
    "systemd": _systemd,
}


def _check_parts(parts: list[str], options: dict[str, str]) -> None:
    """Raise ValueError or TypeError if the parts of a description do not fit its kind."""
    if parts[:1] == ["haproxy"]:
        parts = parts[1:]
    if not parts:
        raise BadValue("the kind of endpoint is missing")
    kind = parts[0]
    if kind in _KINDS:
        _KINDS[kind](*parts[1:], **options)
        return
    plugins = {str(each.prefix) for each in getPlugins(IStreamServerEndpointStringParser)}
    if kind not in plugins - {"stdio", "haproxy"}:
        known = ", ".join([*_KINDS, "haproxy"])
        raise BadValue(f"unknown kind of endpoint {show(kind)}; known are {known}")


def check_endpoint(description: str) -> str:
    """Give the description back, or raise `BadValue` if no endpoint can be made of it."""
    try:
        parts, options = cast("tuple[list[str], dict[str, str]]", _parse(description))
        _check_parts(parts, options)
    except BadValue as error:
        raise BadValue(f"{show(description)} is no endpoint: {error}") from None
    except TypeError:
        why = "missing, surplus or unknown arguments"
        raise BadValue(f"{show(description)} is no endpoint: {why}") from None
    except (ValueError, RuntimeError):  # The tokenizer stumbles over a backslash at the end.
        raise BadValue(f"{show(description)} is no endpoint: cannot be read") from None
    return description


def is_tcp(description: str) -> bool:
    """Tell whether an endpoint that was checked opens a TCP port itself."""
    kinds = description.split(":")
    return kinds[kinds[0] == "haproxy"] in {"tcp", "tcp6", "ssl", "tls"}


def endpoint() -> Parser[str]:
    """Make a parser of endpoint descriptions such as ``tcp:8080:interface=127.0.0.1``."""
    allowed = 'a Twisted endpoint such as "tcp:8080:interface=127.0.0.1"'
    return text(allowed, check=check_endpoint)
