"""A Drupal site as a browser sees it: pages of the nodejs module, at an origin of their own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import evolve, frozen

HERE = Path(__file__).parent
MODULES = HERE.parent / "node_modules"

OUR_SCRIPT = "/socket.io-own.js"
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page of the site</title>
<link rel="icon" href="data:,">
<script src="{script}"></script>
<script>window.pageSettings = {settings};</script>
<script src="/nodejs.js"></script>
<script src="{handlers}"></script>
"""
SLOWLY = "/slow"
SLOWNESS = 0.6
"""Seconds that a page takes to load if it is a slow one."""

FILES: Mapping[str, Path] = {
    "/nodejs.js": HERE / "nodejs.js",
    "/handlers.js": HERE / "handlers.js",
    OUR_SCRIPT: HERE.parents[2] / "twisted_push" / "static" / "socket.io.js",
    "/socket.io-2.5.js": MODULES / "socket.io-client-2" / "dist" / "socket.io.js",
    "/socket.io-4.8.js": MODULES / "socket.io-client-4" / "dist" / "socket.io.min.js",
}


@frozen
class Flavour:
    """A generation of the module, and where its pages have the script from.

    An empty ``script`` is the one of the push server; else it is a file of the site's.
    """

    name: str
    generation: int
    script: str = ""

    def __str__(self) -> str:
        return self.name

    def of_the_site(self) -> Flavour:
        """Give the same with its script from the site: the push server may be away."""
        return evolve(self, script=self.script or OUR_SCRIPT)


FLAVOURS = (
    Flavour("own-7", 7),
    Flavour("own-9", 9),
    Flavour("2.5", 7, "/socket.io-2.5.js"),
    Flavour("4.8", 9, "/socket.io-4.8.js"),
)


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: PageSite, *arguments: object) -> None:
        self._site = site
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.removeprefix(SLOWLY)
        if path != self.path:
            time.sleep(SLOWNESS)
        page = self._site.pages.get(path)
        if page is not None:
            self._give(200, "text/html; charset=utf-8", page.encode())
        elif path in FILES:
            self._give(200, "text/javascript; charset=utf-8", FILES[path].read_bytes())
        else:
            self._give(404, "text/plain", b"Not found")

    def _give(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        # As the session of a visitor: the browser sends it to the push server, too.
        self.send_header("Set-Cookie", "SESSdrupal=the-session-of-the-visitor; HttpOnly; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class PageSite:
    """The site in a thread of its own; use it as a context manager."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Request, self))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.origin = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def page(
        self,
        flavour: Flavour,
        port: int,
        token: str,
        content_tokens: Mapping[str, str] | None = None,
        *,
        connect_timeout: int = 5000,
        slow: bool = False,
    ) -> str:
        """Make a page whose push server is at a port; give its address. Times in milliseconds.

        A ``slow`` one takes `SLOWNESS` until it connects.
        """
        client = {"scheme": "http", "host": "127.0.0.1", "port": str(port)}
        settings = {
            "generation": flavour.generation,
            "authToken": token,
            "client": client,
            "resource": "/socket.io",
            "connectTimeout": connect_timeout,
        }
        if content_tokens is not None:
            settings["contentTokens"] = dict(content_tokens)
        script = flavour.script or f"http://127.0.0.1:{port}/socket.io/socket.io.js"
        path = f"/page/{len(self.pages)}"
        handlers = f"{SLOWLY if slow else ''}/handlers.js"
        self.pages[path] = PAGE.format(
            script=script, settings=json.dumps(settings), handlers=handlers
        )
        return self.origin + path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)
