"""The judge of the fault program notices what must not happen, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.judge import Final, Judge, Position, View

EPOCH = "e1"
NEXT_EPOCH = "e2"
MOST = 2


def at(offset: int, epoch: str = EPOCH) -> Position:
    return Position(offset, epoch)


def channel_of(judge: Judge, count: int, epoch: str = EPOCH) -> dict[str, Final]:
    """Publish so many into the channel ``a``: ``t1`` at the offset 1, and so on."""
    for offset in range(1, count + 1):
        judge.sent("a", f"t{offset}")
        judge.acknowledged("a", f"t{offset}", at(offset, epoch))
    kept = {offset: f"t{offset}" for offset in range(1, count + 1)}
    return {"a": Final(at(count, epoch), kept)}


def watching(judge: Judge, name: str = "c") -> View:
    view = judge.view(name, "a")
    view.began(at(0))
    return view


def test_who_sees_everything_in_order_is_well_served() -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 4)
    view = watching(judge)
    view.saw(1, "t1")
    view.recovered(at(3), [(2, "t2"), (3, "t3")])
    view.saw(4, "t4")
    view.recovered(at(4), [])
    judge.end(finals)
    assert judge.violations == {}
    counts = judge.counts
    assert (counts["seen"], counts["recoveries"], counts["views never told"]) == (4, 2, 1)
    assert counts["acknowledged and seen by nobody"] == 0


def test_who_is_told_begins_a_new_stretch() -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 5)
    view = watching(judge)
    view.saw(1, "t1")
    view.told(at(4))
    view.saw(5, "t5")
    judge.end(finals)
    assert judge.violations == {}
    assert (judge.counts["told"], judge.counts["views never told"]) == (1, 0)
    assert judge.counts["acknowledged and seen by nobody"] == 3


def test_a_publication_that_was_not_acknowledged_may_be_there_or_not() -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 1)
    judge.sent("a", "there")
    judge.sent("a", "not there")
    view = watching(judge)
    view.saw(1, "t1")
    view.saw(2, "there")
    judge.end({"a": Final(at(2), {**finals["a"].kept, 2: "there"})})
    assert judge.violations == {}
    assert judge.counts["never acknowledged, but published"] == 1


def loss(judge: Judge, view: View) -> None:
    view.saw(1, "t1")
    view.saw(3, "t3")
    view.saw(4, "t4")


def loss_before_it_is_told(judge: Judge, view: View) -> None:
    view.saw(2, "t2")
    view.told(at(4))


def loss_at_the_end(judge: Judge, view: View) -> None:
    for offset in (1, 2, 3):
        view.saw(offset, f"t{offset}")


def loss_in_a_recovery(judge: Judge, view: View) -> None:
    view.saw(1, "t1")
    view.recovered(at(4), [(2, "t2"), (4, "t4")])


def loss_at_the_end_of_a_recovery(judge: Judge, view: View) -> None:
    view.recovered(at(4), [(1, "t1"), (2, "t2"), (3, "t3")])


def duplicate(judge: Judge, view: View) -> None:
    everything(view)
    view.saw(4, "t4")


def duplicate_in_a_recovery(judge: Judge, view: View) -> None:
    for offset in (1, 2):
        view.saw(offset, f"t{offset}")
    view.recovered(at(4), [(2, "t2"), (3, "t3"), (4, "t4")])


def reorder(judge: Judge, view: View) -> None:
    for offset in (1, 3, 2, 4):
        view.saw(offset, f"t{offset}")


def phantom(judge: Judge, view: View) -> None:
    everything(view)
    view.saw(5, "nobody's")


def phantom_of_another_channel(judge: Judge, view: View) -> None:
    everything(view)
    judge.sent("b", "of b")
    view.saw(5, "of b")


def other_data(judge: Judge, view: View) -> None:
    judge.sent("a", "x")
    for offset, text in enumerate(("t1", "t2", "x", "t4"), 1):
        view.saw(offset, text)


def published_twice(judge: Judge, view: View) -> None:
    everything(view)
    view.saw(5, "t2")


def silent_epoch(judge: Judge, view: View) -> None:
    everything(view)
    view.recovered(at(4, NEXT_EPOCH), [])


def forgotten(judge: Judge, view: View) -> None:
    everything(view)
    view.told(at(0, NEXT_EPOCH))


def told_in_vain(judge: Judge, view: View) -> None:
    for offset in (1, 2):
        view.saw(offset, f"t{offset}")
    view.told(at(4))


def told_in_vain_of_nothing(judge: Judge, view: View) -> None:
    everything(view)
    view.told(at(4))


def began_again(judge: Judge, view: View) -> None:
    everything(view)
    view.began(at(4))


def early(judge: Judge, view: View) -> None:
    everything(view)
    judge.view("late", "a").saw(4, "t4")


def everything(view: View) -> None:
    for offset in (1, 2, 3, 4):
        view.saw(offset, f"t{offset}")


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (loss, "lost"),
        (loss_before_it_is_told, "lost"),
        (loss_at_the_end, "lost"),
        (loss_in_a_recovery, "lost"),
        (loss_at_the_end_of_a_recovery, "lost"),
        (duplicate, "duplicate"),
        (duplicate_in_a_recovery, "duplicate"),
        (reorder, "out of order"),
        (phantom, "phantom"),
        (phantom_of_another_channel, "phantom"),
        (other_data, "different data"),
        (published_twice, "published twice"),
        (silent_epoch, "another epoch"),
        (forgotten, "another epoch"),
        (told_in_vain, "told in vain"),
        (told_in_vain_of_nothing, "told in vain"),
        (began_again, "not recovered"),
        (early, "early"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_what_is_planted_is_found(plant: Callable[[Judge, View], None], kind: str) -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 4)
    plant(judge, watching(judge))
    judge.end(finals)
    assert judge.violations[kind] >= 1, judge.examples
    assert judge.report()["examples"]


def test_a_server_that_forgets_what_it_acknowledged_is_found() -> None:
    judge = Judge(keeps=True, most=MOST)
    channel_of(judge, 4)
    everything(watching(judge))
    judge.end({"a": Final(at(3), {3: "t3"})})
    assert judge.violations["lost"] >= 1


def test_a_server_that_acknowledges_another_place_is_found() -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 4)
    everything(watching(judge))
    judge.sent("a", "t5")
    judge.acknowledged("a", "t5", at(4))
    judge.end(finals)
    assert judge.violations["different data"] == 1


def test_what_is_kept_is_what_was_seen() -> None:
    judge = Judge(keeps=True, most=MOST)
    channel_of(judge, 4)
    everything(watching(judge))
    judge.end({"a": Final(at(4), {3: "t2", 4: "nobody's"})})
    assert judge.violations["different data"] == 2
    assert judge.violations["phantom"] == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_before_the_first_publication_the_epoch_may_be_another(keeps: bool) -> None:
    judge = Judge(keeps=keeps, most=MOST)
    view = watching(judge)
    view.recovered(at(0, NEXT_EPOCH), [])
    judge.end({"a": Final(at(0, NEXT_EPOCH), {})})
    assert judge.violations == {}


# --- Where a crash may lose something --------------------------------------------------------


def test_a_loss_that_is_told_with_another_epoch_is_none() -> None:
    judge = Judge(keeps=False, most=MOST)
    channel_of(judge, 4)
    view = watching(judge)
    everything(view)
    view.told(at(2, NEXT_EPOCH))
    judge.sent("a", "x")
    judge.acknowledged("a", "x", at(3, NEXT_EPOCH))
    view.saw(3, "x")
    judge.end({"a": Final(at(3, NEXT_EPOCH), {2: "t2", 3: "x"})})
    assert judge.violations == {}
    assert judge.counts["told of another epoch"] == 1


def test_one_that_was_lost_may_be_published_again_in_the_next_epoch() -> None:
    judge = Judge(keeps=False, most=MOST)
    channel_of(judge, 4)
    view = watching(judge)
    everything(view)
    view.told(at(3, NEXT_EPOCH))
    view.saw(4, "t4")
    judge.end({"a": Final(at(4, NEXT_EPOCH), {4: "t4"})})
    assert judge.violations == {}


def test_an_offset_that_is_given_twice_in_one_epoch_is_found() -> None:
    """The crash took the fourth back, the epoch is the same, and the next one is at its place."""
    judge = Judge(keeps=False, most=MOST)
    channel_of(judge, 4)
    seen, late = watching(judge), watching(judge, "late")
    everything(seen)
    for offset in (1, 2, 3):
        late.saw(offset, f"t{offset}")
    late.recovered(at(3), [])
    seen.recovered(at(4), [])
    judge.sent("a", "x")
    late.saw(4, "x")
    judge.end({"a": Final(at(4), {4: "x"})})
    assert judge.violations["different data"] >= 1


def test_a_position_that_goes_back_in_one_epoch_is_found() -> None:
    judge = Judge(keeps=False, most=MOST)
    channel_of(judge, 4)
    view = watching(judge)
    everything(view)
    view.recovered(at(3), [])
    judge.end({"a": Final(at(3), {})})
    assert judge.violations["lost"] >= 1


def test_one_that_is_published_twice_in_one_epoch_is_found() -> None:
    judge = Judge(keeps=False, most=MOST)
    finals = channel_of(judge, 4)
    view = watching(judge)
    everything(view)
    view.saw(5, "t2")
    judge.end({"a": Final(at(5), finals["a"].kept)})
    assert judge.violations["published twice"] == 1


# --- Whatever comes --------------------------------------------------------------------------


@given(st.permutations(range(1, 7)), st.integers(1, 6))
def test_any_other_order_is_found(order: list[int], count: int) -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 6)
    view = watching(judge)
    for offset in order[:count]:
        view.saw(offset, f"t{offset}")
    judge.end(finals)
    assert (judge.violations == {}) is (order[:count] == [1, 2, 3, 4, 5, 6])


@given(st.lists(st.integers(1, 6), min_size=6, max_size=9))
def test_anything_but_each_once_is_found(order: list[int]) -> None:
    judge = Judge(keeps=True, most=MOST)
    finals = channel_of(judge, 6)
    view = watching(judge)
    for offset in order:
        view.saw(offset, f"t{offset}")
    judge.end(finals)
    assert (judge.violations == {}) is (order == [1, 2, 3, 4, 5, 6])
