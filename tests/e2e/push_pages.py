"""Pages of a site that has ``push.js``, in a real browser: what they are told is recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from attrs import asdict, define, field, frozen

from tests.e2e.server import Dialogue, eventually

_names = count()

NONCE = "of-the-page"
POLICY = (
    "default-src 'none'; img-src data:; script-src {push} 'nonce-" + NONCE + "'; "
    "connect-src {push} {websocket}; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What pages may do. Text that became markup or a program would be a fault of the page."""

CLASSIC = """<script src="{push}/push.js"{attributes}></script>
<script nonce="{nonce}">
  const push = Push.connect({options});
  {listening}
</script>"""
MODULE = """<script type="module" nonce="{nonce}">
  import {{ connect }} from "{push}/push.mjs";
  const push = connect({options});
  {listening}
</script>"""
LISTENING = """window.push = push;
  push.onState((state, status) => record("state", status));
  push.onMessage((message) => record("message", { message }));
  push.onChannel((event) => record("channel", { of: event }));
  push.onPresence((event) => record("presence", { of: event }));"""
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page of the site</title>
<link rel="icon" href="data:,">
<body>{script}</body>
"""


@frozen
class PageOf:
    """What is in a page: the server's address, what the CMS puts in, and the page's options."""

    push: str
    token: str = ""
    positions: Mapping[str, object] = field(factory=dict)
    options: Mapping[str, object] = field(factory=dict)
    module: bool = False

    def html(self) -> str:
        """Give the page."""
        attributes = ""
        if self.token:
            attributes += f' data-push-token="{escape(self.token)}"'
        if self.positions:
            attributes += f' data-push-positions="{escape(json.dumps(self.positions))}"'
        script = (MODULE if self.module else CLASSIC).format(
            push=self.push,
            attributes=attributes,
            options=json.dumps(self.options),
            listening=LISTENING,
            nonce=NONCE,
        )
        return PAGE.format(script=script)

    def policy(self) -> str:
        """Give its Content-Security-Policy."""
        return POLICY.format(push=self.push, websocket=self.push.replace("http", "ws", 1))


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        page = PageOf(**json.loads(query["page"][0]))
        body = page.html().encode()
        self.send_response(200)
        self.send_header("Content-Security-Policy", page.policy())
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class Site:
    """Serves pages at an origin of its own; use it as a context manager."""

    def __init__(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
        self._http.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(
            target=partial(self._http.serve_forever, poll_interval=0.02), daemon=True
        )

    def address(self, page: PageOf) -> str:
        """Give the address of a page."""
        return f"{self.origin}/?page={quote(json.dumps(asdict(page)))}"

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


@define
class Tab:
    """A page that is open. ``mark`` is where what is waited for begins."""

    browser: Dialogue
    person: str
    name: str
    mark: int = 0

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Give what the page recorded of a kind, from the mark on."""
        return [
            event
            for event in self.browser.events[self.mark :]
            if event["event"] == kind and event.get("page") == self.name
        ]

    def wait(self, kind: str, fits: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """Wait until the page records something of a kind; give the first that fits."""
        try:
            found = eventually(
                f"{kind} in {self.name}", lambda: [*filter(fits, self.events(kind))], 30
            )
        except AssertionError as error:
            events = "\n".join(map(str, self.browser.events[self.mark :]))
            raise AssertionError(f"{error}; there was:\n{events}") from None
        return found[0]

    def state(self, state: str) -> dict[str, Any]:
        """Wait for a state; give all that was told with it."""
        return self.wait("state", lambda event: event["state"] == state)

    def heard(self, data: object) -> dict[str, Any]:
        """Wait for a message with this data; give the message."""
        found = self.wait("message", lambda event: event["message"]["data"] == data)
        message: dict[str, Any] = found["message"]
        return message

    def data(self, channel: str) -> list[object]:
        """Give the data of all messages of a channel."""
        messages = [event["message"] for event in self.events("message")]
        return [message["data"] for message in messages if message["channel"] == channel]

    def channel(self, channel: str, event: str) -> dict[str, Any]:
        """Wait until something happens to a channel; give it."""
        of = {"channel": channel, "event": event}
        found = self.wait("channel", lambda each: of.items() <= each["of"].items())
        happened: dict[str, Any] = found["of"]
        return happened

    def begin(self) -> None:
        """Let what is waited for begin here."""
        self.mark = len(self.browser.events)

    def run(self, script: str) -> Any:
        """Run a script in the page; give its result."""
        return self.do("run", script=script)

    def do(self, command: str, **arguments: object) -> Any:
        """Have the browser do something with the page; give its result."""
        done = self.browser.ask(command, page=self.name, **arguments)
        assert done["event"] == "done", done
        return done.get("result")


def open_tab(browser: Dialogue, url: str, person: str = "somebody", **more: object) -> Tab:
    """Open a page in the browser of a person."""
    tab = Tab(browser, person, f"{person}-{next(_names)}", len(browser.events))
    tab.do("open", url=url, person=person, **more)
    return tab
