"""Clients of the native protocol that are cut off again and again, and come back.

Facts of the protocol: the client protocol (Centrifugal JSON 2), sections 1 to 4.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from attrs import define, field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.faults.judge import Judge, Position, View

__all__ = ["Client", "Crowd", "granted_channels"]

FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0
"""Seconds: a client waits a random part of a time that doubles from try to try."""

PATIENCE = 30.0
"""Seconds in which a client must be answered."""


def granted_channels(number: int, channels: Sequence[str], count: int) -> list[str]:
    """Give the channels that the CMS grants a client: the one half of its own."""
    return _channels(number, channels, count)[: (count + 1) // 2]


def _channels(number: int, channels: Sequence[str], count: int) -> list[str]:
    return [channels[(number + step) % len(channels)] for step in range(count)]


@define(eq=False)
class Crowd:
    """What all clients have in common. ``dropped`` counts how connections ended."""

    url: str
    judge: Judge
    channels: Sequence[str]
    channels_each: int
    random: Random
    stays: float
    """Seconds after which a client drops its connection, on average; 0: never."""
    connections: int = 0
    ends: Counter[str] = field(factory=Counter)
    awaited: set[str] = field(factory=set)
    """Who was not there with all channels since `expect`."""
    complete: asyncio.Event = field(factory=asyncio.Event)

    def expect(self, names: Iterable[str]) -> None:
        """Wait for these anew."""
        self.awaited = set(names)
        self.complete.clear()

    def came(self, name: str) -> None:
        """A client has all its channels."""
        self.awaited.discard(name)
        if not self.awaited:
            self.complete.set()


class Client:
    """One client: half of its channels are granted by the CMS, for the others it asks."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.name = f"client-{number}"
        self._crowd = crowd
        self._random = Random(crowd.random.random())
        channels = _channels(number, crowd.channels, crowd.channels_each)
        self._granted = granted_channels(number, crowd.channels, crowd.channels_each)
        self._views: dict[str, View] = {
            channel: crowd.judge.view(self.name, channel) for channel in channels
        }
        self._open: set[str] = set()
        self._tries = 0

    async def run(self) -> None:
        """Connect, and come back whenever the connection is lost, until it is cancelled."""
        crowd = self._crowd
        while True:
            try:
                await self._visit()
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else "cut"
                crowd.ends[f"closed: {code}"] += 1
                self._check_close(code)
            except (OSError, InvalidHandshake, TimeoutError) as error:
                crowd.ends[f"refused: {type(error).__name__}"] += 1
            finally:
                self._open.clear()
            await asyncio.sleep(self._delay())

    def _delay(self) -> float:
        self._tries += 1
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self._tries, 10))
        return self._random.uniform(0.0, longest)

    async def _visit(self) -> None:
        opening = connect(
            self._crowd.url,
            proxy=None,
            compression=None,
            ping_interval=None,
            open_timeout=PATIENCE,
            close_timeout=1,
            max_size=2**26,
        )
        async with opening as socket:
            await socket.send("\n".join(map(json.dumps, self._greeting())))
            stays = self._crowd.stays
            end = self._random.expovariate(1 / stays) if stays else None
            loop = asyncio.get_running_loop()
            leaving = None if end is None else loop.call_later(end, self._drop, socket)
            try:
                await self._read(socket)
            finally:
                if leaving is not None:
                    leaving.cancel()

    def _drop(self, socket: ClientConnection) -> None:
        """Lose the connection, as a laptop does that goes to sleep."""
        if not self._crowd.stays:
            return
        self._crowd.ends["dropped by the client"] += 1
        socket.transport.abort()

    async def _read(self, socket: ClientConnection) -> None:
        async with asyncio.timeout(PATIENCE) as limit:
            async for frame in socket:
                for line in str(frame).split("\n"):
                    if line == "{}":
                        await socket.send("{}")
                    elif line:
                        self._heard(json.loads(line))
                if limit.when() is not None and len(self._open) == len(self._views):
                    limit.reschedule(None)
                    self._tries = 0
        raise ConnectionClosed(socket.protocol.close_rcvd, None)

    # --- What it says ------------------------------------------------------------------------

    def _greeting(self) -> Iterator[dict[str, Any]]:
        self._crowd.connections += 1
        places = {name: self._place(name) for name in self._granted if self._view_began(name)}
        yield {"id": 1, "connect": {"token": self.name, "subs": places}}
        for number, channel in enumerate(self._views, 2):
            if channel not in self._granted:
                place = self._place(channel) if self._view_began(channel) else {}
                yield {"id": number, "subscribe": {"channel": channel, **place}}

    def _view_began(self, channel: str) -> bool:
        return self._views[channel].position is not None

    def _place(self, channel: str) -> dict[str, Any]:
        position = self._views[channel].position
        assert position is not None
        return {"recover": True, "epoch": position.epoch, "offset": position.offset}

    # --- What it hears -----------------------------------------------------------------------

    def _heard(self, message: dict[str, Any]) -> None:
        if "push" in message:
            push = message["push"]
            if "pub" in push:
                self._published(push["channel"], push["pub"])
            else:
                self._violates(f"an unexpected push: {sorted(push)}")
        elif "connect" in message:
            subscriptions = message["connect"].get("subs", {})
            for channel in self._granted:
                if channel in subscriptions:
                    self._subscribed(channel, subscriptions[channel])
                else:
                    self._violates(f"{channel} is not granted any more")
        elif "subscribe" in message:
            self._subscribed(list(self._views)[message["id"] - 2], message["subscribe"])
        elif message.get("error", {}).get("temporary"):
            self._crowd.ends["refused: temporarily"] += 1
            raise TimeoutError
        else:
            self._violates(f"refused: {message}")

    def _published(self, channel: str, publication: dict[str, Any]) -> None:
        view = self._views[channel]
        text = publication["data"]["text"]
        if channel in self._open:
            view.saw(publication.get("offset", 0), text)
        else:
            self._crowd.judge.violates("early", f"{self.name}: {text} before the subscription")

    def _subscribed(self, channel: str, result: dict[str, Any]) -> None:
        view = self._views[channel]
        position = Position(result.get("offset", 0), result.get("epoch", ""))
        found = [(each["offset"], each["data"]["text"]) for each in result.get("publications", ())]
        if view.position is None:
            view.began(position)
        elif not result.get("was_recovering"):
            self._violates(f"{channel} was not recovered, and this was not said")
            view.told(position)
        elif result.get("recovered"):
            view.recovered(position, found)
        else:
            view.told(position)
            if found:
                self._violates(f"{channel} was recovered in part")
        self._open.add(channel)
        if len(self._open) == len(self._views):
            self._crowd.came(self.name)

    def _check_close(self, code: int | str) -> None:
        if isinstance(code, int) and (3500 <= code < 4000 or code in (3004, 1009)):
            self._violates(f"closed with {code}")

    def _violates(self, what: str) -> None:
        self._crowd.judge.violates("refused", f"{self.name}: {what}")
