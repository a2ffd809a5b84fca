from __future__ import annotations

from typing import Any

import pytest_twisted

from tests.unit.node.support import World


@pytest_twisted.async_yield_fixture
async def make_world() -> Any:
    """Make sites; of none may anything be left when its clients are gone."""
    made: list[World] = []

    async def make(**options: Any) -> World:
        world = await World(**options).start()
        made.append(world)
        return world

    yield make
    for world in made:
        world.engine.hold.clear()
        world.engine.hold_work.clear()
        world.engine.broken.clear()
        await world.end()
