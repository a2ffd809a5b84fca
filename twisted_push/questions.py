"""The commands that ask a running server, and how they say what it answered.

Each command is a function from the options to what is to be printed: text, or bytes as they came.
It raises `CommandError`, `ApiFailure` or `ConfigErrors`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from twisted_push.client import ApiClient, JsonText
from twisted_push.config import SiteConfig
from twisted_push.configfile import read_config
from twisted_push.errors import PushError

__all__ = [
    "DEFAULT_URL",
    "CommandError",
    "Said",
    "add_commands",
    "add_options",
    "find_key",
    "find_site",
]

DEFAULT_URL = "http://127.0.0.1:8080"

Said = str | bytes
_Result = dict[str, Any]


@frozen
class CommandError(PushError):
    """A command cannot be done. ``message`` is for the one who gave it."""

    message: str

    def __str__(self) -> str:
        """Give the message."""
        return self.message


# --- Asking --------------------------------------------------------------------------------


def find_site(options: argparse.Namespace) -> SiteConfig | None:
    """Give the site in the configuration file that the command is about; None without a file.

    A file that is named beats TWISTED_PUSH_KEY, which beats the file of TWISTED_PUSH_CONFIG.
    """
    path = options.config
    if path is None and (options.site or not os.environ.get("TWISTED_PUSH_KEY")):
        path = os.environ.get("TWISTED_PUSH_CONFIG")
    if not path:
        if options.site:
            raise CommandError("--site needs the configuration file: give --config FILE")
        return None
    sites = read_config(path).sites
    if options.site in sites:
        return sites[options.site]
    if options.site is None and len(sites) == 1:
        return next(iter(sites.values()))
    what = "there are several sites" if options.site is None else "there is no such site"
    raise CommandError(f"{what}: give --site with one of {', '.join(sites)}")


def find_key(site: SiteConfig | None, scope: str) -> str:
    """Give the key to use: the site's first one that may do what is asked for."""
    if site is None:
        key = os.environ.get("TWISTED_PUSH_KEY", "")
        if not key:
            raise CommandError("no key: set TWISTED_PUSH_KEY, or give --config FILE")
        return key
    return next((each.key for each in site.keys if scope in each.scopes), site.keys[0].key)


def _ask(
    options: argparse.Namespace,
    method: str,
    params: Mapping[str, str | JsonText],
    *,
    site: SiteConfig | None,
    scope: str,
    say: Callable[[_Result], str],
) -> Said:
    """Call the API; give what ``say`` makes of the result, or with --json the result itself."""
    url = options.url or os.environ.get("TWISTED_PUSH_URL") or DEFAULT_URL
    result = ApiClient(url, find_key(site, scope)).call(method, params)
    if options.json:
        return result + b"\n"
    parsed = json.loads(result)
    if not isinstance(parsed, dict):
        raise CommandError(f"{url} gives a result that is no object")
    return say(parsed)


def _read(
    options: argparse.Namespace,
    method: str,
    say: Callable[[_Result], str],
    params: Mapping[str, str] | None = None,
) -> Said:
    """Ask for a list, or for numbers."""
    return _ask(options, method, params or {}, site=find_site(options), scope="read", say=say)


# --- Doing something -----------------------------------------------------------------------


def _argument_or_input(text: str) -> bytes:
    """Give an argument as bytes; for ``-`` what comes over the standard input."""
    return sys.stdin.buffer.read() if text == "-" else os.fsencode(text)


def _publish_to(
    options: argparse.Namespace, channel: str, data: bytes, site: SiteConfig | None
) -> Said:
    def say(result: _Result) -> str:
        said = f"published to {_clean(channel)}"
        if "recipients" in result:
            said += f", to {_count(result['recipients'], 'client')} here"
        if "offset" in result:
            said += f", at offset {_clean(result['offset'])} of {_clean(result.get('epoch', ''))}"
        return said

    params: dict[str, str | JsonText] = {"channel": channel, "data": JsonText(data)}
    return _ask(options, "publish", params, site=site, scope="publish", say=say)


def _publish(options: argparse.Namespace) -> Said:
    return _publish_to(
        options, options.channel, _argument_or_input(options.data), find_site(options)
    )


def _broadcast(options: argparse.Namespace) -> Said:
    site = find_site(options)
    channel = options.channel or (site.broadcast_channel if site else "broadcast")
    data = {"subject": options.subject, "body": options.text}
    try:
        encoded = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CommandError("only UTF-8 text can be sent") from None
    return _publish_to(options, channel, encoded, site)


def _manage(options: argparse.Namespace, method: str, params: Mapping[str, str], said: str) -> Said:
    """Have something done; ``said`` is what to say of it."""
    site = find_site(options)
    return _ask(options, method, params, site=site, scope="manage", say=lambda _: said)


def _kick(options: argparse.Namespace) -> Said:
    said = f"{_user(options.user)}: all connections closed"
    return _manage(options, "disconnect", {"user": options.user}, said)


def _logout(options: argparse.Namespace) -> Said:
    if (options.token is None) == (options.user is None):
        raise CommandError("logout needs either a TOKEN or --user USER")
    if options.user is not None:
        params, said = {"user": options.user}, f"{_user(options.user)}: all tokens ended"
    else:
        token = _argument_or_input(options.token).decode(errors="surrogateescape").strip()
        if not token:
            raise CommandError("the token is empty")
        params, said = {"token": token}, "the token is ended"
    return _manage(options, "logout", params, said)


# --- Looking -------------------------------------------------------------------------------


def _channels(options: argparse.Namespace) -> Said:
    def say(result: _Result) -> str:
        found = sorted(result.get("channels", {}).items())
        rows = [(name, each.get("num_clients", 0)) for name, each in found]
        return _table(("CHANNEL", "CLIENTS"), rows, "no channels")

    params = {"pattern": options.pattern} if options.pattern else {}
    return _read(options, "channels", say, params)


def _users(options: argparse.Namespace) -> Said:
    def say(result: _Result) -> str:
        found = sorted(result.get("users", {}).items())
        rows = [(_user(name), each.get("num_clients", 0)) for name, each in found]
        return _table(("USER", "CLIENTS"), rows, "nobody is connected")

    return _read(options, "users", say)


def _connections(options: argparse.Namespace) -> Said:
    def say(result: _Result) -> str:
        rows = [
            (
                each.get("client", ""),
                _user(each.get("user", "")),
                each.get("transport", ""),
                _when(each.get("connected_since")),
                " ".join(map(str, each.get("channels", []))),
            )
            for each in result.get("connections", [])
        ]
        header = ("CLIENT", "USER", "TRANSPORT", "SINCE", "CHANNELS")
        return _table(header, rows, "nobody is connected")

    return _read(options, "connections", say)


def _info(options: argparse.Namespace) -> Said:
    def say(result: _Result) -> str:
        rows = [
            (
                each.get("name") or each.get("uid", ""),
                each.get("version", ""),
                each.get("num_clients", 0),
                each.get("num_users", 0),
                each.get("num_channels", 0),
                _age(each.get("uptime", 0)),
            )
            for each in result.get("nodes", [])
        ]
        header = ("NODE", "VERSION", "CLIENTS", "USERS", "CHANNELS", "UPTIME")
        return _table(header, rows, "no nodes")

    return _read(options, "info", say)


# --- Showing results -----------------------------------------------------------------------


def _clean(value: object) -> str:
    """Give a value for the terminal: what is not printable is escaped."""
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _user(name: str) -> str:
    return _clean(name) or "(anonymous)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _when(seconds: object) -> str:
    """Give a time (unix seconds) in the local zone."""
    if not isinstance(seconds, int | float):
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return str(seconds)
    return moment.isoformat(sep=" ", timespec="seconds")


def _age(seconds: object) -> str:
    """Give a duration in days, hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=int(seconds))) if isinstance(seconds, int | float) else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> str:
    """Give rows in aligned columns, numbers to the right; ``nothing`` if there are none."""
    found = [[_clean(cell) for cell in row] for row in rows]
    if not found:
        return nothing
    table = [list(header), *found]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [all(cell.isdecimal() for cell in column) for column in zip(*found, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


# --- The arguments -------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the options that all these commands have."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--url", default=default, help=f"of the server; else TWISTED_PUSH_URL, or {DEFAULT_URL}"
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        default=default,
        help="configuration file with the key; else TWISTED_PUSH_KEY has the key",
    )
    group.add_argument("--site", metavar="NAME", default=default, help="which site of the file")
    group.add_argument("--json", action="store_true", default=default, help="print the raw result")


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands themselves; ``add`` takes a name, the function and a text."""
    publish = add("publish", _publish, "publish JSON on a channel")
    publish.add_argument("channel", metavar="CHANNEL")
    publish.add_argument("data", metavar="JSON", help="sent as it is; - reads the standard input")
    broadcast = add("broadcast", _broadcast, "show a message to everybody on the site")
    broadcast.add_argument("text", metavar="TEXT")
    broadcast.add_argument("--subject", default="Message")
    broadcast.add_argument("--channel", help="instead of the site's broadcast channel")
    kick = add("kick", _kick, "close all connections of a user")
    kick.add_argument("user", metavar="USER")
    logout = add("logout", _logout, "end a token, or all tokens of a user")
    logout.add_argument("token", metavar="TOKEN", nargs="?", help="better -: read from stdin")
    logout.add_argument("--user")
    channels = add("channels", _channels, "list the channels that have clients")
    channels.add_argument("--pattern", help="a glob, such as 'chat:*'")
    add("users", _users, "list the users that are connected")
    add("connections", _connections, "list the connections")
    add("info", _info, "tell how the server is doing")
