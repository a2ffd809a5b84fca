"""``python -m twisted_push.bench``, in small: the figures are there, and errors are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.c_programs import compiler, program
from tests.certificates import self_signed
from tests.e2e.server import (
    KEY,
    PushServer,
    environment,
    eventually,
    free_port,
    jwt_for,
    make_server,
)
from twisted_push.bench.crowds import PYTHON, Clients, Crowd
from twisted_push.bench.publisher import Publisher
from twisted_push.bench.server import CHANNEL, running_server

pytestmark = pytest.mark.e2e

SMALL = ("--clients", "20", "--messages", "3", "--json")

RUN = (
    "import signal, sys; from twisted_push.bench.__main__ import main; "
    "signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1])); sys.exit(main(sys.argv[2:]))"
)
"""It, with what SIGHUP does said first, whatever those who run the tests ignore."""


def bench(
    *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twisted_push.bench", *arguments],
        env=environment(**(environ or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def figures(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Any:
    done = bench(*arguments, *SMALL, environ=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_server_of_its_own() -> None:
    done = bench("--serve", "--processes", "2", "--rate", "200", "--burst", "4", *SMALL)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["connections"]["count"] == 20
    assert found["connections"]["kib"] > 0
    for part in ("deliveries", "at a rate"):
        assert found[part]["count"] == 3 * 4 * 20
        assert found[part]["per_second"] > 0
        assert found[part]["cpu_us"] > 0
        latency = found[part]["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert "| deliveries per second " in done.stderr


def test_a_server_that_runs(server: PushServer) -> None:
    environ = {"TWISTED_PUSH_KEY": KEY, "TWISTED_PUSH_TOKEN": jwt_for("7", channels=["sports"])}
    found = figures(["--url", server.url, "--channel", "sports"], environ)
    assert found["deliveries"]["count"] == 60
    assert "cpu_us" not in found["deliveries"]
    assert any("--pid" in line for line in found["warnings"])
    # With the key and the broadcast channel of the server's file.
    there = ("--config", str(server.config_path), "--url", server.url, "--pid", str(os.getpid()))
    del environ["TWISTED_PUSH_KEY"]
    found = figures([*there, "--origin", "https://www.example.org"], environ)
    assert found["deliveries"]["cpu_us"] > 0


def test_a_server_with_tls(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    port, backend = free_port(), free_port()
    tls = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    here = {"listen": [tls], "backend_listen": [f"tcp:{backend}:interface=127.0.0.1"]}
    own = make_server(tmp_path, top=here, site={"anonymous": True})
    own.port = backend
    urls = ("--url", f"https://127.0.0.1:{port}", "--api-url", own.url)
    with own:
        # Who made the certificate is not known to the system, and must be told.
        environ = {"TWISTED_PUSH_KEY": KEY, "SSL_CERT_FILE": str(certificate)}
        assert figures(urls, environ)["deliveries"]["count"] == 60
        refused = bench(*urls, *SMALL, environ={"TWISTED_PUSH_KEY": KEY})
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no key"),
        ({"TWISTED_PUSH_KEY": "another-key-than-the-servers"}, "bench: a process ended early"),
        ({"TWISTED_PUSH_KEY": "x", "TWISTED_PUSH_TOKEN": jwt_for("7")}, "bench: publish: 401"),
    ],
)
def test_what_is_wrong_is_told(server: PushServer, environ: Mapping[str, str], said: str) -> None:
    done = bench("--url", server.url, *SMALL, environ=environ)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_no_server() -> None:
    done = bench("--url", "http://127.0.0.1:9", *SMALL, environ={"TWISTED_PUSH_KEY": KEY})
    assert done.returncode == 1
    assert "client 0 cannot connect: Connection refused" in done.stderr


def children(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
    return [int(pid) for pid in found.split()]


def runs(pid: int) -> bool:
    """Whether a process is there, and not just not yet waited for."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def under_way(folder: Path, at_hangup: str = "SIG_DFL") -> Iterator[subprocess.Popen[str]]:
    """Run one whose server serves and whose clients are connected; see that all of it goes."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, at_hangup, "--serve", *SMALL, "--messages", "1000000"],
        env=environment(TMPDIR=str(folder)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        started: list[int] = []
        try:
            assert process.stderr is not None
            assert any(line.startswith("publishing") for line in process.stderr)
            started += children(process)
            assert len(started) == 2  # The server, and the load.
            assert len(list(folder.iterdir())) == 1  # With the server's key.
            yield process
        finally:
            process.kill()
            left = [pid for pid in started if runs(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
    assert left == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_its_server_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with under_way(tmp_path) as process:
        process.send_signal(number)
        assert process.wait(30) == 128 + number


def test_its_server_ends_even_if_it_could_not_end_it(tmp_path: Path) -> None:
    """As if it was ended just when it had started the server, and did not know it yet."""
    with under_way(tmp_path) as process:
        started = children(process)
        process.kill()
        eventually("its processes end", lambda: not any(map(runs, started)))
        [folder] = tmp_path.iterdir()
        shutil.rmtree(folder)  # Which nobody is left to remove.


def test_it_outlives_its_terminal_if_it_is_to(tmp_path: Path) -> None:
    """As ``nohup`` has it."""
    with under_way(tmp_path, "SIG_IGN") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.skipif(compiler() is None, reason="there is no C compiler (cc)")
def test_the_load_in_c_counts_as_the_one_in_python() -> None:
    """The benchmarks' own; told that messages were published a while ago, it says how long ago."""
    with running_server() as ours, ExitStack() as stack:
        publisher = Publisher(f"http://127.0.0.1:{ours.port}", ours.key)
        stack.callback(publisher.close)
        url = f"ws://127.0.0.1:{ours.port}/connection/websocket"
        loads = [
            stack.enter_context(Clients([Crowd(url, command=command)]))
            for command in (PYTHON, [program("load")])
        ]
        for clients in loads:
            begun = time.monotonic()
            assert 0 < clients.open(20) < time.monotonic() - begun  # By their own clock.
            clients.expect(3)
        publisher.publish(CHANNEL, 200, 2, time.monotonic_ns() - 5 * 10**9)
        publisher.publish(CHANNEL, 5000, 1, time.monotonic_ns() - 60 * 10**9)
        for clients in loads:
            clients.wait()
            heard = clients.heard()
            assert heard.messages == heard.latency.count == 60
            assert heard.latency.percentile(50) == pytest.approx(5_000, rel=0.1)
            assert heard.latency.percentile(90) == pytest.approx(60_000, rel=0.1)
            clients.close()
            clients.open(3)  # Those who come after others are counted by themselves.
            clients.expect(1)
        publisher.publish(CHANNEL, 200)
        for clients in loads:
            clients.wait()
            assert clients.heard().messages == 3
