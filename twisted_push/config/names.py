"""Parsers of texts that mean something: hosts, origins, networks, addresses, channels, secrets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from twisted_push.config.values import BadValue, Parser, show, text

__all__ = [
    "KEY_HINT",
    "basic_auth",
    "callback_url",
    "channel_name",
    "directory",
    "header_name",
    "host_name",
    "key_id",
    "mirror_channel",
    "network",
    "origin",
    "prefix",
    "secret",
    "service_key",
    "site",
    "token_secret",
    "user_channel",
]

KEY_HINT = "`twisted-push init` writes a file with a good one"
_MAX_CHANNEL = 255
_MAX_SITE = 64
_MIN_KEY = 8
_MIN_TOKEN_SECRET = 32
_HOST = r"(?:[a-z0-9_](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])"
_HOST_NAME = re.compile(_HOST)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_HOST})(?::([0-9]{{1,5}}))?")
_PLACE = re.compile(r"\{\w*\}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH = re.compile(r"(?:/[A-Za-z0-9_.~-]{1,64}){1,8}")
_OWN_PATHS = frozenset(
    {"api", "metrics", "health", "ready", "connection", "emulation", "debug", "admin", "push.js"}
)
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_NOT_FORWARDED = frozenset(
    {
        *("connection", "content-length", "content-type", "expect", "host", "keep-alive"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)


def host_name() -> Parser[str]:
    """Make a parser of host names, without scheme and port; given in lower case."""

    def check(value: str) -> str:
        if not _HOST_NAME.fullmatch(value.lower()):
            raise ValueError
        return value.lower()

    return text('a host name without scheme and port, such as "www.example.org"', check=check)


def origin() -> Parser[str]:
    """Make a parser of browser origins: ``*`` or as browsers send them, without default port."""

    def check(value: str) -> str:
        if value == "*":
            return value
        match = _ORIGIN.fullmatch(value.lower())
        if match is None or int(match[3] or "1") not in range(1, 65536):
            raise ValueError
        scheme, host, port = match.groups()
        port = "" if port is None else str(int(port))
        if port in ("", _DEFAULT_PORTS.get(scheme)):
            return f"{scheme}://{host}"
        return f"{scheme}://{host}:{port}"

    return text('"*" or scheme://host[:port], without a path', check=check)


def network() -> Parser[str]:
    """Make a parser of IP addresses and networks in CIDR notation."""

    def check(value: str) -> str:
        if "/" in value:
            return str(ipaddress.ip_network(value))
        return str(ipaddress.ip_address(value))

    return text('an address or a network such as "10.0.0.0/8" or "::1"', check=check)


def header_name() -> Parser[str]:
    """Make a parser of header names that a callback may carry on."""

    def check(value: str) -> str:
        if not _HEADER.fullmatch(value):
            raise ValueError
        if value.lower() in _NOT_FORWARDED:
            raise BadValue(f"{show(value)} belongs to one connection and cannot be forwarded")
        return value

    return text('the name of a header, such as "Cookie"', check=check)


def _check_url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise BadValue("credentials do not belong into the URL; use basic_auth_file")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise ValueError
    if parts.port == 0 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError
    return value


def callback_url() -> Parser[str]:
    """Make a parser of the callback's address: http or https with a host; empty for none."""
    allowed = "an http or https URL with a host"

    def check(value: str) -> str:
        try:
            return _check_url(value)
        except BadValue:
            raise
        except ValueError:  # What may hold a password or a token is not shown.
            shown = "the value" if "@" in value else show(value.split("?", maxsplit=1)[0])
            raise BadValue(f"{shown} is not valid; must be {allowed}") from None

    return text(allowed, check=check)


def url_path() -> Parser[str]:
    """Make a parser of paths on this server, which are kept without a slash at the end."""

    def check(value: str) -> str:
        path = value.rstrip("/")
        if not value:
            return value
        if not _PATH.fullmatch(path):
            raise ValueError
        if path.split("/")[1] in _OWN_PATHS:
            raise BadValue(f"{show(value)} is an address of the server's own")
        return path

    return text('a path such as "/nodejs/", or empty', check=check)


def directory() -> Parser[str]:
    """Make a parser of names of directories; empty for none."""

    def check(value: str) -> str:
        if not value.isprintable():
            raise ValueError
        return value

    return text("the name of a directory, or empty", check=check)


def site() -> Parser[str]:
    """Make a parser of names of sites, or ``*`` for all; whether there is one is checked later."""

    def check(value: str) -> str:
        if not value or not _is_name(value, _MAX_SITE):
            raise ValueError
        return value

    return text('the name of a site, or "*"', check=check)


def _is_name(value: str, limit: int) -> bool:
    return value.isprintable() and len(value.encode()) <= limit


def channel_name() -> Parser[str]:
    """Make a parser of channel names."""

    def check(value: str) -> str:
        if not value or not _is_name(value, _MAX_CHANNEL):
            raise ValueError
        return value

    return text(f"a printable name of 1 to {_MAX_CHANNEL} bytes", check=check)


def user_channel() -> Parser[str]:
    """Make a parser of the template of the users' own channels; empty for none."""

    def check(value: str) -> str:
        if value and ("{user}" not in value or not _is_name(value, _MAX_CHANNEL)):
            raise ValueError
        return value

    allowed = f"empty, or a printable name of at most {_MAX_CHANNEL} bytes with {{user}} in it"
    return text(allowed, check=check)


def mirror_channel() -> Parser[str]:
    """Make a parser of the template of a channel into which others are mirrored."""

    def check(value: str) -> str:
        unknown = _PLACE.search(value.replace("{site}", "").replace("{channel}", ""))
        if not value or unknown or not _is_name(value, _MAX_CHANNEL):
            raise ValueError
        return value

    allowed = (
        f"a printable name of 1 to {_MAX_CHANNEL} bytes, in which {{site}} and {{channel}}, and no"
        " other words in braces, may stand"
    )
    return text(allowed, check=check)


def prefix() -> Parser[str]:
    """Make a parser of namespace prefixes; the empty one fits every channel."""

    def check(value: str) -> str:
        if not _is_name(value, _MAX_CHANNEL):
            raise ValueError
        return value

    return text(f"a printable text of at most {_MAX_CHANNEL} bytes", check=check)


def key_id() -> Parser[str]:
    """Make a parser of the names of keys, which go to the log."""

    def check(value: str) -> str:
        if not _KEY_ID.fullmatch(value):
            raise ValueError
        return value

    return text("1 to 64 letters, digits, dots, dashes or underscores", check=check)


def secret(allowed: str, check: Callable[[str], str]) -> Parser[str]:
    """Make a parser of a secret: its value is in no message."""
    return Parser(allowed, text(check=check).read, secret=True)


def service_key() -> Parser[str]:
    """Make a parser of backend API keys: what fits into a header, and is not easily guessed.

    One of medium length is let in, because a Drupal site that changes its push server keeps its
    key; the operator is warned (`KeyConfig.short`).
    """

    def check(value: str) -> str:
        if not value:
            return value  # Not given; whether it is needed is checked elsewhere.
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise BadValue("must be printable ASCII, without spaces around it")
        if len(value) < _MIN_KEY:
            raise BadValue(f"too short: at least {_MIN_KEY} characters; {KEY_HINT}")
        return value

    return secret(f"text of at least {_MIN_KEY} characters", check)


def token_secret() -> Parser[str | None]:
    """Make a parser of HS256 secrets; empty for none, which is given as None."""
    allowed = f"text of at least {_MIN_TOKEN_SECRET} bytes"

    def read(value: object) -> str | None:
        if not isinstance(value, str):
            raise ValueError
        length = len(value.encode(errors="replace"))
        if 0 < length < _MIN_TOKEN_SECRET:
            raise BadValue(f"too short for HS256: at least {_MIN_TOKEN_SECRET} bytes")
        return value or None

    return Parser(allowed, read, secret=True)


def basic_auth() -> Parser[tuple[str, str] | None]:
    """Make a parser of ``user:password``, given as a pair."""

    def read(value: object) -> tuple[str, str] | None:
        if not isinstance(value, str):
            raise ValueError
        user, colon, password = value.partition(":")
        if not colon or not user or not value.isprintable():
            raise ValueError
        return user, password

    return Parser("one line user:password", read, secret=True)
