"""The load's frames are those of WebSocket: Autobahn reads and writes the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bench.peer import client_frame_read, server_frame
from twisted_push.bench import frames

payloads = st.binary(max_size=300) | st.sampled_from(
    [b"x" * size for size in (125, 126, 127, 65535, 65536, 70000)]
)


@given(payloads)
def test_a_server_reads_what_the_load_sends(payload: bytes) -> None:
    assert client_frame_read(frames.masked(payload, frames.TEXT)) == payload


@given(st.lists(payloads, max_size=4), st.data())
def test_the_load_reads_what_a_server_sends(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(server_frame, sent))
    cut = data.draw(st.integers(0, len(stream)))
    found, rest = frames.split(stream[:cut])
    more, nothing = frames.split(rest + stream[cut:])
    assert found + more == [(frames.TEXT, payload) for payload in sent]
    assert nothing == b""


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_servers_frame(size: int) -> None:
    assert frames.plain(b"x" * size) == server_frame(b"x" * size)
