"""The hub: after any operations its indexes say the same, and hold nothing that is over."""

from __future__ import annotations

import weakref

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.hub import Hub


@define(eq=False)
class Tab:
    """One client."""

    client: str
    user: str = ""
    token_digest: bytes | None = None
    descriptor: int = -1


def test_an_empty_hub_knows_nobody() -> None:
    hub: Hub[Tab] = Hub()
    assert hub.of_user("u") == ()
    assert hub.of_token(b"t") == ()
    assert len(hub.of_channel("a")) == 0
    assert hub.counts() == {}
    hub.leave("a", Tab("c"))
    hub.remove(Tab("c"))


def test_members_are_found_by_all_that_is_known_of_them() -> None:
    hub: Hub[Tab] = Hub()
    one, two, nobody = Tab("c1", "u", b"t"), Tab("c2", "u", b"t"), Tab("c3")
    for tab in (one, two, nobody):
        hub.add(tab)
    assert hub.clients == {"c1": one, "c2": two, "c3": nobody}
    assert set(hub.of_user("u")) == set(hub.of_token(b"t")) == {one, two}
    assert hub.of_user("") == (nobody,)
    hub.join("a", one)
    hub.join("a", two)
    hub.join("a", two)
    hub.join("b", nobody)
    assert hub.counts() == {"a": 2, "b": 1}
    assert set(hub.of_channel("a")) == {one, two}


def test_what_is_given_by_user_and_token_does_not_change() -> None:
    hub: Hub[Tab] = Hub()
    one = Tab("c1", "u", b"t")
    hub.add(one)
    users, tokens = hub.of_user("u"), hub.of_token(b"t")
    hub.remove(one)
    assert users == tokens == (one,)


def test_one_who_was_never_added_takes_nobody_else_out() -> None:
    hub: Hub[Tab] = Hub()
    one = Tab("c1", "u")
    hub.add(one)
    hub.remove(Tab("c2", "u"))
    assert hub.of_user("u") == (one,)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "join", "leave"]),
            st.integers(0, 5),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=80,
    )
)
def test_any_operations_keep_the_indexes_consistent(steps: list[tuple[str, int, str]]) -> None:
    tabs = [Tab(f"c{n}", ["", "u", "v"][n % 3], [None, b"t", b"s", b"t"][n % 4]) for n in range(6)]
    hub: Hub[Tab] = Hub()
    present: set[Tab] = set()
    joined: set[tuple[str, Tab]] = set()
    for what, number, channel in steps:
        tab = tabs[number]
        if what == "add":
            hub.add(tab)
            present.add(tab)
        elif what == "remove":
            hub.remove(tab)
            present.discard(tab)
        elif what == "join":
            hub.join(channel, tab)
            joined.add((channel, tab))
        else:
            hub.leave(channel, tab)
            joined.discard((channel, tab))
        assert set(hub.clients.values()) == present
        assert {user: set(members) for user, members in hub.users.items()} == {
            user: {each for each in present if each.user == user}
            for user in {each.user for each in present}
        }
        for digest in (b"t", b"s"):
            assert set(hub.of_token(digest)) == {t for t in present if t.token_digest == digest}
        names = {name for name, _ in joined}
        assert set(hub.channels) == names
        for name in "abc":
            assert set(hub.of_channel(name)) == {each for one, each in joined if one == name}
        assert hub.counts() == {n: sum(one == n for one, _ in joined) for n in names}


@pytest.mark.parametrize("size", [1, 63, 64, 100])
def test_a_crowd_is_of_one_moment(size: int) -> None:
    hub: Hub[Tab] = Hub()
    tabs = [Tab(f"c{number}", descriptor=number) for number in range(size)]
    for tab in tabs:
        hub.join("a", tab)
    before = hub.of_channel("a")
    assert list(before) == tabs
    assert list(before.descriptors) == list(range(size))
    late = Tab("late", descriptor=7)
    hub.join("a", late)
    assert list(hub.of_channel("a")) == [*tabs, late]
    hub.leave("a", tabs[0])
    assert list(hub.of_channel("a")) == [*tabs[1:], late]
    assert list(before) == tabs
    for tab in (*tabs, late):
        hub.leave("a", tab)
    assert len(hub.of_channel("a")) == 0


def test_a_crowd_that_has_left_is_not_kept_alive() -> None:
    hub: Hub[Tab] = Hub()
    tabs = [Tab(f"c{number}") for number in range(100)]
    for tab in tabs:
        hub.join("a", tab)
    hub.of_channel("a")
    gone = weakref.ref(tabs[0])
    hub.leave("a", tabs.pop(0))
    del tab
    assert gone() is None
