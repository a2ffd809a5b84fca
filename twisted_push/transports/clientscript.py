"""The script that pages of the ``nodejs`` dialect load from the server, at ``socket.io.js``."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_push.web import answer, header

__all__ = ["ClientScript"]

CACHE_CONTROL = b"public, max-age=300"
"""The script is the same for everybody, and its name says nothing of its version.

A browser asks for it again after five minutes: seldom enough for a visit of several pages, and
soon enough for pages to get along with a server that was upgraded. The answer then is a short 304.
"""

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


class ClientScript(Resource):
    """Serves ``static/socket.io.js``, read once, at whatever address it is mounted."""

    def __init__(self) -> None:
        super().__init__()
        self._script = (files("twisted_push") / "static" / "socket.io.js").read_bytes()
        self._tag = f'"{hashlib.sha256(self._script).hexdigest()[:32]}"'

    def render(self, request: Request) -> bytes | int:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return answer(request, 405, b"use GET\n")
        body = answer(request, 200, self._script, "application/javascript; charset=utf-8")
        request.setHeader(b"Cache-Control", CACHE_CONTROL)
        request.setHeader(b"ETag", self._tag.encode("ascii"))
        # Pages of other origins load it: that is what it is for.
        request.setHeader(b"Cross-Origin-Resource-Policy", b"cross-origin")
        if self._is_known(header(request, "If-None-Match")):
            return _not_modified(request)
        return body if request.method == b"GET" else b""

    def _is_known(self, if_none_match: str | None) -> bool:
        """Tell whether a client has the script already. A proxy that compresses weakens tags."""
        if if_none_match is None:
            return False
        return if_none_match.strip() == "*" or self._tag in _ENTITY_TAG.findall(if_none_match)


def _not_modified(request: Request) -> int:
    """Answer 304, which describes no body: twisted.web would give it a Content-Length of 0."""
    request.setResponseCode(304)
    for name in ("Content-Type", "Content-Length"):
        request.responseHeaders.removeHeader(name)
    request.write(b"")
    request.finish()
    return NOT_DONE_YET
