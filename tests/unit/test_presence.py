"""The table of who is in which channel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_push.model import ClientInfo
from twisted_push.presence import PresenceTable


def test_joining_again_renews_what_is_known() -> None:
    table = PresenceTable()
    old, new = ClientInfo("u", "c", b"1"), ClientInfo("u", "c", b"2")
    assert table.add("a", old)
    assert not table.add("a", new)
    assert table.clients("a") == {"c": new}
    assert table.remove("a", "c") == new
    assert table.remove("a", "c") is None
    assert table.add("a", old)


def test_a_copy_is_given() -> None:
    table = PresenceTable()
    table.add("a", ClientInfo("u", "c"))
    before = table.clients("a")
    table.remove("a", "c")
    assert list(before) == ["c"]
    assert table.clients("a") == {}


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("12")
        )
    )
)
def test_any_operations_are_as_a_dictionary_says(
    steps: list[tuple[bool, str, str, str]],
) -> None:
    table = PresenceTable()
    model: dict[tuple[str, str], ClientInfo] = {}
    for adding, channel, client, known in steps:
        info = ClientInfo("u", client, known.encode())
        if adding:
            assert table.add(channel, info) is ((channel, client) not in model)
            model[channel, client] = info
        else:
            assert table.remove(channel, client) == model.pop((channel, client), None)
        for name in "ab":
            assert table.clients(name) == {
                each: found for (where, each), found in model.items() if where == name
            }
    for channel, client in tuple(model):
        table.remove(channel, client)
    assert table == PresenceTable()
