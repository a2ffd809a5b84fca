"""The client scripts as browsers get them. What they do is tested in tests/e2e/js."""

from __future__ import annotations

import gzip
import hashlib
import json
from base64 import b64decode
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from twisted_push.transports.clientscript import ClientScript, Script, ScriptAddresses
from twisted_push.web import GuardedChannel, GuardedSite

FILE = Path(__file__).parents[2] / "twisted_push" / "static" / "socket.io.js"
SCRIPT = FILE.read_bytes()
TAG = f'"{hashlib.sha256(SCRIPT).hexdigest()[:32]}"'
PATH = "/socket.io/socket.io.js"
PUSH = Script("push.js")
SHORT, LONG = "public, max-age=300", "public, max-age=31536000, immutable"


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def ask(method: str = "GET", path: str = PATH, **headers: str) -> Answer:
    """Make one request of a site on which the script is mounted."""
    root, folder = Resource(), Resource()
    root.putChild(b"socket.io", folder)
    root.putChild(b"push.js", ClientScript(PUSH))
    root.putChild(b"push.json", ScriptAddresses("1.2.3", {"script": PUSH}))
    folder.putChild(b"socket.io.js", ClientScript(Script("socket.io.js")))
    transport = StringTransport()
    site = GuardedSite(root, Clock(), lambda: 1000)
    channel = cast("GuardedChannel", site.buildProtocol(None))
    channel.makeConnection(transport)
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    channel.dataReceived(
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{''.join(lines)}\r\n".encode()
    )
    assert transport.disconnecting
    head, _, body = transport.value().partition(b"\r\n\r\n")
    status, _, rest = head.partition(b"\r\n")
    return Answer(int(status.split()[1]), BytesParser().parsebytes(rest + b"\r\n\r\n"), body)


def test_the_script_is_served() -> None:
    answer = ask()
    assert (answer.status, answer.body) == (200, SCRIPT)
    assert answer.headers["Content-Type"] == "application/javascript; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(SCRIPT))
    assert answer.headers["ETag"] == TAG
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers.get_all("Cache-Control") == ["public, max-age=300"]
    assert "Set-Cookie" not in answer.headers


def test_a_query_changes_nothing() -> None:
    # Drupal 7 appends one to every script.
    assert ask(path=PATH + "?t4gbdz").body == SCRIPT


def test_head_gives_the_same_headers() -> None:
    get, head = ask(), ask("HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Cache-Control"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "known", [TAG, f"W/{TAG}", f'"other", {TAG}', f'{TAG},"other"', f'W/"a,b",W/{TAG}', "*", " * "]
)
def test_a_browser_that_has_it_gets_no_copy(method: str, known: str) -> None:
    answer = ask(method, If_None_Match=known)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == TAG
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    # One of another length than the script's would be wrong.
    assert "Content-Length" not in answer.headers
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("known", ['"other"', '"2.3.0"', "", TAG.strip('"'), '"*"', TAG[:-1], '"'])
def test_a_browser_that_has_another_gets_this_one(known: str) -> None:
    answer = ask(If_None_Match=known)
    assert (answer.status, answer.body) == (200, SCRIPT)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"])
def test_nothing_else_may_be_done_with_it(method: str) -> None:
    answer = ask(method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert "ETag" not in answer.headers


def test_there_is_nothing_below_it() -> None:
    assert ask(path=PATH + "/x").status == 404


def test_the_script_is_small() -> None:
    assert len(gzip.compress(SCRIPT)) < 10_000


def test_the_script_can_be_read_whatever_the_encoding() -> None:
    assert SCRIPT.isascii()
    assert b"\r" not in SCRIPT


# --- Versions ----------------------------------------------------------------------------------


def test_what_is_asked_for_by_its_version_is_kept_for_long() -> None:
    found = json.loads(ask(path="/push.json").body)
    assert found["version"] == "1.2.3"
    answer = ask(path="/" + found["script"]["src"])
    assert answer.body == PUSH.text
    assert answer.headers["Cache-Control"] == LONG
    algorithm, _, digest = found["script"]["integrity"].partition("-")
    assert algorithm == "sha384"
    assert b64decode(digest) == hashlib.sha384(answer.body).digest()
    known = ask(path="/" + found["script"]["src"], If_None_Match=answer.headers["ETag"])
    assert (known.status, known.headers["Cache-Control"]) == (304, LONG)


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef", "?v={0}&v={0}", "?w={0}"])
def test_any_other_address_is_not(query: str) -> None:
    """A page of another version must not be stuck with this script for a year."""
    answer = ask(path="/push.js" + query.format(PUSH.version))
    assert (answer.body, answer.headers["Cache-Control"]) == (PUSH.text, SHORT)


def test_the_addresses_are_asked_for_anew() -> None:
    assert ask(path="/push.json").headers["Cache-Control"] == "no-store"
    assert ask("POST", "/push.json").status == 405


def test_pages_of_other_origins_may_check_the_hash() -> None:
    assert ask(path="/push.js").headers["Access-Control-Allow-Origin"] == "*"


# --- Compression -------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP", "deflate,gzip;q=0.5", " gzip ; q=1"])
def test_who_takes_gzip_gets_it(accepted: str) -> None:
    answer = ask(path="/push.js", Accept_Encoding=accepted)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert gzip.decompress(answer.body) == PUSH.text
    assert answer.headers["Vary"] == "Accept-Encoding"
    known = ask(path="/push.js", Accept_Encoding=accepted, If_None_Match=answer.headers["ETag"])
    assert known.status == 304


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.0", "xgzip", "*;q=0"])
def test_nobody_else_does(accepted: str) -> None:
    answer = ask(path="/push.js", Accept_Encoding=accepted)
    assert "Content-Encoding" not in answer.headers
    assert answer.body == PUSH.text
    assert answer.headers["Vary"] == "Accept-Encoding"
    # The tag is another one: what a cache has of the one is not the other.
    small = ask(path="/push.js", Accept_Encoding="gzip")
    assert small.headers["ETag"] != answer.headers["ETag"]
