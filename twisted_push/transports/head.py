"""The head of a request, as browsers and the CMS's HTTP clients send it.

`read_head` knows only what is beyond doubt. Anything else - a strange line, a header that comes
twice, an old version of the protocol - is none of its business: twisted.web and Autobahn read it,
and answer what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from urllib.parse import parse_qs

from twisted.internet.interfaces import IAddress

__all__ = ["MAX_HEAD", "Head", "read_head"]

MAX_HEAD = 16384
"""Bytes; what is longer is left to twisted.web, which has this limit, too."""

_REQUEST = re.compile(rb"(GET|POST) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n")
_HEADERS = re.compile(
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\x84\x86-\xff]*\r\n){1,100}\r\n"
)
_HOST = re.compile(rb"(?:[^:\[\]/@, ]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(rb"(?i:null|[a-z][a-z0-9+.-]*://[a-z0-9._-]+(?::[0-9]{1,5})?)")
_LENGTH = re.compile(rb"[0-9]{1,9}")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_MORE_TO_DO = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers of requests that are more than a head and a body."""


class Head:
    """What a request says before its body.

    It has what is read of a `twisted.web.server.Request`: ``method``, ``args``,
    ``requestHeaders`` and ``getClientAddress``.
    """

    def __init__(
        self, method: bytes, target: bytes, headers: dict[bytes, bytes], peer: IAddress
    ) -> None:
        self.method = method
        self.path, _, self._query = target.partition(b"?")
        self._headers = headers
        self._peer = peer

    @property
    def requestHeaders(self) -> Head:
        """It has the methods of `twisted.web.http_headers.Headers` that are used."""
        return self

    def getRawHeaders(self, name: bytes) -> list[bytes] | None:
        """Give the values of a header: one, or None."""
        value = self._headers.get(name.lower())
        return None if value is None else [value]

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Give all headers, by small name."""
        for name, value in self._headers.items():
            yield name, [value]

    def getClientAddress(self) -> IAddress:
        """Give the address of the peer."""
        return self._peer

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:
        """What the query holds, as twisted.web reads it."""
        return parse_qs(self._query, keep_blank_values=True)

    # --- One that opens a WebSocket ----------------------------------------------------------

    @property
    def opens(self) -> bool:
        """Whether Autobahn would find nothing amiss with it, by stricter rules than its own."""
        get = self._headers.get
        return (
            get(b"upgrade", b"").lower() == b"websocket"
            and self.method == b"GET"
            and "upgrade" in _tokens(get(b"connection", b"").decode("latin-1").lower())
            and get(b"sec-websocket-version") == b"13"
            and _KEY.fullmatch(get(b"sec-websocket-key", b"")) is not None
            and _HOST.fullmatch(get(b"host", b"")) is not None
            and _ORIGIN.fullmatch(get(b"origin", b"null")) is not None
            and len(set(self.protocols)) == len(self.protocols)
            and not (b"content-length" in self._headers or b"transfer-encoding" in self._headers)
        )

    @property
    def key(self) -> str:
        """What the answer proves to have read."""
        return self._headers[b"sec-websocket-key"].decode("ascii")

    @property
    def extensions(self) -> str:
        """The header with the extensions that the client would use, empty if there is none."""
        return self._headers.get(b"sec-websocket-extensions", b"").decode("latin-1")

    @property
    def protocols(self) -> list[str]:
        """The subprotocols that the client would speak."""
        return _tokens(self._headers.get(b"sec-websocket-protocol", b"").decode("latin-1"))

    # --- One with a body ---------------------------------------------------------------------

    @property
    def length(self) -> int | None:
        """How many bytes its body has, if nothing is to be done but read and answer it."""
        get = self._headers.get
        length = get(b"content-length", b"0")
        ordinary = (
            _MORE_TO_DO.isdisjoint(self._headers)
            and get(b"connection", b"keep-alive").lower() == b"keep-alive"
            and _HOST.fullmatch(get(b"host", b"")) is not None
            and _LENGTH.fullmatch(length) is not None
        )
        return int(length) if ordinary else None


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",")] if value else []


def read_head(data: bytes, peer: IAddress) -> tuple[Head, int] | None:
    """Read a whole head; give it with its length. None: twisted.web must see to it."""
    request = _REQUEST.match(data)
    if request is None:
        return None
    found = _HEADERS.match(data, request.end(), MAX_HEAD)
    if found is None:
        return None
    headers: dict[bytes, bytes] = {}
    lines = found[0][:-4].split(b"\r\n")
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip(b" \t")
    if len(headers) < len(lines):
        return None  # One came twice.
    return Head(request[1], request[2], headers, peer), found.end()
