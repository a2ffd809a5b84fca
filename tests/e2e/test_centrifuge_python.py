"""The public Python client of the native protocol (PyPI ``centrifuge-python``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ClientState,
    StreamPosition,
    SubscriptionEventHandler,
)

from tests.e2e.server import PATIENCE, PushServer, in_thread, jwt_for


class Events(ClientEventHandler):  # type: ignore[misc]
    """Keeps what a client reports, in a queue for each kind."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[Any]] = {}

    def queue(self, name: str) -> asyncio.Queue[Any]:
        return self.queues.setdefault(name, asyncio.Queue())

    async def next(self, name: str) -> Any:
        return await asyncio.wait_for(self.queue(name).get(), PATIENCE)

    async def on_connecting(self, context: Any) -> None:
        self.queue("connecting").put_nowait(context)

    async def on_connected(self, context: Any) -> None:
        self.queue("connected").put_nowait(context)

    async def on_disconnected(self, context: Any) -> None:
        self.queue("disconnected").put_nowait(context)

    async def on_subscribed(self, context: Any) -> None:
        self.queue("subscribed").put_nowait(context)

    async def on_publication(self, context: Any) -> None:
        self.queue("publication").put_nowait(context)


class ChannelEvents(SubscriptionEventHandler):  # type: ignore[misc]
    """Keeps what one subscription reports."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def next(self, name: str) -> Any:
        while True:
            found, context = await asyncio.wait_for(self.events.get(), PATIENCE)
            if found == name:
                return context

    async def on_subscribed(self, context: Any) -> None:
        self.events.put_nowait(("subscribed", context))

    async def on_publication(self, context: Any) -> None:
        self.events.put_nowait(("publication", context))

    async def on_join(self, context: Any) -> None:
        self.events.put_nowait(("join", context))

    async def on_leave(self, context: Any) -> None:
        self.events.put_nowait(("leave", context))


def run(dialogue: Coroutine[Any, Any, None]) -> None:
    """Run a dialogue to its end, in an event loop of its own."""

    async def whole() -> None:
        await asyncio.wait_for(dialogue, 60)
        # The client closes its sockets in tasks that nobody else waits for.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=5)

    in_thread(lambda: asyncio.run(whole()))


@asynccontextmanager
async def client_of(server: PushServer, token: str) -> AsyncIterator[tuple[Client, Events]]:
    events = Events()
    client = Client(
        server.websocket_url,
        events,
        token=token,
        proxy=None,
        min_reconnect_delay=0.05,
        max_reconnect_delay=0.3,
    )
    await client.connect()
    try:
        yield client, events
    finally:
        await client.disconnect()


async def call(server: PushServer, method: str, **params: object) -> Any:
    """Ask the API without stopping the event loop."""
    return await asyncio.to_thread(lambda: server.api(method, **params))


@pytest.mark.parametrize("token", ["alice-token", "signed"])
def test_connect_and_receive(server: PushServer, token: str) -> None:
    async def dialogue() -> None:
        shown = jwt_for("alice", channels=["news"]) if token == "signed" else token
        async with client_of(server, shown) as (_client, events):
            await events.next("connected")
            channels = {(await events.next("subscribed")).channel for _ in range(2)}
            assert channels == {"news", "broadcast"}
            await call(server, "publish", channel="news", data={"n": 1})
            got = await events.next("publication")
            assert (got.channel, got.pub.data) == ("news", {"n": 1})
            assert got.pub.offset > 0

    run(dialogue())


def test_subscribe_publish_presence_history(server: PushServer) -> None:
    async def dialogue() -> None:
        async with (
            client_of(server, "alice-token") as (alice, _),
            client_of(server, "bob-token") as (bob, _),
        ):
            await asyncio.gather(alice.ready(), bob.ready())
            seen = ChannelEvents()
            subscription = bob.new_subscription("chat:py", seen, join_leave=True)
            await subscription.subscribe()
            await seen.next("subscribed")
            other = alice.new_subscription("chat:py")
            await other.subscribe()
            await other.ready()
            joined = await seen.next("join")
            while joined.info.user != "alice":
                joined = await seen.next("join")

            await other.publish({"say": "hi"})
            got = await seen.next("publication")
            assert got.pub.data == {"say": "hi"}
            assert got.pub.info.user == "alice"
            assert got.pub.info.conn_info == {"name": "Alice"}

            present = await subscription.presence()
            assert {each.user for each in present.clients.values()} == {"alice", "bob"}
            stats = await subscription.presence_stats()
            assert (stats.num_clients, stats.num_users) == (2, 2)
            history = await subscription.history(limit=-1)
            assert [each.data for each in history.publications] == [{"say": "hi"}]
            assert history.publications[0].info.user == "alice"
            assert history.offset == history.publications[0].offset
            elsewhere = StreamPosition(offset=history.offset, epoch="of another life")
            with pytest.raises(CentrifugeError) as caught:
                await subscription.history(limit=1, since=elsewhere)
            assert getattr(caught.value, "code", None) == 112

            await other.unsubscribe()
            assert (await seen.next("leave")).info.user == "alice"

    run(dialogue())


def test_rpc_is_refused(server: PushServer) -> None:
    async def dialogue() -> None:
        async with client_of(server, "alice-token") as (client, _):
            with pytest.raises(CentrifugeError) as caught:
                await client.rpc("whatever", {})
            assert getattr(caught.value, "code", None) in (104, 108)
            assert client.state is ClientState.CONNECTED

    run(dialogue())


def test_return_after_a_restart_of_the_server(server: PushServer) -> None:
    async def dialogue() -> None:
        async with client_of(server, "alice-token") as (_client, events):
            await events.next("connected")
            await events.next("connecting")
            await asyncio.to_thread(server.restart)
            assert (await events.next("connecting")).code == 3001
            await events.next("connected")
            await call(server, "publish", channel="news", data="after")
            assert (await events.next("publication")).pub.data == "after"

    run(dialogue())


def test_kicked_and_refused(server: PushServer) -> None:
    async def dialogue() -> None:
        async with client_of(server, "kicked-token") as (client, events):
            await events.next("connected")
            await call(server, "disconnect", user="kicked")
            assert (await events.next("disconnected")).code == 3503
            await asyncio.sleep(0.5)
            assert client.state is ClientState.DISCONNECTED
            assert events.queue("connected").empty()
        async with client_of(server, "nobody-knows-this") as (client, events):
            assert (await events.next("disconnected")).code == 3500
            assert client.state is ClientState.DISCONNECTED

    run(dialogue())
