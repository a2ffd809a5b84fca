"""How many connections there may be, and what is kept for whom."""

from __future__ import annotations

from typing import Any, cast

from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.reading import KEY
from twisted_push.config import KeyConfig, Limits, SiteConfig, SiteLimits
from twisted_push.node.node import Node
from twisted_push.policy import Policy
from twisted_push.transports.room import Room

FULL = (503, "too many connections")
SITE_FULL = (503, "too many connections of this site")


@define(eq=False)
class Site:
    """As much of a node as is looked at."""

    policy: Policy

    @property
    def context(self) -> Site:
        return self


def nodes(count: int, **limits: int) -> list[Any]:
    site = SiteConfig(keys=(KeyConfig(key=KEY),), limits=SiteLimits(**limits))
    return [Site(Policy(site, Limits())) for _ in range(count)]


def fill(room: Room, node: Any, address: str = "192.0.2.1") -> int:
    """Have as many come as may; give their number."""
    count = 0
    while room.fault(cast("Node", node), address) is None:
        room.enter(cast("Node", node), address)
        count += 1
    return count


def test_a_lone_site_has_all_of_it() -> None:
    [node] = nodes(1)
    room = Room([node], Limits(max_connections=100))
    assert fill(room, node) == 100
    assert room.fault(node, "192.0.2.2") == FULL


def test_one_of_several_sites_leaves_room_for_the_others() -> None:
    sites = nodes(4)
    room = Room(sites, Limits(max_connections=100))
    assert fill(room, sites[0]) == 94
    assert room.fault(sites[0], "192.0.2.2") == SITE_FULL
    assert [fill(room, site) for site in sites[1:]] == [2, 2, 2]
    assert room.fault(sites[0], "192.0.2.2") == FULL
    room.leave(sites[1], "192.0.2.1")
    assert room.fault(sites[0], "192.0.2.2") == SITE_FULL
    assert fill(room, sites[1]) == 1


def test_a_hundred_sites() -> None:
    sites = nodes(100)
    room = Room(sites, Limits(max_connections=19000))
    assert fill(room, sites[0]) == 19000 - 99 * 19
    assert {fill(room, site) for site in sites[1:]} == {19}


def test_a_site_has_a_limit_of_its_own() -> None:
    sites = nodes(2, max_connections=10)
    room = Room(sites, Limits(max_connections=1000))
    assert fill(room, sites[0]) == 10
    assert room.fault(sites[0], "192.0.2.2") == SITE_FULL
    assert fill(room, sites[1]) == 10


def test_no_more_is_kept_for_a_site_than_it_may_have() -> None:
    small, large = nodes(1, max_connections=3)[0], nodes(1)[0]
    room = Room([small, large], Limits(max_connections=1000))
    assert fill(room, large) == 997


def test_an_address_has_its_own_limit() -> None:
    sites = nodes(2)
    room = Room(sites, Limits(max_connections=100, max_connections_per_address=2))
    assert fill(room, sites[0]) == 2
    assert room.fault(sites[1], "192.0.2.1") == (429, "too many connections from this address")
    assert room.fault(sites[1], "192.0.2.2") is None


def test_limits_may_change() -> None:
    sites = nodes(2)
    room = Room(sites, Limits(max_connections=100))
    assert fill(room, sites[0]) == 95
    room.limits = Limits(max_connections=50)
    assert room.fault(sites[1], "192.0.2.1") == FULL
    site = evolve(sites[0].policy.site, limits=SiteLimits(max_connections=96))
    sites[0].policy = evolve(sites[0].policy, site=site)
    room.limits = Limits(max_connections=200)
    assert fill(room, sites[0]) == 1
    assert fill(room, sites[1]) == 104


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=200), st.integers(1, 60))
def test_whoever_comes_and_goes_every_site_has_its_part(
    steps: list[tuple[int, bool]], most: int
) -> None:
    sites = nodes(5)
    room = Room(sites, Limits(max_connections=most))
    part = int(most * 0.1 / 5)
    for number, comes in steps:
        site = sites[number]
        if comes and room.fault(site, "x") is None:
            room.enter(site, "x")
        elif not comes and room.of(site):
            room.leave(site, "x")
        assert room.connections == sum(map(room.of, sites)) <= most
        for each in sites:
            assert room.of(each) >= part or room.fault(each, "x") is None
    for site in sites:
        while room.of(site):
            room.leave(site, "x")
    assert room.connections == 0
    assert not room._by_address
