"""``python -m twisted_push.bench``, in small: the figures are there, and errors are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.e2e.server import KEY, PushServer, environment, jwt_for

pytestmark = pytest.mark.e2e

SMALL = ("--clients", "20", "--messages", "3", "--json")


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
