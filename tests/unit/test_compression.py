"""permessage-deflate: agreed on or not, on both paths, and one frame that serves all."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.unit.websocket_support import CONNECT, PATHS, Browser, Make, masked, servers
from twisted_push.transports.frames import SMALL, deflated_text_frame, text_frame


@pytest.fixture(params=PATHS)
def make_server(request: pytest.FixtureRequest) -> Iterator[Make]:
    yield from servers(PATHS[request.param])


def deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(packed: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(packed + b"\x00\x00\xff\xff")


def agreed(browser: Browser) -> bytes:
    """Give what the server agreed on."""
    lines = browser.head.split(b"\r\n")
    return b"".join(line[26:] for line in lines if line.startswith(b"Sec-WebSocket-Extensions: "))


AGREED = b"permessage-deflate; client_no_context_takeover"
FAULTY = (
    "permessage-deflate; server_max_window_bits=99",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; client_max_window_bits=",
    "permessage-deflate; client_max_window_bits=09",
    "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
    "permessage-deflate; client_no_context_takeover=1",
    "permessage-deflate; other=1",
    "permessage-deflate;",
    "permessage-bzip2; other",
    ";;=",
    "",
)
"""What the standard has us decline."""


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        (
            "permessage-deflate; server_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        ("permessage-deflate; server_max_window_bits=10", b""),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", AGREED),
        ("x-other", b""),
        ("x-other, Permessage-Deflate ;client_max_window_bits = 9", AGREED),
        ("permessage-deflate; client_max_window_bits=8", AGREED),
        ('permessage-deflate; client_max_window_bits="15"', AGREED),
        *((offer, b"") for offer in FAULTY),
        *((f"{offer}, permessage-deflate", AGREED) for offer in FAULTY),
    ],
)
def test_what_is_agreed_on(make_server: Make, offer: str, answer: bytes) -> None:
    browser = Browser(make_server(compress=True), Sec_WebSocket_Extensions=offer)
    assert browser.open() == 101
    assert agreed(browser) == answer


def test_offers_on_several_lines(make_server: Make) -> None:
    offers = "x-other\r\nSec-WebSocket-Extensions: permessage-deflate"
    browser = Browser(make_server(compress=True), Sec_WebSocket_Extensions=offers)
    assert browser.open() == 101
    assert agreed(browser) == AGREED


@pytest.mark.parametrize("offer", ["permessage-deflate", *FAULTY])
def test_off_by_default(make_server: Make, offer: str) -> None:
    browser = Browser(make_server(), Sec_WebSocket_Extensions=offer)
    assert browser.open() == 101
    assert agreed(browser) == b""


def test_compressed_messages_are_read(make_server: Make) -> None:
    server = make_server(compress=True)
    browser = Browser(server, Sec_WebSocket_Extensions="permessage-deflate")
    browser.open()
    browser.give(masked(deflated(CONNECT), 0x41))
    assert browser.got()[0][1].startswith(b'{"id":1,"connect":')
    browser.give(masked(b'{"id":2,"ping":{}}'))
    assert browser.got()[0][1].startswith(b'{"id":2')


def test_what_reads_compressed_messages_is_there_for_one_alone() -> None:
    """On the fast path: it takes 40 KiB and more, and the next one has another in any case."""
    for make in servers(fast=True):
        server = make(compress=True)
        browser = Browser(server, Sec_WebSocket_Extensions="permessage-deflate")
        browser.open()
        [session] = server.worlds[0].node.sessions
        reading = session.transport._perMessageCompress  # type: ignore[attr-defined]
        for message in (CONNECT, b'{"id":2,"ping":{}}'):
            browser.give(masked(deflated(message), 0x41))
            assert b"error" not in browser.got()[0][1]
            assert reading._decompressor is None


def test_a_bomb(make_server: Make) -> None:
    server = make_server(compress=True, limits={"max_message_size": 10_000})
    browser = Browser(server, Sec_WebSocket_Extensions="permessage-deflate")
    browser.open()
    browser.give(masked(deflated(b" " * 1_000_000), 0x41))
    assert browser.closed[0] == 1009


def test_who_did_not_agree_may_not_compress(make_server: Make) -> None:
    browser = Browser(make_server(compress=True))
    browser.open()
    browser.give(masked(deflated(CONNECT), 0x41))
    assert browser.closed[0] == 1002


def test_a_frame_for_all() -> None:
    text = b'{"text":"' + b"so much of the same " * 50 + b'"}'
    frame = deflated_text_frame(text)
    assert frame[0] == 0xC1
    assert len(frame) < len(text) // 5
    assert inflated(frame[2:]) == text
    # It refers to nothing before it: what came before is of no matter.
    again = zlib.decompressobj(wbits=-15)
    assert again.decompress(deflated(b"another") + b"\x00\x00\xff\xff") == b"another"
    assert again.decompress(frame[2:] + b"\x00\x00\xff\xff") == text


def test_what_is_not_worth_it() -> None:
    small = b"x" * (SMALL - 1)
    assert deflated_text_frame(small) == text_frame(small)
    noise = bytes(range(256))
    assert deflated_text_frame(noise) == text_frame(noise)
