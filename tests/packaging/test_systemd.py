"""The systemd units say what they should, and systemd has no complaint about them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from twisted_push.engines.journal.runs import BOOT_ID

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
FILES = sorted(p for p in UNITS.iterdir() if p.suffix in {".service", ".socket", ".target"})
SERVICES = [path for path in FILES if path.suffix == ".service"]
ANALYZE = shutil.which("systemd-analyze")

needs_analyze = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is missing (package systemd)"
)


def name_of(path: Path) -> str:
    return path.name


def settings(path: Path) -> dict[str, list[str]]:
    """Return what a unit file sets, by key."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a copy of the units in which the commands are programs that this machine has."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    true = shutil.which("true")
    assert true is not None
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            text = text.replace("/opt/twisted-push/bin/twistd", true).replace("/bin/kill", true)
            path.write_text(text, encoding="utf-8")
    return folder


def analyze(*arguments: str, units: Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # The colon adds systemd's own folders.
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_TARGET": "console"},
    )


def test_the_units_are_there() -> None:
    assert {path.name for path in FILES} >= {
        "twisted-push.service",
        "twisted-push.socket",
        "twisted-push@.service",
        "twisted-push@.socket",
    }


@pytest.mark.systemd
@needs_analyze
@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.parametrize("drop_in", [False, True], ids=["plain", "socket-activated"])
def test_systemd_has_no_complaint(installed: Path, path: Path, drop_in: bool) -> None:
    if not drop_in:
        shutil.rmtree(installed / "twisted-push.service.d")
    result = analyze("verify", "--man=no", str(installed / path.name), units=installed)
    # An unknown key is a mere warning. Other units of the machine may have complaints of their own.
    ours = [line for line in result.stderr.splitlines() if "twisted-push" in line]
    assert (result.returncode, ours) == (0, []), result.stderr


@pytest.mark.systemd
@needs_analyze
def test_a_wrong_unit_would_be_found(installed: Path) -> None:
    path = installed / "twisted-push.service"
    path.write_text(path.read_text().replace("WatchdogSec=20", "WatchdogSecs=20"))
    result = analyze("verify", "--man=no", str(path), units=installed)
    assert "WatchdogSecs" in result.stderr


@pytest.mark.systemd
@needs_analyze
@pytest.mark.parametrize("path", SERVICES, ids=name_of)
def test_the_services_are_hardened(installed: Path, path: Path) -> None:
    result = analyze(
        "security", "--offline=true", "--threshold=15", str(installed / path.name), units=installed
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Overall exposure level for \S+: 1\.\d OK", result.stdout), result.stdout


@pytest.mark.parametrize("path", SERVICES, ids=name_of)
def test_what_the_services_promise(path: Path) -> None:
    found = settings(path)
    assert found["Type"] == ["notify"]
    assert found["NotifyAccess"] == ["main"]
    assert found["WatchdogSec"] == ["20"]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["DynamicUser"] == ["yes"]
    # Clients are told to come back over shutdown_timeout = "20s", and each of the at most 19000
    # is an open file: the defaults of [limits].
    assert int(found["TimeoutStopSec"][0]) > 20
    assert int(found["LimitNOFILE"][0]) > 19000
    # TLS needs memory that can be written and executed (cffi's callbacks in pyOpenSSL).
    assert "MemoryDenyWriteExecute" not in found
    (command,) = found["ExecStart"]
    # No shell: LISTEN_PID and WATCHDOG_PID name the process that systemd starts.
    assert command.startswith(
        "/opt/twisted-push/bin/twistd -n --pidfile= push --config /etc/twisted-push/push.toml"
    )


@pytest.mark.parametrize("path", SERVICES, ids=name_of)
def test_the_journal_sees_whether_the_machine_was_started_anew(path: Path) -> None:
    assert BOOT_ID.is_relative_to("/proc/sys")
    found = settings(path)
    assert found.get("ProcSubset", ["all"]) == ["all"]  # "pid" hides /proc/sys.
    hidden = [*found.get("InaccessiblePaths", []), *found.get("TemporaryFileSystem", [])]
    assert not [each for each in hidden if "/proc" in each]


@pytest.mark.parametrize(
    ("socket", "service"),
    [
        ("twisted-push.socket", "twisted-push.service.d/socket-activation.conf"),
        ("twisted-push@.socket", "twisted-push@.service"),
    ],
)
def test_the_socket_has_the_name_and_family_that_the_server_asks_for(
    socket: str, service: str
) -> None:
    found = settings(UNITS / socket)
    assert found["FileDescriptorName"] == ["public"]
    assert re.fullmatch(r"[\d.]+:\d+", found["ListenStream"][0])
    command = settings(UNITS / service)["ExecStart"][-1]
    assert command.endswith(" --listen systemd:domain=INET:name=public")
