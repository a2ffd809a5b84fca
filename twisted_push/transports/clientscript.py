"""The scripts that pages load from the server: ``push.js``, and ``socket.io.js`` for Drupal's."""

from __future__ import annotations

import gzip
import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files

from attrs import field, frozen
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_push.web import answer, answer_json, header

__all__ = ["ClientScript", "Script", "ScriptAddresses"]

CACHE_CONTROL = b"public, max-age=300"
"""The script is the same for everybody, and its name says nothing of its version.

A browser asks for it again after five minutes: seldom enough for a visit of several pages, and
soon enough for pages to get along with a server that was upgraded. The answer then is a short 304.
"""

VERSIONED = b"public, max-age=31536000, immutable"
"""For a year: the address names the version, so there is never another script at it."""

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


@frozen
class Script:
    """One of the files in ``static``, read once."""

    name: str
    text: bytes = field(init=False, repr=False)
    small: bytes = field(init=False, repr=False)
    """It, compressed by gzip."""
    digest: str = field(init=False)

    @text.default
    def _read(self) -> bytes:
        return (files("twisted_push") / "static" / self.name).read_bytes()

    @small.default
    def _compress(self) -> bytes:
        return gzip.compress(self.text, mtime=0)

    @digest.default
    def _hash(self) -> str:
        return hashlib.sha256(self.text).hexdigest()[:32]

    @property
    def version(self) -> str:
        """What the parameter ``v`` of its versioned address is."""
        return self.digest[:16]

    @property
    def integrity(self) -> str:
        """Its hash for the attribute ``integrity`` of HTML."""
        return "sha384-" + b64encode(hashlib.sha384(self.text).digest()).decode("ascii")


class ClientScript(Resource):
    """Serves a script, at whatever address it is mounted.

    With the parameter ``v`` of its version it may be kept for long; with any other it is what it
    is without.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def render(self, request: Request) -> bytes | int:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return answer(request, 405, b"use GET\n")
        script = self._script
        compressed = _takes_gzip(header(request, "Accept-Encoding"))
        # A compressed copy is another one, and a cache must know it by another tag.
        tag = f'"{script.digest}-gzip"' if compressed else f'"{script.digest}"'
        text = script.small if compressed else script.text
        body = answer(request, 200, text, "application/javascript; charset=utf-8")
        if compressed:
            request.setHeader(b"Content-Encoding", b"gzip")
        versioned = request.args.get(b"v") == [script.version.encode("ascii")]
        request.setHeader(b"Cache-Control", VERSIONED if versioned else CACHE_CONTROL)
        request.setHeader(b"ETag", tag.encode("ascii"))
        request.setHeader(b"Vary", b"Accept-Encoding")
        # Pages of other origins load it, as a module or with its hash, too: that is what it is for.
        request.setHeader(b"Access-Control-Allow-Origin", b"*")
        request.setHeader(b"Cross-Origin-Resource-Policy", b"cross-origin")
        if _is_known(header(request, "If-None-Match"), tag):
            return _not_modified(request)
        return body if request.method == b"GET" else b""


class ScriptAddresses(Resource):
    """Says at which addresses the scripts may be kept for long, and their hashes: `/push.json`."""

    isLeaf = True

    def __init__(self, version: str, scripts: Mapping[str, Script]) -> None:
        super().__init__()
        found = {
            kind: {"src": f"{script.name}?v={script.version}", "integrity": script.integrity}
            for kind, script in scripts.items()
        }
        self._answer = {"version": version, **found}

    def render(self, request: Request) -> bytes:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return answer(request, 405, b"use GET\n")
        return answer_json(request, 200, self._answer)


def _takes_gzip(accept_encoding: str | None) -> bool:
    """Tell whether a client takes gzip (RFC 9110, section 12.5.3)."""
    for part in (accept_encoding or "").lower().split(","):
        coding, _, quality = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return not re.fullmatch(r"q=0(\.0*)?", quality)
    return False


def _is_known(if_none_match: str | None, tag: str) -> bool:
    """Tell whether a client has the script already. A proxy that compresses weakens tags."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _ENTITY_TAG.findall(if_none_match)


def _not_modified(request: Request) -> int:
    """Answer 304, which describes no body: twisted.web would give it a Content-Length of 0."""
    request.setResponseCode(304)
    for name in ("Content-Type", "Content-Length", "Content-Encoding"):
        request.responseHeaders.removeHeader(name)
    request.write(b"")
    request.finish()
    return NOT_DONE_YET
