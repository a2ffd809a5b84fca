"""Which ports are asked for when they are to be shared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.tcp import makeBinding
from twisted.internet.testing import MemoryReactor

from twisted_push.sharedport import SharedPorts


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    of_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(of_key + certificate.public_bytes(Encoding.PEM))
    return path


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
