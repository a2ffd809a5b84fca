"""Publishers that send each message until it is acknowledged, with one idempotency key."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import define, field

from tests.faults.judge import Judge, Position

__all__ = ["Api", "ApiUnavailableError", "Publishing", "publish_always"]

PATIENCE = 15.0
"""Seconds after which an answer counts as lost."""


class ApiUnavailableError(Exception):
    """No answer, or one that says to try again."""


class Api:
    """The server's API over one connection, which is made anew when it is lost."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, params: object) -> dict[str, Any]:
        """Give the answer, a result or an error. Raises ApiUnavailableError."""
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await self._exchange(method, json.dumps(params).encode())
        except (OSError, EOFError, TimeoutError, ValueError, IndexError) as error:
            await self.close()
            raise ApiUnavailableError(type(error).__name__) from None
        if status == 503:
            raise ApiUnavailableError("503")
        answer = json.loads(body)
        assert isinstance(answer, dict), (status, body)
        return answer

    async def _exchange(self, method: str, body: bytes) -> tuple[int, bytes]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /api/{method} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await self._reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            await self.close()
        return int(lines[0].split(" ")[1]), answer

    async def close(self) -> None:
        """Close the connection, if there is one."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                return


@define(eq=False)
class Publishing:
    """What all publishers have in common. ``rate``: messages per second in all; 0: any."""

    port: int
    key: str
    judge: Judge
    channels: Sequence[str]
    random: Random
    rate: float
    publishers: int
    stopping: bool = False
    retries: Counter[str] = field(factory=Counter)
    duplicates: int = 0


async def publish_always(publishing: Publishing, number: int) -> None:
    """Publish one message after the other, each until it is acknowledged."""
    random = Random(publishing.random.random())
    api = Api(publishing.port, publishing.key)
    count = 0
    mean = publishing.publishers / publishing.rate if publishing.rate else 0.0
    while not publishing.stopping:
        count += 1
        text = f"publisher-{number} {count}"
        await _publish(publishing, api, random, random.choice(publishing.channels), text)
        await asyncio.sleep(random.expovariate(1 / mean) if mean else 0.0)
    await api.close()


async def _publish(
    publishing: Publishing, api: Api, random: Random, channel: str, text: str
) -> None:
    judge = publishing.judge
    judge.sent(channel, text)
    params = {"channel": channel, "data": {"text": text}, "idempotency_key": text}
    while True:
        try:
            answer = await api.call("publish", params)
        except ApiUnavailableError as error:
            publishing.retries[str(error)] += 1
            await asyncio.sleep(random.uniform(0.02, 0.2))
            continue
        result = answer.get("result")
        if result is None:
            judge.violates("refused", f"{text} into {channel}: {answer}")
            await asyncio.sleep(0.2)
            return
        publishing.duplicates += result.get("duplicate", False)
        judge.acknowledged(channel, text, Position(result["offset"], result["epoch"]))
        return
