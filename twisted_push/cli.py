"""The command line: ``twisted-push serve``, ``init``, ``publish`` and the others.

``serve`` becomes twistd. The commands that ask a running server take its key from the
configuration file or from TWISTED_PUSH_KEY, never from their arguments, which every user of the
machine can read.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from attrs import frozen

from twisted_push.client import ApiClient, ApiFailure, JsonText
from twisted_push.config import SiteConfig, template
from twisted_push.configfile import read_config
from twisted_push.errors import ConfigErrors, PushError

__all__ = ["main"]

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_FILE = "push.toml"


@frozen
class CommandError(PushError):
    """A command cannot be done. ``message`` is for the one who gave it."""

    message: str

    def __str__(self) -> str:
        """Give the message."""
        return self.message


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (``argv`` without the program's name) and give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
        sys.stdout.flush()
    except ConfigErrors as faults:
        print(faults, file=sys.stderr)
        return 1
    except (ApiFailure, CommandError) as error:
        print(f"twisted-push: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # The reader had enough: `twisted-push users | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


# --- The server and its file ---------------------------------------------------------------


def _serve(options: argparse.Namespace) -> None:
    """Become twistd, in the foreground and without a pid file."""
    from twisted.scripts import twistd

    if options.config is not None or not options.demo:
        read_config(options.config)  # Faults are told here, without twistd's help around them.
    arguments = ["--nodaemon", "--pidfile=", "push"]
    if options.config is not None:
        arguments += ["--config", options.config]
    for endpoint in options.listen:
        arguments += ["--listen", endpoint]
    if options.demo:
        arguments.append("--demo")
    sys.argv = ["twistd", *arguments]
    twistd.run()


def _init(options: argparse.Namespace) -> None:
    """Write a new configuration file, which only its owner can read; never over another."""
    if options.file == "-":
        print(template(), end="")
        return
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise CommandError(f"{options.file} is there already; it was left as it is") from None
    except OSError as error:
        raise CommandError(f"cannot write {options.file}: {error.strerror}") from None
    print(f"{options.file}: written, with fresh secrets")
    print(f"start the server with: twisted-push serve --config {options.file}")


def _check_config(options: argparse.Namespace) -> None:
    read_config(options.file)
    print(f"{options.file}: ok")


# --- Asking a running server ---------------------------------------------------------------


def _site(options: argparse.Namespace) -> SiteConfig | None:
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


def _key(site: SiteConfig | None, scope: str) -> str:
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
    site: SiteConfig | None,
    scope: str = "manage",
) -> Any:
    """Call the API; print the result if --json is given, else give it. None: all is said."""
    url = options.url or os.environ.get("TWISTED_PUSH_URL") or DEFAULT_URL
    result = ApiClient(url, _key(site, scope)).call(method, params)
    if not options.json:
        parsed = json.loads(result)
        if not isinstance(parsed, dict):
            raise CommandError(f"{url} gives a result that is no object")
        return parsed
    sys.stdout.flush()
    sys.stdout.buffer.write(result + b"\n")
    return None


def _argument_or_input(text: str) -> bytes:
    """Give an argument as bytes; for ``-`` what comes over the standard input."""
    return sys.stdin.buffer.read() if text == "-" else os.fsencode(text)


def _publish_to(
    options: argparse.Namespace, channel: str, data: bytes, site: SiteConfig | None
) -> None:
    params: dict[str, str | JsonText] = {"channel": channel, "data": JsonText(data)}
    result = _ask(options, "publish", params, site, "publish")
    if result is None:
        return
    said = f"published to {_clean(channel)}"
    if "recipients" in result:
        said += f", to {_count(result['recipients'], 'client')} here"
    if "offset" in result:
        said += f", at offset {_clean(result['offset'])} of {_clean(result.get('epoch', ''))}"
    print(said)


def _publish(options: argparse.Namespace) -> None:
    _publish_to(options, options.channel, _argument_or_input(options.data), _site(options))


def _broadcast(options: argparse.Namespace) -> None:
    site = _site(options)
    channel = options.channel or (site.broadcast_channel if site else "broadcast")
    data = {"subject": options.subject, "body": options.text}
    try:
        encoded = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CommandError("only UTF-8 text can be sent") from None
    _publish_to(options, channel, encoded, site)


def _kick(options: argparse.Namespace) -> None:
    if _ask(options, "disconnect", {"user": options.user}, _site(options)) is not None:
        print(f"{_user(options.user)}: all connections closed")


def _logout(options: argparse.Namespace) -> None:
    if (options.token is None) == (options.user is None):
        raise CommandError("logout needs either a TOKEN or --user USER")
    if options.user is not None:
        params, said = {"user": options.user}, f"{_user(options.user)}: all tokens ended"
    else:
        token = _argument_or_input(options.token).decode(errors="surrogateescape").strip()
        if not token:
            raise CommandError("the token is empty")
        params, said = {"token": token}, "the token is ended"
    if _ask(options, "logout", params, _site(options)) is not None:
        print(said)


def _channels(options: argparse.Namespace) -> None:
    params = {"pattern": options.pattern} if options.pattern else {}
    result = _ask(options, "channels", params, _site(options), "read")
    if result is not None:
        found = sorted(result.get("channels", {}).items())
        rows = [(name, each.get("num_clients", 0)) for name, each in found]
        _print_table(("CHANNEL", "CLIENTS"), rows, "no channels")


def _users(options: argparse.Namespace) -> None:
    result = _ask(options, "users", {}, _site(options), "read")
    if result is not None:
        found = sorted(result.get("users", {}).items())
        rows = [(_user(name), each.get("num_clients", 0)) for name, each in found]
        _print_table(("USER", "CLIENTS"), rows, "nobody is connected")


def _connections(options: argparse.Namespace) -> None:
    result = _ask(options, "connections", {}, _site(options), "read")
    if result is not None:
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
        _print_table(header, rows, "nobody is connected")


def _info(options: argparse.Namespace) -> None:
    result = _ask(options, "info", {}, _site(options), "read")
    if result is not None:
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
        _print_table(header, rows, "no nodes")


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


def _print_table(header: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Print rows in aligned columns, numbers to the right; ``nothing`` if there are none."""
    found = [[_clean(cell) for cell in row] for row in rows]
    if not found:
        print(nothing)
        return
    table = [list(header), *found]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [all(cell.isdecimal() for cell in column) for column in zip(*found, strict=True)]
    for row in table:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip())


# --- The arguments -------------------------------------------------------------------------


def _version() -> str:
    try:
        return metadata.version("twisted-push")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _add_common(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the options of the commands that ask a server."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twisted-push",
        description="A push server for content management systems, and its tools.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"twisted-push {_version()}")
    _add_common(parser, None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str, *, asks: bool = True
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        if asks:  # Suppressed defaults leave alone what stood before the command.
            _add_common(command, argparse.SUPPRESS)
        return command

    serve = add("serve", _serve, "run the server in the foreground", asks=False)
    serve.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS)
    serve.add_argument(
        "--listen", metavar="ENDPOINT", action="append", default=[], help="instead of the file's"
    )
    serve.add_argument("--demo", action="store_true", help="with the demo pages")
    init = add("init", _init, "write a configuration file with fresh secrets", asks=False)
    init.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_FILE, help="or - to print")
    check = add("check-config", _check_config, "report all faults of a file", asks=False)
    check.add_argument("file", metavar="FILE")
    _add_questions(add)
    return parser


def _add_questions(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that ask a running server."""
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


if __name__ == "__main__":
    sys.exit(main())
