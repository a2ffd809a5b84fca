"""A journal as the configuration asks for it: where it is, what it keeps, what if it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.test.requesthelper import DummyRequest

from tests.unit.cms.support import Log, the_reactor
from tests.unit.config.reading import OTHER_KEY, read, site
from twisted_push.config import Config
from twisted_push.service import PushService
from twisted_push.systemd import Notifier

HISTORY = '[[sites.default.namespaces]]\nprefix = ""\nhistory_size = 10\n'


class _Reactor:
    """The reactor, but that it is not stopped: the tests need it."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def __getattr__(self, name: str) -> Any:
        return getattr(the_reactor(), name)

    def stop(self) -> None:
        self.stopped.callback(None)


class Server:
    """A service that starts and stops; it listens nowhere but on a port of its own."""

    def __init__(self, config: Config) -> None:
        self.reactor: Any = _Reactor()
        self.gave_up = 0
        self.service = PushService(
            config,
            self.reactor,
            read=lambda: config,
            notifier=Notifier(None),
            give_up=self._give_up,
        )

    def _give_up(self) -> None:
        self.gave_up += 1

    def ready(self) -> tuple[int, Any]:
        request: Any = DummyRequest([b"ready"])
        resource: Any = self.service.assembly.public.root.children[b"ready"]
        body = resource.render_GET(request)
        return request.responseCode or 200, json.loads(body)

    async def until_ready(self) -> None:
        while self.ready()[0] != 200 and not self.reactor.stopped.called:
            await deferLater(self.reactor, 0.005)

    @property
    def backend(self) -> Any:
        return self.service.nodes[0].backend


def config(state: Path | str, sites: str = site("") + HISTORY) -> Config:
    top = f'listen = ["tcp:0:interface=127.0.0.1"]\nstate_dir = "{state}"\n'
    return read(f'{top}[limits]\nshutdown_timeout = "0s"\n{sites}')


Start = Callable[[Config], Deferred[Server]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start servers one after the other; the last one is stopped at the end."""
    # The handler would outlive the test.
    monkeypatch.setattr("twisted_push.service.signal.signal", lambda *_: None)
    servers: list[Server] = []

    async def begin(config: Config) -> Server:
        server = Server(config)
        servers.append(server)
        server.service.privilegedStartService()
        server.service.startService()
        await server.until_ready()
        return server

    yield lambda config: Deferred.fromCoroutine(begin(config))
    for server in servers:
        if server.service.running:
            pytest_twisted.blockon(server.service.stopService())


@pytest_twisted.ensureDeferred
async def test_what_was_published_is_there_after_a_restart(start: Start, tmp_path: Path) -> None:
    first = await start(config(tmp_path))
    published = await first.backend.publish("news", b'{"n":1}')
    await first.service.stopService()
    second = await start(config(tmp_path))
    found = await second.backend.history("news", since=None, limit=10, reverse=False)
    assert [p.data for p in found.publications] == [b'{"n":1}']
    assert found.position == published.position


@pytest_twisted.ensureDeferred
async def test_each_site_has_a_directory_of_its_own(start: Start, tmp_path: Path) -> None:
    sites = site('hosts = ["a.test"]') + site('hosts = ["b.test"]', "b", OTHER_KEY)
    await start(config(tmp_path, sites))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "default"]


@pytest_twisted.ensureDeferred
async def test_nothing_is_served_before_all_is_read(start: Start, tmp_path: Path) -> None:
    server = Server(config(tmp_path))
    assert server.ready()[0] == 503
    assert "the server is starting" in server.ready()[1]["reasons"]
    running = await start(config(tmp_path))
    assert running.ready() == (200, {"status": "ready"})


@pytest_twisted.ensureDeferred
async def test_a_journal_that_cannot_be_used_ends_the_start(
    start: Start, tmp_path: Path, log: Log
) -> None:
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "journal.sqlite").write_bytes(b"this is no database" * 300)
    server = await start(config(tmp_path))
    await server.reactor.stopped
    assert server.gave_up == 1
    assert server.ready()[0] == 503
    [line] = [line for line in log.lines if line.startswith("the server cannot start: ")]
    assert str(tmp_path / "default") in line
    assert "\n" not in line


@pytest_twisted.ensureDeferred
async def test_without_a_directory_there_is_none(start: Start, tmp_path: Path) -> None:
    first = await start(config(""))
    await first.backend.publish("news", b'{"n":1}')
    await first.service.stopService()
    second = await start(config(""))
    assert not (
        await second.backend.history("news", since=None, limit=10, reverse=False)
    ).publications
    assert not list(tmp_path.iterdir())
