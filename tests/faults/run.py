"""Kills the server again and again under load, and judges what its clients saw."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from attrs import asdict, define, field, frozen

from tests.e2e.cms import StubCms, user
from tests.e2e.server import KEY, PushServer, config_text
from tests.faults.clients import Client, Crowd, granted_channels
from tests.faults.judge import Final, Judge, Position
from tests.faults.publishers import Api, Publishing, publish_always

__all__ = ["Plan", "run"]

PATIENCE = 60.0
"""Seconds in which all clients must be there, and be told everything."""

KILLED_AT_START = 0.15
"""The part of the kills that is followed by one more, while the server starts."""

START_TIME = 1.5
"""Seconds after its launch by which that comes."""

NAMESPACE = """
[[sites.default.namespaces]]
prefix = "room:"
history_size = {size}
history_ttl = "1h"
recover = true
client_subscribe = "anyone"
"""


@frozen(kw_only=True)
class Plan:
    """What is done; the same seed makes the same choices, but not the same moments.

    ``duration``: seconds from the first kill to the last, without the restarts. ``rate``:
    publications per second; 0: as many as are answered. ``stays``: seconds after which a client
    drops its connection, on average; 0: never. ``planned``: the part of the kills that are planned
    restarts instead.
    """

    clients: int
    kills: int
    seed: int
    channels: int
    channels_each: int
    publishers: int
    rate: float
    durability: str
    duration: float
    stays: float
    history_size: int
    planned: float

    @property
    def keeps(self) -> bool:
        """Whether nothing may be lost."""
        return self.durability != "none" or self.planned >= 1

    def config(self, port: int, callback: str, folder: Path) -> str:
        """Write the server's configuration."""
        return config_text(
            port=port,
            callback=callback,
            top={
                "state_dir": str(folder / "state"),
                "durability": self.durability,
                "log_level": "warn",
            },
            limits={"recovery_max_publication_limit": self.history_size},
            namespaces=NAMESPACE.format(size=self.history_size),
        )


def run(plan: Plan) -> dict[str, Any]:
    """Do it all; give the counts, the times and the violations.

    The server's files are kept, and their place told, if there is a violation.
    """
    folder = Path(tempfile.mkdtemp(prefix="twisted-push-faults-"))
    channels = [f"room:{number}" for number in range(plan.channels)]
    answers = {
        f"client-{number}": user(
            f"user-{number}", *granted_channels(number, channels, plan.channels_each)
        )
        for number in range(plan.clients)
    }
    started = time.monotonic()
    with StubCms(answers) as cms:
        port = _quiet_port()
        server = PushServer(folder, plan.config(port, cms.url, folder), port)
        try:
            found = asyncio.run(_Run(plan, channels, server, cms).whole())
        except AssertionError as error:  # It does not start, or answers what is no answer.
            found = {"violations": {"fault of the server": 1}, "examples": [str(error)]}
        finally:
            server.kill()
    seconds = round(time.monotonic() - started, 1)
    report = {"plan": asdict(plan), "machine": _machine(), "seconds": seconds, **found}
    if report["violations"]:
        report["folder"] = str(folder)
    else:
        shutil.rmtree(folder)
    return report


def _machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "cpus": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
    }


def _quiet_port() -> int:
    """Give a port that no client is given for its own end while the server is away.

    Else a connection might find itself, and take the server's place.
    """
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
    lowest = int(ports[0])
    return Random().randrange(max(1024, lowest - 16384), lowest)


@define
class _Times:
    """Seconds, one for each time that the server was started.

    ``ready``: from the launch of the process until it is ready. ``back``: from then until all
    clients have had all their channels; not where it was killed before.
    """

    ready: list[float] = field(factory=list)
    back: list[float] = field(factory=list)

    def report(self) -> dict[str, Any]:
        """Give median and greatest."""
        return {
            name: {"n": len(each), "median": round(median(each), 3), "max": round(max(each), 3)}
            for name, each in (("ready", self.ready), ("back", self.back))
            if each
        }


class _Run:
    """One run: the server, the clients, the publishers and the judge."""

    def __init__(
        self, plan: Plan, channels: Sequence[str], server: PushServer, cms: StubCms
    ) -> None:
        random = Random(plan.seed)
        self._plan = plan
        self._channels = channels
        self._server = server
        self._cms = cms
        self._times = _Times()
        self._random = Random(random.random())
        self._judge = judge = Judge(keeps=plan.keeps, most=plan.history_size)
        self._crowd = Crowd(
            server.websocket_url,
            judge,
            channels,
            plan.channels_each,
            Random(random.random()),
            plan.stays,
        )
        self._publishing = Publishing(
            server.port,
            KEY,
            judge,
            channels,
            Random(random.random()),
            plan.rate,
            plan.publishers,
        )
        self._clients = [Client(self._crowd, number) for number in range(plan.clients)]

    async def whole(self) -> dict[str, Any]:
        """Do it; give the report."""
        self._expect_all()
        await self._start()
        visits = [asyncio.create_task(client.run()) for client in self._clients]
        await self._all_there()
        asked = len(self._cms.questions)
        await self._publish_and_kill()
        self._crowd.stays = 0.0
        finals = await self._finals()
        await self._until_told(finals)
        for visit in visits:
            visit.cancel()
        for outcome in await asyncio.gather(*visits, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                self._judge.violates("fault of a client", repr(outcome))
        self._judge.end(finals)
        await self._stop()
        again = len(self._cms.questions) - asked
        if again and self._judge.keeps:
            self._judge.violates("callback", f"the CMS was asked {again} times again")
        return self._report(asked, again)

    def _report(self, asked: int, again: int) -> dict[str, Any]:
        return {
            **self._judge.report(),
            "callbacks": {"at first": asked, "afterwards": again},
            "connections": self._crowd.connections,
            "ends of connections": dict(self._crowd.ends.most_common()),
            "publishes tried again": dict(self._publishing.retries.most_common()),
            "answers that were known": self._publishing.duplicates,
            "seconds from the launch": self._times.report(),
        }

    # --- The server --------------------------------------------------------------------------

    async def _start(self) -> None:
        started = time.monotonic()
        await asyncio.to_thread(self._server.start)
        self._times.ready.append(time.monotonic() - started)

    async def _stop(self) -> None:
        try:
            await asyncio.to_thread(self._server.stop)
        except AssertionError as error:
            self._judge.violates("fault of the server", str(error))

    async def _publish_and_kill(self) -> None:
        publishers = [
            asyncio.create_task(publish_always(self._publishing, number))
            for number in range(self._plan.publishers)
        ]
        mean = self._plan.duration / max(1, self._plan.kills)
        for _ in range(self._plan.kills):
            await self._work(self._random.uniform(0.0, 2 * mean))
            await self._restart()
        await self._return(PATIENCE)
        await self._all_there()
        self._publishing.stopping = True
        _, late = await asyncio.wait(publishers, timeout=PATIENCE)
        for publisher in late:
            self._judge.violates("refused", f"a publisher is not answered in {PATIENCE:g} s")
            publisher.cancel()
        await asyncio.gather(*publishers, return_exceptions=bool(late))

    async def _restart(self) -> None:
        """End it, after a kill perhaps once more while it starts, and wait until it is ready."""
        if self._random.random() < self._plan.planned:
            self._judge.counts["planned restarts"] += 1
            await self._stop()
        else:
            self._judge.counts["kills"] += 1
            self._server.kill()
            await self._perhaps_kill_at_start()
        self._expect_all()
        await self._start()

    async def _perhaps_kill_at_start(self) -> None:
        if self._random.random() < KILLED_AT_START:
            await asyncio.to_thread(self._server.launch)
            await asyncio.sleep(self._random.uniform(0.0, START_TIME))
            self._server.kill()
            self._judge.counts["kills while it starts"] += 1

    async def _work(self, seconds: float) -> None:
        """Let the server run for some time."""
        end = time.monotonic() + seconds
        await self._return(seconds)
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    # --- The clients -------------------------------------------------------------------------

    def _expect_all(self) -> None:
        self._crowd.expect(client.name for client in self._clients)

    async def _return(self, seconds: float) -> None:
        """Note when all clients are back, if that is soon enough."""
        complete = self._crowd.complete
        if not complete.is_set():
            started = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(complete.wait(), seconds)
                self._times.back.append(time.monotonic() - started)

    async def _all_there(self) -> None:
        try:
            await asyncio.wait_for(self._crowd.complete.wait(), PATIENCE)
        except TimeoutError:
            away = len(self._crowd.awaited)
            self._judge.violates("refused", f"{away} clients are not in within {PATIENCE:g} s")

    async def _finals(self) -> Mapping[str, Final]:
        api = Api(self._server.port, KEY)
        finals = {}
        for channel in self._channels:
            answer = await api.call("history", {"channel": channel, "limit": -1})
            result = answer["result"]
            kept = {each["offset"]: each["data"]["text"] for each in result.get("publications", ())}
            finals[channel] = Final(Position(result.get("offset", 0), result["epoch"]), kept)
        await api.close()
        return finals

    async def _until_told(self, finals: Mapping[str, Final]) -> None:
        """Wait until all clients have everything; who has not is judged."""

        def told() -> bool:
            return all(
                view.position == finals[view.channel].position and not view.missing
                for view in self._judge.views
            )

        end = time.monotonic() + PATIENCE
        while not told() and time.monotonic() < end:
            await asyncio.sleep(0.1)
