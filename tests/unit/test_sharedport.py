"""Which ports are asked for when they are to be shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.tcp import makeBinding
from twisted.internet.testing import MemoryReactor

from tests.certificates import self_signed
from twisted_push.sharedport import SharedPorts


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls") / "certificate.pem")


@pytest.mark.parametrize(
    ("endpoint", "asked", "interface"),
    [
        ("tcp:8080", "tcpServers", ""),
        ("tcp:8080:interface=127.0.0.1:backlog=7", "tcpServers", "127.0.0.1"),
        ("tcp6:8080", "tcpServers", "::"),
        ("haproxy:tcp:8080", "tcpServers", ""),
        ("ssl:8080:interface=127.0.0.1:privateKey={pem}", "sslServers", "127.0.0.1"),
    ],
)
def test_the_port_of_an_endpoint(
    certificate: Path, endpoint: str, asked: str, interface: str
) -> None:
    reactor = MemoryReactor()
    description = endpoint.format(pem=certificate)
    serverFromString(SharedPorts(reactor), description).listen(Factory())
    [arguments] = getattr(reactor, asked)
    shared = makeBinding(interface, 8080, reuseAddress=True, reusePort=True)
    assert arguments[0] == shared
    # A binding alone does not tell a reactor that its address is one of IPv6.
    assert interface in arguments
    if "backlog" in endpoint:
        assert 7 in arguments
