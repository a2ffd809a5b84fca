"""What the log says of those who are turned away: a few lines at once, then how many there were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.logger import LogLevel

from tests.unit.cms.support import Log
from tests.unit.node.support import World
from tests.unit.test_api import Http
from tests.unit.websocket_support import Browser, Server
from twisted_push.errors import NotConnected
from twisted_push.logbook import FEW, LINE_EVERY

MANY = 100
PATIENT = {"stale_close_delay": 999.0}


def lines(log: Log, *, debug: bool = False) -> list[str]:
    """Give the lines from level info on, or those at level debug; forget all."""
    found = [
        line
        for line, event in zip(log.lines, log.events, strict=True)
        if (event["log_level"] is LogLevel.debug) is debug
    ]
    log.events.clear()
    return found


def refused_by_the_cms(world: World, number: int) -> None:
    world.tab().send("connect", token=f"token-{number}")
    world.cms.reply({"error": {"code": 103, "message": "not you"}})


def sent_away_by_the_cms(world: World, number: int) -> None:
    world.tab().send("connect", token=f"token-{number}")
    world.cms.reply({"disconnect": {"code": 3507, "reason": "not you"}})


def codes_of_its_own(world: World, number: int) -> None:
    world.tab().send("connect", token=f"token-{number}")
    world.cms.reply({"error": {"code": 5000 + number, "message": "not you"}})


def unreadable(world: World, number: int) -> None:
    world.tab().raw("{")


def engine_down(world: World, number: int) -> None:
    world.context.engine_failed(NotConnected())


def wrong_keys(world: World, number: int) -> None:
    Http(world).post("info", key="wrong")


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [
        (refused_by_the_cms, "default: client refused: 103"),
        (sent_away_by_the_cms, "default: client refused: 3507"),
        (codes_of_its_own, "default: client refused: another code"),
        (unreadable, "default: client refused: 3501"),
        (engine_down, "default: the engine failed"),
        (wrong_keys, "API request refused: the key in X-API-Key is not valid"),
    ],
)
async def test_many_who_are_refused(
    refuse: Callable[[World, int], None], kind: str, log: Log
) -> None:
    world = await World(callback=True, limits=PATIENT).start()
    for number in range(MANY):
        refuse(world, number)
    found, prefix = list(log.lines), kind.rpartition(" ")[0].partition(" refused")[0]
    assert len(found) == MANY
    assert all(line.startswith(prefix) for line in found)
    assert len(lines(log)) == FEW
    world.clock.advance(LINE_EVERY)
    assert lines(log) == [f"{MANY - FEW} more of these in 10 s: {kind}"]
    await world.end()


async def test_the_one_whose_reason_is_looked_for_is_there_at_level_debug(log: Log) -> None:
    world = await World(callback=True, limits=PATIENT).start()
    for number in range(FEW + 1):
        refused_by_the_cms(world, number)
    assert lines(log, debug=True) == ["default: client refused: 103 not you, from 192.0.2.1"]
    await world.node.stop()
    assert lines(log) == ["1 more of these in 10 s: default: client refused: 103"]
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({}, "default: connection refused: 503 too many connections"),
        ({"Origin": "https://evil.test"}, "default: connection refused: 403 origin not allowed"),
        ({"Host": ""}, "-: connection refused: 400 no Host header"),
    ],
)
async def test_many_who_do_not_get_through_the_door(
    headers: dict[str, str], kind: str, log: Log
) -> None:
    world = await World(limits={"max_connections": 1, **PATIENT}).start()
    server = Server(world)
    assert Browser(server).open() == 101
    for _ in range(MANY):
        assert Browser(server, **headers).open() == int(kind.split()[3])
    assert len(lines(log)) == FEW
    world.clock.advance(LINE_EVERY)
    assert lines(log) == [f"{MANY - FEW} more of these in 10 s: {kind}"]
    await world.end()
