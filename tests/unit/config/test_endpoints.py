"""Which endpoint descriptions pass, compared with what Twisted itself makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactorClock

from twisted_push.config import check_endpoint
from twisted_push.config.values import BadValue

GOOD_IN_TWISTED = [
    "tcp:8080",
    "tcp:port=8080",
    "tcp:0:interface=127.0.0.1:backlog=5",
    r"tcp:8080:interface=\:\:1",
    "tcp6:8080",
    "unix:/run/push.sock",
    "unix:/run/push.sock:mode=660:lockfile=0",
    "haproxy:tcp:8080",
    "haproxy:unix:/run/push.sock",
]
GOOD_BUT_NEEDING_FILES = [
    "ssl:443:privateKey=/etc/key.pem:certKey=/etc/cert.pem",
    "tls:/etc/certificates:port=443",
    "haproxy:ssl:443",
    "systemd:domain=INET:name=public",
    "systemd:domain=UNIX:index=0",
]
BAD = [
    "",
    ":",
    "8080",
    "tcp",
    "tcp:",
    "tcp:http",
    "tcp:65536",
    "tcp:-1",
    "tcp:80:interfce=127.0.0.1",
    "tcp:80:127.0.0.1:5:6",
    "tcp:80\\",
    "tpc:80",
    "haproxy",
    "haproxy:tpc:80",
    "haproxy:haproxy:tcp:80",
    "stdio:",
    "unix",
    "unix:",
    "unix:/x:mode=999",
    "unix:/x:lockfile=yes",
    "ssl",
    "ssl:443:key=x",
    "ssl:443:privateKey=",
    "tls:443=x",
    "tls::port=443",
    "systemd:domain=INET",
    "systemd:domain=IPX:index=0",
    "systemd:domain=INET:index=0:name=a",
    "systemd:domain=INET:index=a",
]


@pytest.mark.parametrize("description", GOOD_IN_TWISTED)
def test_good_descriptions_pass_and_twisted_makes_an_endpoint(description: str) -> None:
    assert check_endpoint(description) == description
    serverFromString(MemoryReactorClock(), description)


@pytest.mark.parametrize("description", GOOD_BUT_NEEDING_FILES)
def test_descriptions_pass_though_their_files_are_not_there(description: str) -> None:
    assert check_endpoint(description) == description


@pytest.mark.parametrize("description", BAD)
def test_bad_descriptions_are_told(description: str) -> None:
    with pytest.raises(BadValue, match="is no endpoint: "):
        check_endpoint(description)


@given(st.text(alphabet="tcpunixlsy:=\\0189/.", max_size=20))
def test_what_passes_does_not_fail_in_twisted(description: str) -> None:
    """Whatever the text: it is refused, or Twisted takes it."""
    try:
        check_endpoint(description)
    except BadValue:
        return
    if description.startswith(("tcp:", "unix:")):
        serverFromString(MemoryReactorClock(), description)


def test_reading_configurations_does_not_install_a_reactor() -> None:
    code = (
        "import sys; from twisted_push.config import check_endpoint\n"
        "check_endpoint('tcp:80')\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "assert not {'twisted.web', 'autobahn', 'treq'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)
