"""The callback over TLS: certificates are checked unless the site says otherwise."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

from tests.unit.cms.support import Log, Outcome, RawCms, config, the_reactor
from twisted_push.cms.exchange import Exchange
from twisted_push.stats import SiteStats

GOOD = b'{"result": {"user": "42"}}'


def certificate(host: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


@implementer(IOpenSSLContextFactory)
class ServerContext:
    """A server's TLS, from objects of ``cryptography``."""

    def __init__(self, host: str) -> None:
        self.certificate, key = certificate(host)
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate(self.certificate)
        self._context.use_privatekey(key)

    def getContext(self) -> SSL.Context:
        return self._context


class TlsCms:
    """A server with a certificate for ``localhost``, signed by itself."""

    def __init__(self, cms: RawCms, host: str) -> None:
        self.cms = cms
        context = ServerContext(host)
        self.pem = context.certificate.public_bytes(serialization.Encoding.PEM)
        self.port = the_reactor().listenSSL(0, cms, context, interface="127.0.0.1")
        cms.url = f"https://localhost:{self.port.getHost().port}/"


@pytest_twisted.async_yield_fixture
async def start() -> Any:
    started: list[TlsCms] = []

    def start_one(host: str = "localhost", **script: Any) -> TlsCms:
        cms = TlsCms(
            RawCms(script.get("script") or (lambda connection: connection.answer(GOOD))), host
        )
        started.append(cms)
        return cms

    yield start_one
    for one in started:
        await one.port.stopListening()
        for connection in one.cms.connections:
            await connection.lost.addTimeout(5, the_reactor())


def exchange(cms: TlsCms, **changes: Any) -> tuple[Exchange, SiteStats]:
    stats = SiteStats()
    return Exchange(config(url=cms.cms.url, **changes), the_reactor(), stats), stats


async def ask(one: Exchange) -> Outcome:
    outcome = Outcome(Deferred.fromCoroutine(one.post(b"{}", {})))
    await outcome.deferred
    await one.close()
    return outcome


async def test_a_certificate_of_nobody_known_is_refused(start: Any, log: Log) -> None:
    cms = start()
    one, stats = exchange(cms)
    outcome = await ask(one)
    assert outcome.says == "CmsUnavailable connection: TLS: certificate verify failed"
    assert stats.callbacks == {"connection": 1}
    assert cms.cms.requests == []
    assert len(log.lines) == 1


async def test_without_verification_it_is_taken(start: Any, log: Log) -> None:
    cms = start("elsewhere.test")
    one, stats = exchange(cms, verify_tls=False)
    assert (await ask(one)).value == GOOD
    assert stats.callbacks == {"ok": 1}
    assert log.lines == []


@pytest.mark.parametrize("host", ["localhost", "elsewhere.test"])
async def test_a_known_certificate_must_be_for_the_host(
    host: str, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cms = start(host)
    (tmp_path / "known.pem").write_bytes(cms.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known.pem"))
    one, _ = exchange(cms)
    outcome = await ask(one)
    if host == "localhost":
        assert outcome.value == GOOD
    else:
        assert (
            outcome.says == "CmsUnavailable connection: TLS: the certificate is not for this host"
        )
        assert cms.cms.requests == []


async def test_an_endless_answer_over_tls_is_cut_at_once(start: Any, log: Log) -> None:
    """Where an ordinary close would wait for the other side's farewell."""

    def pour(connection: Any) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")

        class Producer:
            def resumeProducing(self) -> None:
                connection.send(b"x" * 65536)

            def stopProducing(self) -> None:
                pass

        connection.transport.registerProducer(Producer(), False)

    cms = start(script=pour)
    one, _ = exchange(cms, verify_tls=False, max_answer_size=4096)
    outcome = Outcome(Deferred.fromCoroutine(one.post(b"{}", {})))
    await outcome.deferred
    assert outcome.says == "CmsUnavailable too large: more than 4096 bytes"
    await cms.cms.connections[0].lost  # Before the exchange is closed.
    assert cms.cms.connections[0].sent < 8_000_000
    await one.close()
