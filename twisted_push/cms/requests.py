"""What goes out to a CMS: one request, as it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

__all__ = ["Body", "Question", "request_headers", "shown"]


@frozen
class Question:
    """What is posted where; with ``once`` it is never put twice, with ``quiet`` never logged.

    ``kind`` is a word of ours for what is asked, ``asker`` tells those apart who ask: a token, a
    user or an address; empty for the server itself.
    """

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    once: bool = False
    quiet: bool = False
    kind: str = "connect"
    asker: str = field(default="", repr=False)


@implementer(IBodyProducer)
class Body:
    """A request's body that is written at once, without the global reactor's cooperator."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Have nothing to stop: all was written."""

    pauseProducing = resumeProducing = stopProducing


def request_headers(given: Mapping[str, str]) -> Headers:
    """Give the headers of a request: ours, and those that are given."""
    headers = Headers()
    headers.setRawHeaders(b"Accept", [b"application/json"])
    headers.setRawHeaders(b"User-Agent", [b"twisted_push"])
    for name, value in given.items():
        try:
            raw = value.encode("iso-8859-1")
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "replace")
        headers.setRawHeaders(name.encode("ascii"), [raw])
    return headers


def shown(url: str) -> str:
    """Give an address for the log, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
