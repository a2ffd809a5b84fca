"""Measures a running server: ``python -m twisted_push.bench --help``.

Clients connect, a backend publishes, and it is counted and timed what the clients get. A table goes
to the standard error and, with ``--json``, all figures to the standard output.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from urllib.parse import urlsplit

from attrs import asdict, frozen

from twisted_push.bench import report
from twisted_push.bench.crowds import READY, Clients, Crowd
from twisted_push.bench.measure import Plan, measure
from twisted_push.bench.process import LOAD_CORE, SERVER_CORE, BenchError
from twisted_push.bench.publisher import Publisher
from twisted_push.bench.server import CHANNEL, running_server
from twisted_push.client import ApiFailure
from twisted_push.errors import ConfigErrors
from twisted_push.questions import DEFAULT_URL, CommandError, add_options, find_key, find_site

__all__ = ["main"]

OTHER_FILES = 20
"""Open files of a load that are no clients."""

_ENDS = (signal.SIGTERM, signal.SIGHUP)


@frozen
class _Target:
    """What is measured. ``url`` is where clients connect, ``api`` where the CMS posts."""

    url: str
    api: str
    key: str
    channel: str
    pid: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and give the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if not hasattr(select, "epoll"):
        parser.error("it needs Linux (epoll)")
    _end_all_when_ended()
    try:
        return _run(options)
    except (BenchError, ApiFailure, CommandError, ConfigErrors) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twisted_push.bench",
        description="Measure a running server: connections, deliveries, latency, memory.",
        epilog="Clients have no token, or that of TWISTED_PUSH_TOKEN. All need the "
        "channel granted.",
        allow_abbrev=False,
    )
    add_options(parser, None)
    add = parser.add_argument
    add("--api-url", metavar="URL", help="of the API, if the backend port is another")
    add("--channel", metavar="NAME", help="to publish on; else the site's broadcast channel")
    add("--clients", type=_count, default=1000, metavar="N", help="default: 1000")
    add("--processes", type=_count, default=1, metavar="N", help="of the load; default: 1")
    add("--messages", type=_count, default=20, metavar="N", help="requests; default: 20")
    add("--burst", type=_count, default=1, metavar="N", help="messages per request; default: 1")
    add("--size", type=_count, default=200, metavar="BYTES", help="of the data; default: 200")
    add("--rate", type=_rate, default=0.0, metavar="N", help="then N requests per second, too")
    add("--origin", default="", metavar="URL", help="that clients send, as browsers do")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--pid", type=_count, help="the server's process on this machine: for CPU time and memory"
    )
    which.add_argument("--serve", action="store_true", help="start a server of its own to measure")
    return parser


def _count(given: str) -> int:
    with suppress(ValueError):
        if (number := int(given)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{given!r} is not a whole number above 0")


def _rate(given: str) -> float:
    with suppress(ValueError):
        if 0.0 < (number := float(given)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{given!r} is not a number above 0")


def _end_all_when_ended() -> None:
    """Have SIGTERM and SIGHUP end what was started, too, and remove its files."""

    def end(number: int, _: FrameType | None) -> None:
        # Once: another must not interrupt the end.
        for each in _ENDS:
            signal.signal(each, lambda *_: None)
        # As an exception, so that every context is left.
        raise SystemExit(128 + number)

    for number in _ENDS:
        # Under nohup it goes on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def _run(options: argparse.Namespace) -> int:
    _check_files(-(-options.clients // options.processes))
    with ExitStack() as stack:
        target = _target(options, stack)
        plan = Plan(
            channel=target.channel,
            clients=options.clients,
            messages=options.messages,
            size=options.size,
            burst=options.burst,
            rate=options.rate,
            pid=target.pid,
        )
        publisher = Publisher(target.api, target.key)
        stack.callback(publisher.close)
        clients = stack.enter_context(_clients(options, target))
        parts = measure(plan, clients, publisher, _say)
    warnings = report.warnings(plan, parts, len(os.sched_getaffinity(0)))
    print(f"\n{report.text(parts)}", file=sys.stderr)
    for warning in warnings:
        print(f"\n{warning}.", file=sys.stderr)
    if options.json:
        what = {"url": target.url, "plan": asdict(plan), "processes": options.processes}
        figures = {**what, "machine": report.machine(), **parts, "warnings": warnings}
        print(json.dumps(figures, indent=2))
    return 0


def _say(line: str) -> None:
    print(f"{line} …", file=sys.stderr, flush=True)


def _target(options: argparse.Namespace, stack: ExitStack) -> _Target:
    if options.serve:
        server = stack.enter_context(running_server(limits="max_connections = 65000"))
        url = f"http://127.0.0.1:{server.port}"
        return _Target(url, url, server.key, CHANNEL, server.pid)
    url = options.url or os.environ.get("TWISTED_PUSH_URL") or DEFAULT_URL
    if urlsplit(url).scheme not in {"http", "https"}:
        raise BenchError(f"{url!r} is not the URL of a server, such as {DEFAULT_URL}")
    site = find_site(options)
    channel = options.channel or (site.broadcast_channel if site else CHANNEL)
    key = find_key(site, "publish")
    return _Target(url.rstrip("/"), options.api_url or url, key, channel, options.pid)


def _clients(options: argparse.Namespace, target: _Target) -> Clients:
    token = os.environ.get("TWISTED_PUSH_TOKEN", "")
    command = {"id": 1, "connect": {"token": token} if token else {}}
    url = re.sub("^http", "ws", target.url) + "/connection/websocket"
    hello = json.dumps(command, separators=(",", ":"))
    # A server of our own has the first core for itself.
    core = LOAD_CORE if options.serve and SERVER_CORE != LOAD_CORE else None
    return Clients(
        [
            Crowd(url, origin=options.origin, hello=hello, ready=READY, core=core)
            for _ in range(options.processes)
        ]
    )


def _check_files(clients: int) -> None:
    """Refuse more clients of one process than it may have open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and clients + OTHER_FILES > hard:
        raise BenchError(
            f"a process may have {hard:,} open files here, which is too few for {clients:,} "
            "clients: use more --processes"
        )


if __name__ == "__main__":
    sys.exit(main())
