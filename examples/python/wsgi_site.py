"""A guest book: the smallest site that is live, in plain WSGI.

    python wsgi_site.py [PORT]

Every page that is open shows a new entry at once. See README.md for how to start it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from itertools import count
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from push_api import PushApi
from push_queue import PushQueue, enqueue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PUSH_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
PUSH_KEY = Path(os.environ.get("PUSH_KEY_FILE", "site-key")).read_text("utf-8").strip()
CHANNEL = "guestbook"
MAX_BODY = 4096
MAX_ENTRIES = 100

push = PushApi(PUSH_URL, PUSH_KEY)
entries: dict[int, str] = {}
numbers = count(1)

PAGE = """<!doctype html>
<html lang="en" data-push-positions="{positions}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guest book</title>
<h1>Guest book</h1>
<form method="post" action="/sign">
  <label>Your words <input name="words" maxlength="200" required autocomplete="off"></label>
  <button>Sign</button>
</form>
<ul id="entries" aria-live="polite">{entries}</ul>
<script src="{push}/push.js"></script>
<script>
  const list = document.getElementById("entries");
  const push = Push.connect();
  push.on("{channel}", ({{ words, number }}) => {{
    // A page that was rendered a moment ago may have it already.
    if (document.getElementById(`entry-${{number}}`)) return;
    const item = document.createElement("li");
    item.id = `entry-${{number}}`;
    item.textContent = words;
    list.prepend(item);
  }});
  // Away for too long: then the page begins anew.
  push.onChannel(({{ event }}) => {{ if (event === "lost") location.reload(); }});
  push.subscribe("{channel}");
</script>
</html>
"""


class Refused(Exception):
    """What the visitor sent cannot be done."""


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Find the view of an address."""
    asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    views = {"GET /": show, "POST /sign": sign}
    if asked not in views:
        return _answer(start_response, HTTPStatus.NOT_FOUND, "There is no such page.")
    try:
        return views[asked](environ, start_response)
    except Refused as refused:
        return _answer(start_response, HTTPStatus.UNPROCESSABLE_ENTITY, str(refused))


def show(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Show the book, with the position from which the page goes on."""
    positions = push.positions(CHANNEL)  # First this, then the content: nothing is missed.
    newest_first = sorted(entries.items(), reverse=True)
    page = PAGE.format(
        push=escape(PUSH_URL),
        channel=CHANNEL,
        positions=escape(json.dumps(positions)),
        entries="".join(f'<li id="entry-{n}">{escape(words)}</li>' for n, words in newest_first),
    )
    return _answer(start_response, HTTPStatus.OK, page, "text/html; charset=utf-8")


def sign(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Take an entry."""
    words = _field(environ, "words")
    # Said here, sent at the end, and only if nothing goes wrong in between.
    number = next(numbers)
    enqueue(CHANNEL, {"words": words, "number": number})
    store(number, words)
    return _answer(start_response, HTTPStatus.SEE_OTHER, "", location="/")


def store(number: int, words: str) -> None:
    """Keep an entry; raise Refused if it cannot be kept."""
    if not words:
        raise Refused("Please say something.")
    if len(entries) >= MAX_ENTRIES:
        raise Refused("The book is full.")
    entries[number] = words


def _field(environ: WSGIEnvironment, name: str) -> str:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    if size > MAX_BODY:
        raise Refused("That is too long.")
    body: bytes = environ["wsgi.input"].read(size)
    return parse_qs(body.decode("utf-8", "replace")).get(name, [""])[0].strip()


def _answer(
    start_response: StartResponse,
    status: HTTPStatus,
    text: str,
    content_type: str = "text/plain; charset=utf-8",
    location: str = "",
) -> Iterable[bytes]:
    body = text.encode("utf-8")
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if location:
        headers.append(("Location", location))
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


application = PushQueue(site, push)


class Server(ThreadingMixIn, WSGIServer):
    """One thread for each visitor."""

    daemon_threads = True


def main() -> None:
    """Serve on loopback."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with make_server(
        "127.0.0.1", port, application, server_class=Server, handler_class=WSGIRequestHandler
    ) as server:
        print(f"The guest book is at http://127.0.0.1:{port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
