"""What systemd is told, over real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from twisted_push.systemd import Notifier

Listen = Callable[[str], socket.socket]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Return a function that makes a socket as systemd has it, at an address."""
    with ExitStack() as stack:

        def open_socket(address: str) -> socket.socket:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            listening.setblocking(False)
            listening.bind(address)
            return listening

        yield open_socket


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    found: list[LogEvent] = []

    @implementer(ILogObserver)
    def keep(event: LogEvent) -> None:
        found.append(event)

    globalLogPublisher.addObserver(keep)
    yield found
    globalLogPublisher.removeObserver(keep)


def tell_all(notifier: Notifier) -> None:
    notifier.ready()
    notifier.alive()
    notifier.reloaded("reloaded \u00e4")
    notifier.stopping()


ALL = [b"READY=1", b"WATCHDOG=1", "STATUS=reloaded \u00e4".encode(), b"STOPPING=1"]


def test_a_socket_in_the_file_system(listen: Listen, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    listening = listen(address)
    tell_all(Notifier.from_environment({"NOTIFY_SOCKET": address}))
    assert [listening.recv(1000) for _ in ALL] == ALL


def test_a_socket_in_the_abstract_namespace(listen: Listen) -> None:
    name = f"twisted_push-test-{os.getpid()}"
    listening = listen("\0" + name)
    tell_all(Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}))
    assert [listening.recv(1000) for _ in ALL] == ALL


def test_the_environment_given_is_not_changed_and_nothing_is_read_besides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/elsewhere")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    assert Notifier.from_environment({}) == Notifier(None, None)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_systemd_nothing_is_done(environ: dict[str, str], events: list[LogEvent]) -> None:
    tell_all(Notifier.from_environment(environ))
    assert events == []


@pytest.mark.parametrize("name", ["nobody", "x" * 200])
def test_a_systemd_that_does_not_listen_is_only_logged(
    tmp_path: Path, events: list[LogEvent], name: str
) -> None:
    tell_all(Notifier(str(tmp_path / name)))
    assert len(events) == len(ALL)
    assert {event["log_level"].name for event in events} == {"warn"}


def test_a_systemd_that_reads_too_slowly_never_blocks(
    listen: Listen, tmp_path: Path, events: list[LogEvent]
) -> None:
    address = str(tmp_path / "notify")
    listen(address)
    notifier = Notifier(address)
    for _ in range(100_000):
        notifier.alive()
        if events:
            break
    assert events


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1.5"}, None),
        ({"WATCHDOG_USEC": "\u00b2"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_the_watchdogs_time(environ: dict[str, str], watchdog: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog == watchdog
