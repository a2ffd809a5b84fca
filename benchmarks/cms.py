"""A stub of a CMS, as a process: it lets in every token, as a user of the same name.

``python -m benchmarks.cms`` prints its port, then for every line on its standard input how often
it was asked; it ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys

_END_OF_HEAD = b"\r\n\r\n"


class _Asked:
    count = 0


class _Connection(asyncio.Protocol):
    """A keep-alive connection that is asked one question at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, end, body = self._rest.partition(_END_OF_HEAD)
        if not end:
            return
        fields = dict(
            line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line
        )
        if len(body) < int(fields[b"content-length"]):
            return
        self._rest = b""
        _Asked.count += 1
        answer = json.dumps({"result": {"user": json.loads(body)["token"]}}).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The thread that waits for input does not keep the process: it ends with the input.
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(_Asked.count, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
