"""Starting, stopping and reloading: what an operator does to the process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.cms import PEOPLE, StubCms, silence
from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.raw_engineio import Polling
from tests.e2e.server import (
    KEY,
    PATIENCE,
    ROOT,
    SERVE,
    TWISTD,
    PushServer,
    bound,
    config_text,
    environment,
    eventually,
    free_port,
    http,
    jwt_for,
    make_server,
)

NEW_KEY = "another-api-key-of-the-e2e-tests"
NEW_ORIGIN = "https://new.example.org"


@pytest.fixture
def running(cms: StubCms, tmp_path: Path) -> Iterator[PushServer]:
    """Run a server for this test alone."""
    with make_server(tmp_path, callback=cms.url) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_server_sends_its_clients_away(
    running: PushServer, number: signal.Signals
) -> None:
    clients = [RawClient(running) for _ in range(5)]
    for client in clients[:-1]:
        client.connect()  # The last one has not got so far.
    started = time.monotonic()

    running.signal(number)

    # Told to come back: elsewhere, or here in a moment.
    assert [client.closing()[0] for client in clients] == [3001] * 5
    assert running.wait() in (0, 128 + number, -number)
    assert time.monotonic() - started < 5
    assert "Traceback" not in running.log
    assert running.get("/ready")[0] == 0


def test_the_last_words_are_written_before_the_end(tmp_path: Path) -> None:
    """Also where there is nothing else that the end would wait for."""
    with (
        make_server(tmp_path, site={"anonymous": True}) as server,
        ThreadPoolExecutor(1) as pool,
        RawClient(server) as client,
    ):
        polling = Polling(server, 4).let_in("")
        poll = polling.poll_later(pool)
        # Until the request of the thread is here: of two at once the second is refused.
        time.sleep(0.2)
        assert not poll.done()
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert client.closing()[0] == 3001
        assert b'"code":3001' in poll.result(PATIENCE).body
        server.wait()
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_hurt(running: PushServer, second: signal.Signals) -> None:
    """Not even one that comes before the server has seen the first."""
    with RawClient(running) as client:
        client.connect()
        running.signal(signal.SIGSTOP, signal.SIGTERM, second, signal.SIGCONT)
        assert client.closing()[0] == 3001
        assert running.wait() in (0, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT)
    assert "Traceback" not in running.log


def test_a_stopping_server_does_not_wait_for_the_cms(tmp_path: Path) -> None:
    with (
        StubCms({**PEOPLE, "silence": silence}) as cms,
        make_server(tmp_path, callback=cms.url) as server,
        RawClient(server) as client,
    ):
        client.send('{"id":1,"connect":{"token":"silence"}}')
        eventually("the CMS is asked", lambda: cms.questions)
        started = time.monotonic()
        server.stop()
        assert client.closing()[0] == 3001
        assert time.monotonic() - started < 3


def test_restart_on_the_same_port_with_clients(running: PushServer) -> None:
    with RawClient(running) as client:
        client.connect()
        running.restart()
        assert client.closing()[0] == 3001
    with RawClient(running) as client:
        client.connect()


def test_reload_applies_key_and_origin(running: PushServer, cms: StubCms) -> None:
    with RawClient(running) as client:
        client.connect()
        with pytest.raises(InvalidStatus):
            RawClient(running, origin=NEW_ORIGIN)
        site = {"key": NEW_KEY, "allowed_origins": [NEW_ORIGIN]}
        running.write_config(config_text(port=running.port, callback=cms.url, site=site))

        running.signal(signal.SIGHUP)

        news = {"channel": "news", "data": "new key"}
        eventually("the new key", lambda: running.call("publish", news, key=NEW_KEY)[0] == 200)
        assert running.call("publish", news, key=KEY)[0] == 401
        assert client.publication("news")["data"] == "new key"
        with RawClient(running, origin=NEW_ORIGIN) as other:
            other.connect("bob-token")
        with pytest.raises(InvalidStatus):
            RawClient(running, origin="https://www.example.org")
        assert "ping" in client.command("ping")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('listen = ["nonsense:"]\n', "listen"),
        ("this is no TOML", "line 1"),
        ("", "sites.default.key"),
        ('[limits]\nmax_conections = 5\n[sites.default]\nkey = "1234567890123456"', "max_conect"),
    ],
)
def test_reload_of_a_bad_file_keeps_the_old(running: PushServer, content: str, said: str) -> None:
    with RawClient(running) as client:
        client.connect()
        running.write_config(content)
        mark = running.log_mark()

        running.signal(signal.SIGHUP)

        eventually("the fault is logged", lambda: said in running.log[mark:])
        assert "Traceback" not in running.log
        assert KEY not in running.log
        check_untouched(client, running)
        with RawClient(running, origin="https://www.example.org") as other:
            other.connect("bob-token")


def test_a_port_that_is_taken(running: PushServer, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    second = PushServer(folder, config_text(port=running.port), running.port)
    second.launch()
    try:
        assert second.wait() == 1
    finally:
        second.kill()
    assert "Traceback" not in second.log
    about = [line for line in second.log.splitlines() if re.search(rf"\b{running.port}\b", line)]
    assert len(about) == 1, second.log
    assert "in use" in about[0].lower(), second.log
    with RawClient(running) as client:
        client.connect()


def test_one_of_two_ports_that_is_taken(running: PushServer, tmp_path: Path) -> None:
    """It is all or nothing: the free port is not served either."""
    folder = tmp_path / "second"
    free = free_port()
    second = make_server(
        folder,
        top={"listen": [f"tcp:{port}:interface=127.0.0.1" for port in (free, running.port)]},
    )
    second.launch()
    try:
        assert second.wait() == 1
    finally:
        second.kill()
    assert "Traceback" not in second.log


def test_a_bad_file_at_the_start(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    text = server.config_path.read_text("utf-8")
    server.write_config(text.replace("stale_close_delay", "stale_close_dealy"))
    process = server.launch()
    try:
        assert process.wait(20) == 1
    finally:
        server.kill()
    assert "Traceback" not in server.log
    assert "limits.stale_close_dealy" in server.log
    assert "did you mean stale_close_delay" in server.log
    assert KEY not in server.log


def test_no_file_at_all(tmp_path: Path) -> None:
    finished = subprocess.run(
        bound([sys.executable, "-c", SERVE, "serve", "--config", "missing.toml"]),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=30,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 1
    assert "missing.toml" in finished.stderr + finished.stdout
    assert "Traceback" not in finished.stderr + finished.stdout


def _use(server: PushServer) -> None:
    with server, RawClient(server) as client:
        client.connect(jwt_for("alice", channels=["news"]))
        check_untouched(client, server)
    assert not (server.folder / "twistd.pid").exists()


@pytest.mark.parametrize("reactor", [[], ["--reactor", "asyncio"]], ids=["default", "asyncio"])
def test_twistd_plugin(tmp_path: Path, reactor: list[str]) -> None:
    def command(config: str) -> list[str]:
        options = ["--nodaemon", "--pidfile=", *reactor, "push", "--config", config]
        return [sys.executable, "-c", TWISTD, *options]

    _use(make_server(tmp_path, command=command))


def test_tac_file(tmp_path: Path) -> None:
    def command(_config: str) -> list[str]:
        tac = str(ROOT / "push.tac")
        return [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "--python", tac]

    environ = {"TWISTED_PUSH_CONFIG": str(tmp_path / "push.toml")}
    _use(make_server(tmp_path, command=command, environ=environ))


def test_settings_from_the_environment(tmp_path: Path) -> None:
    server = make_server(tmp_path, environ={"TWISTED_PUSH_SITES__DEFAULT__ANONYMOUS": "true"})
    with server, RawClient(server) as client:
        assert client.connect("")["subs"].keys() == {"broadcast"}


def test_listen_option_beats_the_file(tmp_path: Path) -> None:
    port = free_port()

    def command(config: str) -> list[str]:
        listen = f"tcp:{port}:interface=127.0.0.1"
        return [sys.executable, "-c", SERVE, "serve", "--config", config, "--listen", listen]

    server = make_server(tmp_path, command=command)
    of_the_file, server.port = server.url, port
    with server:
        assert http("GET", f"{of_the_file}/ready")[0] == 0


def test_backend_port_of_its_own(cms: StubCms, tmp_path: Path) -> None:
    """What is for the CMS and the operator is then not on the public port."""
    backend = free_port()
    server = make_server(
        tmp_path, callback=cms.url, top={"backend_listen": [f"tcp:{backend}:interface=127.0.0.1"]}
    )
    public, server.port = server.port, backend
    with server:
        with RawClient(server, port=public) as client:
            client.connect()
            check_untouched(client, server)
        for path in ("/metrics", "/api/info", "/admin/"):
            assert http("GET", f"http://127.0.0.1:{public}{path}")[0] == 404
        with pytest.raises(InvalidStatus):
            RawClient(server)
