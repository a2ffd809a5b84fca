"""The stream of a channel: offsets, trimming, and proof that nothing was missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.history import Stream
from twisted_push.model import ClientInfo, Publication, Recovered, StreamPosition


def publication(number: int) -> Publication:
    return Publication("room", b"%d" % number)


def append(stream: Stream, given: Publication, size: int, ttl: float, now: float) -> Publication:
    placed = stream.place(given, stream.top + 1)
    stream.append(placed, size, now + ttl)
    return placed


def filled(count: int, *, size: int = 100, ttl: float = 60.0, now: float = 0.0) -> Stream:
    stream = Stream("room")
    for number in range(1, count + 1):
        append(stream, publication(number), size, ttl, now)
    return stream


def data(found: Recovered) -> list[int]:
    return [int(each.data) for each in found.publications]


def since(stream: Stream, offset: int, limit: int = 300, now: float = 0.0) -> Recovered:
    return stream.since(StreamPosition(offset, stream.epoch), limit, now)


def test_a_new_stream_stands_at_the_beginning_of_an_epoch_of_its_own() -> None:
    one, other = Stream("room"), Stream("room")
    assert one.position.offset == 0
    assert one.epoch
    assert one.epoch != other.epoch


def test_offsets_count_from_one() -> None:
    stream = Stream("room", "e")
    placed = [append(stream, publication(n), 10, 60.0, 0.0) for n in (1, 2, 3)]
    assert [each.position for each in placed] == [StreamPosition(n, "e") for n in (1, 2, 3)]
    assert stream.position == StreamPosition(3, "e")


def test_a_placed_publication_is_otherwise_the_same_and_the_given_one_unchanged() -> None:
    given_one = Publication(
        "room", b"1", None, ClientInfo("u", "c"), {"t": "1"}, {"callback": b'"f"'}, 17
    )
    placed = append(Stream("room", "e"), given_one, 10, 60.0, 0.0)
    assert placed == Publication(
        "room",
        b"1",
        StreamPosition(1, "e"),
        ClientInfo("u", "c"),
        {"t": "1"},
        {"callback": b'"f"'},
        17,
    )
    assert given_one.position is None


def test_asking_only_for_the_position_is_always_complete_and_gives_nothing() -> None:
    stream = filled(3, size=1)
    assert stream.since(None, 0, 0.0) == Recovered((), stream.position, complete=True)
    assert stream.since(None, 0, 1e9) == Recovered((), stream.position, complete=True)


def test_the_oldest_goes_when_there_are_too_many() -> None:
    stream = filled(5, size=3)
    assert data(since(stream, 2)) == [3, 4, 5]
    assert not since(stream, 1).complete


def test_a_smaller_size_takes_effect_with_the_next_publication() -> None:
    stream = filled(5, size=5)
    append(stream, publication(6), 2, 60.0, 0.0)
    assert data(since(stream, 4)) == [5, 6]
    assert not since(stream, 3).complete


def test_what_is_over_its_time_goes_to_the_second() -> None:
    stream = filled(1, ttl=60.0)
    append(stream, publication(2), 10, 60.0, 30.0)
    assert data(since(stream, 0, now=59.999)) == [1, 2]
    assert not since(stream, 0, now=60.0).complete
    assert data(since(stream, 1, now=60.0)) == [2]
    assert not since(stream, 1, now=90.0).complete


def test_an_empty_stream_still_proves_that_nothing_was_missed() -> None:
    stream = filled(2, ttl=1.0)
    stream.trim(1000.0)
    assert since(stream, 2, now=1000.0) == Recovered((), stream.position, complete=True)
    assert not since(stream, 1, now=1000.0).complete
    append(stream, publication(3), 10, 1.0, 1000.0)
    assert data(since(stream, 2, now=1000.0)) == [3]


def test_a_shorter_time_behind_a_longer_one_is_never_a_hole() -> None:
    stream = Stream("room")
    append(stream, publication(1), 10, 100.0, 0.0)
    append(stream, publication(2), 10, 1.0, 0.0)
    append(stream, publication(3), 10, 100.0, 0.0)
    for now in (0.0, 1.0, 50.0, 100.0, 200.0):
        found = since(stream, 0, now=now)
        assert data(found) == ([1, 2, 3] if found.complete else [])


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (5, 300, []),
        (5, 0, []),
        (4, 1, [5]),
        (4, 0, None),
        (3, 1, None),
        (2, 3, [3, 4, 5]),
        (2, 2, None),
        (1, 300, None),
        (0, 300, None),
        (6, 300, None),
        (2**64, 300, None),
        (-1, 300, None),
        (-(2**64), 300, None),
        (5, -1, None),
    ],
)
def test_all_or_nothing(offset: int, limit: int, expected: list[int] | None) -> None:
    stream = filled(5, size=3)
    found = since(stream, offset, limit)
    assert found.position == stream.position
    assert found.complete is (expected is not None)
    assert data(found) == (expected or [])


@pytest.mark.parametrize("offset", [0, 3, 5])
@pytest.mark.parametrize("epoch", ["", "other"])
def test_another_epoch_proves_nothing(offset: int, epoch: str) -> None:
    stream = filled(5)
    found = stream.since(StreamPosition(offset, epoch), 300, 0.0)
    assert found == Recovered((), stream.position, complete=False)


def test_what_was_found_does_not_change_later() -> None:
    stream = filled(3)
    found = since(stream, 0)
    append(stream, publication(4), 1, 60.0, 0.0)
    stream.trim(1e9)
    assert data(found) == [1, 2, 3]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 6), st.integers(1, 20)),
            st.tuples(st.just("trim"), st.integers(0, 10), st.just(0)),
            st.tuples(st.just("since"), st.integers(-2, 30), st.integers(0, 8)),
            st.tuples(st.just("other epoch"), st.integers(0, 30), st.integers(0, 8)),
        ),
        max_size=60,
    )
)
def test_any_use_is_as_a_list_says(steps: list[tuple[str, int, int]]) -> None:
    """The model keeps everything that ever was, with its end; a fill is never partial."""
    stream = Stream("room")
    now = 0.0
    sent: list[int] = []
    kept: list[tuple[int, float]] = []
    for what, one, two in steps:
        if what == "append":
            sent.append(len(sent) + 1)
            placed = append(stream, publication(sent[-1]), one, float(two), now)
            assert placed.position == StreamPosition(len(sent), stream.epoch)
            kept = [*kept, (sent[-1], now + two)][-one:]
        elif what == "trim":
            now += one
            stream.trim(now)
        elif what == "other epoch":
            assert not stream.since(StreamPosition(one, "other"), two, now).complete
        else:
            while kept and kept[0][1] <= now:
                kept.pop(0)
            found = since(stream, one, two, now)
            missed = [number for number in sent if number > one]
            there = [number for number, _ in kept if number > one]
            provable = 0 <= one <= len(sent) and missed == there and len(missed) <= two
            assert found.complete is provable
            assert data(found) == (missed if provable else [])
            assert found.position == StreamPosition(len(sent), stream.epoch)
            assert [each.position for each in found.publications] == [
                StreamPosition(int(each.data), stream.epoch) for each in found.publications
            ]
