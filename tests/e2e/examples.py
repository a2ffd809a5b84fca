"""The sites of ``examples/``, run as their README says, and a visitor with cookies."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

import attrs
import pytest

from tests.e2e.push_pages import Tab, open_tab
from tests.e2e.raw_client import RawClient
from tests.e2e.server import (
    KEY,
    PATIENCE,
    ROOT,
    Dialogue,
    PushServer,
    bound,
    environment,
    eventually,
    free_port,
)

SITE_PORT, PUSH_PORT = 8000, 8080
"""The ports in the files of the examples."""

NOBODY = "http://127.0.0.1:9"
"""The push server while there is none."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skip, by name, what needs a package that is not installed."""
    return pytest.mark.skipif(
        find_spec(package) is None,
        reason=f"{package} is not installed: install the extra `examples`",
    )


class Example:
    """A copy of an example in a folder of the test, with ports and a key of its own.

    ``port`` and ``push`` are there while it is served.
    """

    port: int
    push: PushServer

    def __init__(self, folder: Path, name: str, *, needs: Sequence[str] = ()) -> None:
        for part in (name, *needs):
            shutil.copytree(
                ROOT / "examples" / part,
                folder / part,
                ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*", "site-key", "data"),
            )
        self.folder = folder / name
        (self.folder / "site-key").write_text(KEY + "\n", "utf-8")
        (self.folder / "token-secret").write_text("a-secret-for-the-tokens-of-the-tests\n", "utf-8")
        self.log_path = self.folder / "site.log"

    @property
    def url(self) -> str:
        """The address of the site."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that the site has written."""
        return self.log_path.read_text("utf-8", errors="replace")

    def _choose_ports(self) -> None:
        """Choose the ports, not long before they are used."""
        self.port, push_port = free_port(), free_port()
        config = (self.folder / "push.toml").read_text("utf-8")
        for port, own in ((SITE_PORT, self.port), (PUSH_PORT, push_port)):
            assert f":{port}" in config
            config = config.replace(f":{port}", f":{own}")
        self.push = PushServer(self.folder, config, push_port)

    def run(self, *command: str) -> str:
        """Run a command of the README to its end."""
        finished = subprocess.run(
            bound([sys.executable, *command]),
            cwd=self.folder,
            env=environment(PUSH_URL=NOBODY, PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    @contextmanager
    def serve(self, *command: str) -> Iterator[None]:
        """Run the push server and the site's own server; ``PORT`` in the command is its port."""
        self._choose_ports()
        words = [word.replace("PORT", str(self.port)) for word in command]
        with self.push, self.log_path.open("ab") as log:
            process = subprocess.Popen(
                bound(words),
                cwd=self.folder,
                env=environment(PUSH_URL=self.push.url, PYTHONDONTWRITEBYTECODE="1"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                eventually("the site answers", lambda: self._answers(process), 30)
                yield
                assert process.poll() is None, self.log
            finally:
                process.terminate()
                process.wait(PATIENCE)
        assert KEY not in self.log

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @contextmanager
    def serve_django(self) -> Iterator[None]:
        """Do the first steps of a site of Django's, and run it."""
        self.run("manage.py", "migrate", "--verbosity=0")
        self.run("manage.py", "first_steps")
        with self.serve(sys.executable, "manage.py", "runserver", "--noreload", "127.0.0.1:PORT"):
            yield

    def listener(self, token: str = "", **connect: object) -> RawClient:
        """Connect a client as a page of the site does."""
        client = RawClient(self.push, origin=self.url)
        client.connect(token=token, **connect)
        return client


@attrs.frozen
class Page:
    """What a visitor got."""

    status: int
    url: str
    text: str

    def attribute(self, name: str) -> str:
        """Give an attribute of the page."""
        found = re.search(rf'{name}="([^"]*)"', self.text)
        assert found is not None, self.text
        return unescape(found[1])

    @property
    def token(self) -> str:
        """What the page presents to the push server."""
        return self.attribute("data-push-token")

    @property
    def positions(self) -> dict[str, Any]:
        """From where the page goes on."""
        found: dict[str, Any] = json.loads(self.attribute("data-push-positions"))
        return found

    @property
    def cursor(self) -> dict[str, Any]:
        """The same as ``subs`` of a connect."""
        return {name: {"recover": True, **place} for name, place in self.positions.items()}


class _Fields(HTMLParser):
    """What the fields of a page hold."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        name, kind = values.get("name", ""), values.get("type", "text")
        if tag == "input" and name and kind in ("hidden", "text"):
            self.values[name] = values.get("value", "")
        self._area = name if tag == "textarea" else ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.values[self._area] = data


class Visitor:
    """A browser without scripts."""

    def __init__(self, site: Example) -> None:
        self._site = site
        self.cookies = CookieJar()
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(self.cookies))
        self.page = Page(0, site.url, "")

    def get(self, path: str) -> Page:
        """Follow a link."""
        return self._open(Request(urljoin(self._site.url, path)))

    def post(self, path: str, **fields: str) -> Page:
        """Send a form of the page that is open; what its fields hold goes along."""
        form = _Fields()
        form.feed(self.page.text)
        body = urlencode({**form.values, **fields}, errors="surrogateescape").encode()
        url = urljoin(self._site.url, path)
        return self._open(Request(url, body, {"Origin": self._site.url, "Referer": url}))

    def ask(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Page:
        """Post JSON, as the push server does."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self._open(Request(urljoin(self._site.url, path), body, sent))

    def listen(self) -> RawClient:
        """Connect as the page that is open: with its token, and from its positions on."""
        return self._site.listener(self.page.token, subs=self.page.cursor)

    def _open(self, request: Request) -> Page:
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                self.page = Page(answer.status, answer.url, answer.read().decode())
        except HTTPError as error:
            with error:
                return Page(error.code, error.url or "", error.read().decode())
        return self.page


@attrs.frozen
class Window:
    """A page of the site in a real browser."""

    tab: Tab

    def shows(self, words: str) -> None:
        """Wait until the page has these words."""
        eventually(
            f"{words!r} in the page",
            lambda: words in str(self.tab.run("document.body?.innerText ?? ''")),
        )

    def submit(self, form: str, **fields: str) -> None:
        """Fill in a form, and send it; its page comes instead of this one."""
        self.tab.run(
            f"""(() => {{
              const form = document.querySelector({json.dumps(form)});
              for (const [name, value] of Object.entries({json.dumps(fields)})) {{
                form.elements[name].value = value;
              }}
              window.isOld = true;
              form.requestSubmit();
            }})()"""
        )
        eventually("the next page", self._is_new)

    def _is_new(self) -> bool:
        done = self.tab.browser.ask(
            "run",
            page=self.tab.name,
            script="!window.isOld && document.readyState === 'complete' && performance.now()",
        )
        # In between there is no page that could answer.
        return done["event"] == "done" and bool(done.get("result"))

    def mark(self) -> None:
        """Mark the page that is there now: one that was loaded anew is without it."""
        self.tab.run("window.marked = true")

    @property
    def is_marked(self) -> bool:
        """Whether it is still the page that was marked."""
        return bool(self.tab.run("window.marked === true"))


def window(browser: Dialogue, site: Example, path: str = "/", person: str = "somebody") -> Window:
    """Open a page of a site in a browser of a person."""
    return Window(open_tab(browser, site.url + path, person))
