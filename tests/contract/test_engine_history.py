"""What every engine does with history, idempotency keys and versions."""

from __future__ import annotations

from itertools import dropwhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.bench import DAY, ENGINES, Bench, run, start
from twisted_push.model import (
    ClientInfo,
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)

KEY_LIFE = 300.0


def filled(bench: Bench, count: int = 5, size: int = 3) -> str:
    """Publish 1 … count, keep ``size``; give the epoch."""
    for number in range(1, count + 1):
        bench.publish("a", b"%d" % number, size=size)
    return bench.since("a").position.epoch


def numbers(found: Recovered) -> list[int]:
    return [int(each.data) for each in found.publications]


# --- History ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "reverse", "expected"),
    [
        (0, False, []),
        (0, True, []),
        (-1, False, [3, 4, 5]),
        (-1, True, [5, 4, 3]),
        (2, False, [3, 4]),
        (2, True, [5, 4]),
        (3, False, [3, 4, 5]),
        (99, True, [5, 4, 3]),
    ],
)
def test_history_from_one_end(bench: Bench, limit: int, reverse: bool, expected: list[int]) -> None:
    epoch = filled(bench)
    found = bench.history("a", None, limit, reverse)
    assert numbers(found) == expected
    assert found.complete
    assert found.position == StreamPosition(5, epoch)
    assert [p.position for p in found.publications] == [
        StreamPosition(number, epoch) for number in expected
    ]


@pytest.mark.parametrize(
    ("offset", "limit", "reverse", "expected"),
    [
        (2, -1, False, [3, 4, 5]),
        (2, 1, False, [3]),
        (3, 1, False, [4]),
        (5, -1, False, []),
        (2, 0, False, []),
        (1, -1, False, None),  # The second is gone.
        (1, 0, False, None),
        (0, -1, False, None),
        (6, -1, False, None),  # From the future.
        (-1, -1, False, None),
        (2**64, -1, False, None),
        (5, -1, True, [4, 3]),
        (5, 1, True, [4]),
        (4, 1, True, [3]),
        (3, -1, True, []),  # The end of it.
        (1, -1, True, []),
        (0, -1, True, []),
        (6, -1, True, None),
        (-1, -1, True, None),
    ],
)
def test_history_from_a_position(
    bench: Bench, offset: int, limit: int, reverse: bool, expected: list[int] | None
) -> None:
    epoch = filled(bench)
    found = bench.history("a", StreamPosition(offset, epoch), limit, reverse)
    assert found.complete is (expected is not None)
    assert numbers(found) == (expected or [])
    assert found.position == StreamPosition(5, epoch)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("epoch", ["", "other"])
def test_history_of_another_epoch_cannot_be_given(bench: Bench, epoch: str, reverse: bool) -> None:
    own = filled(bench)
    for offset in (0, 3, 5):
        found = bench.history("a", StreamPosition(offset, epoch), -1, reverse)
        assert found == Recovered((), StreamPosition(5, own), complete=False)


@pytest.mark.parametrize("reverse", [False, True])
def test_history_page_by_page_is_all_of_it_once(bench: Bench, reverse: bool) -> None:
    filled(bench, 7, 10)
    seen: list[int] = []
    since = None
    while page := bench.history("a", since, 2, reverse).publications:
        seen += [int(each.data) for each in page]
        since = page[-1].position
    assert seen == (list(range(7, 0, -1)) if reverse else list(range(1, 8)))


def test_history_of_a_channel_that_nobody_published_into(bench: Bench) -> None:
    found = bench.history("a")
    assert found.complete
    assert found.publications == ()
    assert found.position.offset == 0
    assert bench.since("a").position == found.position
    assert bench.history("a", found.position).complete


def test_history_loses_what_is_over_its_time(bench: Bench) -> None:
    bench.publish("a", b"1", size=10, ttl=60.0)
    bench.later(30.0)
    bench.publish("a", b"2", size=10, ttl=60.0)
    bench.later(30.0)
    assert numbers(bench.history("a")) == [2]
    bench.later(30.0)
    found = bench.history("a")
    assert found.publications == ()
    assert found.position.offset == 2


def test_history_has_publications_as_they_were(bench: Bench) -> None:
    given_one = Publication(
        "a",
        b'{"n": 1.10}',
        info=ClientInfo("u", "c", b"{}", b"[1]"),
        tags={"t": "ü"},
        extra={"callback": b'"f"'},
        time=1_700_000_000_123,
        exclude="c",
    )
    published = run(bench.engine.publish(given_one, PublishOptions(10, 60.0)))
    [found] = bench.history("a").publications
    assert found.position == published.position
    for name in ("channel", "data", "info", "tags", "extra", "time", "exclude"):
        assert getattr(found, name) == getattr(given_one, name)


# --- Removal ---------------------------------------------------------------------------------


def test_removed_history_is_gone_and_the_position_stays(bench: Bench) -> None:
    epoch = filled(bench, 5, 10)
    bench.remove("a")
    top = StreamPosition(5, epoch)
    assert bench.history("a") == Recovered((), top, complete=True)
    assert bench.since("a", top) == Recovered((), top, complete=True)
    assert not bench.since("a", StreamPosition(4, epoch)).complete
    assert bench.publish("a", b"6", size=10)[0] == StreamPosition(6, epoch)
    assert numbers(bench.since("a", top)) == [6]
    assert numbers(bench.history("a")) == [6]
    assert not bench.since("a", StreamPosition(4, epoch)).complete


def test_removing_what_is_not_there_is_nothing(bench: Bench) -> None:
    bench.remove("a")
    position = bench.since("a").position
    assert position.offset == 0
    bench.remove("a")
    assert bench.since("a").position == position


def test_removing_one_history_leaves_the_others(bench: Bench) -> None:
    bench.publish("a", b"1", size=10)
    bench.publish("b", b"2", size=10)
    bench.remove("a")
    assert numbers(bench.history("b")) == [2]


# --- Idempotency keys ------------------------------------------------------------------------


def test_the_same_key_gives_the_first_answer_and_publishes_nothing(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    first = bench.put_out("a", b"1", idempotency_key="k")
    bench.put_out("a", b"2")
    again = bench.put_out("a", b"3", idempotency_key="k")
    assert first.position is not None
    assert not first.duplicate
    assert again.position == first.position
    assert again.duplicate
    assert numbers(bench.history("a")) == [1, 2]
    assert [p.data for p in bench.events.publications] == [b"1", b"2"]


@pytest.mark.parametrize("size", [0, 10])
def test_a_key_counts_with_and_without_history(bench: Bench, size: int) -> None:
    run(bench.engine.subscribe("a"))
    first = bench.put_out("a", size=size, idempotency_key="k")
    again = bench.put_out("a", size=size, idempotency_key="k")
    assert (first.position is None) is (size == 0)
    assert again.position == first.position
    assert (first.duplicate, again.duplicate) == (False, True)
    assert len(bench.events.publications) == 1


def test_keys_of_other_channels_and_other_keys_are_others(bench: Bench) -> None:
    for channel, key in (("a", "k"), ("b", "k"), ("a", "l"), ("a k", ""), ("a", ""), ("a", "")):
        assert not bench.put_out(channel, idempotency_key=key).duplicate


def test_a_key_is_known_for_five_minutes_from_the_first(bench: Bench) -> None:
    first = bench.put_out("a", idempotency_key="k", ttl=DAY)
    bench.later(KEY_LIFE / 2)
    bench.put_out("a", idempotency_key="k", ttl=DAY)
    bench.later(KEY_LIFE / 2 - 1.0)
    assert bench.put_out("a", idempotency_key="k", ttl=DAY).duplicate
    bench.later(1.0)
    new = bench.put_out("a", idempotency_key="k", ttl=DAY)
    assert not new.duplicate
    assert new.position != first.position
    bench.later(KEY_LIFE - 1.0)
    assert bench.put_out("a", idempotency_key="k", ttl=DAY) == Published(
        new.position, 0, duplicate=True
    )


def test_a_key_outlives_the_publication_and_its_history(bench: Bench) -> None:
    first = bench.put_out("a", idempotency_key="k", ttl=1.0)
    bench.later(60.0)
    bench.remove("a")
    again = bench.put_out("a", idempotency_key="k", ttl=1.0)
    assert (again.position, again.duplicate) == (first.position, True)


def test_many_at_once_with_one_key_are_one(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    publishing = [
        bench.engine.publish(
            Publication("a", b"%d" % number), PublishOptions(10, 60.0, idempotency_key="k")
        )
        for number in range(20)
    ]
    answers = [run(each) for each in publishing]
    assert [each.duplicate for each in answers] == [False] + [True] * 19
    assert len({each.position for each in answers}) == 1
    assert len(bench.events.publications) == 1
    assert len(bench.history("a").publications) == 1


# --- Versions --------------------------------------------------------------------------------


def test_a_version_that_is_not_newer_is_dropped(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    accepted = {}
    for version in (5, 5, 4, 6, 1, 2**53):
        answer = bench.put_out("a", b"%d" % version, version=version)
        accepted[version] = answer
        assert answer.position == bench.since("a").position
        assert not answer.duplicate
    assert numbers(bench.history("a")) == [5, 6, 2**53]
    assert [int(p.data) for p in bench.events.publications] == [5, 6, 2**53]
    assert accepted[4].recipients == 0


def test_a_version_of_another_epoch_of_the_publisher_begins_anew(bench: Bench) -> None:
    for version, epoch, data in (
        (5, "x", b"1"),
        (5, "x", b"0"),
        (1, "y", b"2"),
        (1, "y", b"0"),
        (9, "", b"3"),
        (2, "", b"0"),
        (5, "x", b"4"),  # Only the last epoch is known.
    ):
        bench.put_out("a", data, version=version, version_epoch=epoch)
    assert numbers(bench.history("a")) == [1, 2, 3, 4]


def test_publications_without_a_version_do_not_touch_it(bench: Bench) -> None:
    bench.put_out("a", b"1", version=2)
    bench.put_out("a", b"2")
    bench.put_out("a", b"0", version=2)
    bench.put_out("a", b"3", version=3)
    assert numbers(bench.history("a")) == [1, 2, 3]


def test_versions_count_without_history_too(bench: Bench) -> None:
    run(bench.engine.subscribe("a"))
    for version in (2, 1, 3):
        answer = bench.put_out("a", b"%d" % version, size=0, version=version)
        assert answer.position is None
    assert [int(p.data) for p in bench.events.publications] == [2, 3]


def test_a_version_outlives_the_history(bench: Bench) -> None:
    bench.put_out("a", b"1", version=7, ttl=10.0)
    bench.later(3600.0)
    bench.remove("a")
    assert bench.put_out("a", b"0", version=7).recipients == 0
    assert bench.history("a").publications == ()


def test_the_version_is_of_one_channel(bench: Bench) -> None:
    bench.put_out("a", b"1", version=7)
    bench.put_out("b", b"2", version=6)
    assert numbers(bench.history("b")) == [2]


def test_a_key_of_a_dropped_version_gives_that_answer_again(bench: Bench) -> None:
    bench.put_out("a", b"1", version=7)
    dropped = bench.put_out("a", b"0", version=6, idempotency_key="k")
    bench.put_out("a", b"2", version=8)
    again = bench.put_out("a", b"0", version=9, idempotency_key="k")
    assert (again.position, again.duplicate) == (dropped.position, True)
    assert numbers(bench.history("a")) == [1, 2]


def test_versions_that_are_published_at_once_count_in_their_order(bench: Bench) -> None:
    publishing = [
        bench.engine.publish(
            Publication("a", b"%d" % number), PublishOptions(10, 60.0, version=number)
        )
        for number in (3, 1, 4, 1, 5, 9, 2, 6)
    ]
    for each in publishing:
        run(each)
    assert numbers(bench.history("a")) == [3, 4, 5, 9]


# --- Order -----------------------------------------------------------------------------------


def test_what_is_published_at_once_keeps_its_order_with_and_without_history(
    bench: Bench,
) -> None:
    run(bench.engine.subscribe("a"))
    answers: list[int] = []
    publishing = []

    def answered(found: Published, number: int) -> Published:
        answers.append(number)
        return found

    for number in range(40):
        options = PublishOptions(0 if number % 3 else 10, 60.0)
        doing = bench.engine.publish(Publication("a", b"%d" % number), options)
        publishing.append(doing.addCallback(answered, number))
    published = [run(each) for each in publishing]
    assert answers == list(range(40))
    assert [int(p.data) for p in bench.events.publications] == list(range(40))
    offsets = [p.position.offset for p in published if p.position is not None]
    assert offsets == list(range(1, len(offsets) + 1))


def test_a_removal_comes_in_its_turn(bench: Bench) -> None:
    doing = [
        bench.engine.publish(Publication("a", b"1"), PublishOptions(10, 60.0)),
        bench.engine.history_remove("a"),
        bench.engine.publish(Publication("a", b"2"), PublishOptions(10, 60.0)),
    ]
    for each in doing:
        run(each)  # type: ignore[arg-type]
    found = bench.history("a")
    assert numbers(found) == [2]
    assert found.position.offset == 2


# --- Any use ---------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.builds(
                PublishOptions,
                st.integers(0, 4),
                st.sampled_from([20.0, 60.0, 600.0]),
                st.sampled_from(["", "", "k", "l"]),
                st.integers(0, 4),
                st.sampled_from(["", "x"]),
            ),
        ),
        st.tuples(st.just("remove"), st.none()),
        st.tuples(st.just("later"), st.sampled_from([1.0, 31.0, 301.0])),
    ),
    max_size=30,
)


def in_time(kept: dict[int, tuple[int, float]], now: float) -> dict[int, tuple[int, float]]:
    """Drop the oldest that are over their time; one behind another that is not, stays."""
    return dict(dropwhile(lambda each: each[1][1] <= now, kept.items()))


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_any_use_is_as_the_plain_words_say(steps: list[tuple[str, object]]) -> None:
    for factory in ENGINES.values():
        bench = start(factory)
        top, kept, version = 0, dict[int, tuple[int, float]](), (0, "")
        answers: dict[str, tuple[float, int | None]] = {}
        for number, (_, given_one) in enumerate(steps):
            now = bench.clock.seconds()
            kept = in_time(kept, now)
            if isinstance(given_one, PublishOptions):
                options = given_one
                answer = run(bench.engine.publish(Publication("a", b"%d" % number), options))
                offset = answer.position.offset if answer.position else None
                known = answers.get(options.idempotency_key, (0.0, None))
                assert answer.duplicate is (bool(options.idempotency_key) and known[0] > now)
                if answer.duplicate:
                    assert offset == known[1]
                    continue
                new = (options.version, options.version_epoch)
                dropped = options.version and new[1] == version[1] and new[0] <= version[0]
                if options.version and not dropped:
                    version = new
                if options.history_size and not dropped:
                    top += 1
                    kept[top] = (number, now + options.history_ttl)
                    kept = dict(list(kept.items())[-options.history_size :])
                assert offset == (top if options.history_size else None)
                if options.idempotency_key:
                    answers[options.idempotency_key] = (now + KEY_LIFE, offset)
            elif isinstance(given_one, float):
                bench.later(given_one)
            else:
                bench.remove("a")
                kept = {}
            now = bench.clock.seconds()
            found = bench.history("a")
            assert found.position.offset == top
            kept = in_time(kept, now)
            there = [(p.position and p.position.offset, int(p.data)) for p in found.publications]
            assert there == [(offset, number) for offset, (number, _) in kept.items()]
        run(bench.engine.stop())
