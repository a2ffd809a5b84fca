"""The journal of the memory engine: what outlives a restart, a crash, a disk that fails."""

from __future__ import annotations

import math
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.contract.bench import DAY, START, journal, new_directory, run, settle
from tests.fakes import FakeEvents
from tests.unit.engines.support import Life, outcome
from twisted_push.engines.journal import runs, store
from twisted_push.engines.journal.saving import MAX_WAITING, MAX_WAITING_BYTES
from twisted_push.engines.memory import MemoryEngine
from twisted_push.errors import EngineUnavailable, NotConnected, OutcomeUnknown, Overloaded
from twisted_push.model import (
    ChannelGrant,
    ChannelOverlay,
    ClientInfo,
    Grant,
    PresenceList,
    Publication,
    PublishOptions,
    StreamPosition,
)

Again = Callable[[Life], Life]
AGAIN = pytest.mark.parametrize("again", [Life.again, Life.crashed], ids=["restart", "crash"])


# --- What comes back -------------------------------------------------------------------------


@AGAIN
@pytest.mark.parametrize("durability", ["commit", "write"])
def test_all_is_there_again(again: Again, durability: str) -> None:
    life = Life.begin(durability=durability)
    for number in range(5):
        life.publish("a", b"%d" % number, size=3, ttl=600.0)
    keyed = life.put_out("b", idempotency_key="k", version=3, version_epoch="e")
    grant = Grant(
        "u",
        START,
        {"a": ChannelGrant(b"1", b"2"), "b": ChannelGrant()},
        frozenset({"v"}),
        b"{}",
        b"[]",
        expires_at=START + 500.0,
        client_refresh=True,
        raw=b"raw",
        channels_at=START - 2.0,
    )
    overlay = ChannelOverlay(START, ChannelGrant(b"x", expires_at=START + 9.0), math.inf)
    assert life.put(b"token", grant)
    life.put(b"gone", grant)
    run(life.engine.revoke_token(b"gone", math.inf))
    run(life.engine.revoke_user("w", START + DAY))
    run(life.engine.grant_forget("kicked"))
    run(life.engine.overlay_set("u", "c", overlay))
    listed = PresenceList(START, frozenset({"v", "w"}), math.inf)
    run(life.engine.presence_list_set("u", listed))
    life.put_content(b"content", channel="c", notify_on_leave=True, data=b"{}")
    before = life.history("a")

    life = again(life)
    assert life.history("a") == before
    assert life.kept("a") == [(3, b"2"), (4, b"3"), (5, b"4")]
    repeated = life.put_out("b", idempotency_key="k")
    assert (repeated.position, repeated.duplicate) == (keyed.position, True)
    assert life.put_out("b", version=3, version_epoch="e").position == keyed.position
    assert life.get(b"token") == grant
    assert not life.put(b"gone", life.grant())
    assert not life.put(b"t", Grant("w", START))
    assert not life.put(b"t", Grant("kicked", START))
    assert life.put(b"t", Grant("kicked", START + 1.0))
    assert run(life.engine.overlays("u")) == {"c": overlay}
    assert run(life.engine.presence_list("u")) == listed
    content = life.claim(b"content", channel="c")
    assert content is not None
    assert (content.notify_on_leave, content.data) == (True, b"{}")
    life.stop()


def test_nobody_is_present_after_a_restart() -> None:
    life = Life.begin()
    run(life.engine.presence_add("a", ClientInfo("u", "c")))
    life = life.again()
    assert run(life.engine.presence("a")) == {}
    life.stop()


@AGAIN
def test_a_content_token_that_was_in_use_ends_an_hour_after_the_restart(again: Again) -> None:
    life = Life.begin()
    life.put_content(b"t", life=100.0)
    held = life.claim(b"t", holder=b"h")
    assert held is not None
    life.later(7 * DAY)
    life = again(life)
    assert life.claim(b"t", holder=b"i") is None
    life.later(3599.0)
    life = life.crashed()  # A second restart does not put it off.
    life.later(2.0)
    assert life.claim(b"t", holder=b"h") is None
    life.stop()


@AGAIN
def test_a_position_that_a_client_was_told_holds_without_any_publication(again: Again) -> None:
    life = Life.begin()
    position = life.since("a").position
    assert life.count("streams") == 0  # The epoch says all.
    life = again(life)
    assert life.since("a", position).complete
    life.publish("a", size=10)
    assert len(life.since("a", position).publications) == 1
    life.stop()


@AGAIN
def test_what_was_forgotten_or_removed_does_not_come_back(again: Again) -> None:
    life = Life.begin()
    for number in range(5):
        life.publish("a", b"%d" % number, size=10, ttl=60.0)
        life.publish("b", b"%d" % number, size=10, ttl=600.0)
    life.remove("b")
    position = life.since("b").position
    life.later(61.0)
    life = again(life)
    assert life.kept("a") == life.kept("b") == []
    assert life.since("b").position == position
    assert life.since("a").position.offset == 5
    life.stop()


@AGAIN
def test_streams_over_their_time_are_gone_for_good(again: Again) -> None:
    life = Life.begin()
    life.publish("a", size=10, ttl=60.0)
    old = life.since("a").position
    life.later(2 * DAY)
    assert life.count("streams") == life.count("publications") == 0
    new = life.since("a").position
    assert new.epoch != old.epoch
    life = again(life)
    assert life.since("a").position == new
    life.stop()


def test_a_quiet_stream_outlives_a_restart_by_an_hour() -> None:
    life = Life.begin()
    run(life.engine.subscribe("a"))
    life.publish("a", size=10, ttl=60.0)
    position = life.since("a").position
    life.later(7 * DAY)  # Followed all the time.
    life = life.again()
    life.later(3500.0)
    assert life.since("a").position == position
    life.stop()


def test_secrets_are_not_in_the_file() -> None:
    life = Life.begin(durability="commit")
    grant = Grant("u", START, content_tokens={"channel": "content-secret"})
    life.put(b"d" * 32, grant)
    life.put_out("a", idempotency_key="idempotency-secret")
    kept = b"".join(path.read_bytes() for path in Path(life.directory).iterdir())
    life.stop()
    kept += life.file.read_bytes()
    assert b"d" * 32 in kept
    assert b"secret" not in kept


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    life = Life.begin(str(tmp_path / "new" / "state"))
    life.publish("a", size=10)
    assert stat.S_IMODE(os.stat(life.directory).st_mode) == 0o700
    files = list(Path(life.directory).iterdir())
    assert len(files) == 5  # The file, what SQLite has beside it, the mark and the lock.
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    life.stop()


# --- Durabilities ----------------------------------------------------------------------------


@pytest.fixture
def reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the machine look as if it had been started anew, with this id."""

    def start_anew(boot: str) -> None:
        boot_id = tmp_path / "boot_id"
        boot_id.write_text(boot)
        monkeypatch.setattr(runs, "BOOT_ID", boot_id)

    start_anew("first")
    return start_anew


@pytest.mark.parametrize(
    ("durability", "again", "boot", "same"),
    [
        ("commit", Life.again, "second", True),
        ("commit", Life.crashed, "first", True),
        ("commit", Life.crashed, "second", True),
        ("write", Life.again, "second", True),
        ("write", Life.crashed, "first", True),
        ("write", Life.crashed, "second", False),
        ("write", Life.crashed, "", False),
        ("none", Life.again, "second", True),
        ("none", Life.crashed, "first", False),
    ],
)
def test_where_something_may_be_lost_positions_do_not_hold(
    durability: str, again: Again, boot: str, same: bool, reboot: Callable[[str], None]
) -> None:
    life = Life.begin(durability=durability)
    life.publish("a", b"1", size=10, ttl=600.0)
    position, quiet = life.since("a").position, life.since("quiet").position
    life.stop()
    life = Life.begin(life.directory, durability=durability, clock=life.clock)
    assert life.since("a").position == position
    reboot(boot)
    life = again(life)
    assert life.since("a", position).complete is same
    assert life.since("quiet", quiet).complete is same
    assert life.since("a").position.offset == 1
    assert life.kept("a") == [(1, b"1")]
    new = life.since("a").position
    assert (new == position) is same
    life = life.again()
    assert life.since("a").position == new
    life.stop()


def test_without_durability_the_answer_is_there_at_once() -> None:
    life = Life.begin(durability="none")
    for number in range(50):
        assert outcome(life.publishing("a", b"%d" % number, size=5))
    assert outcome(life.engine.revoke_token(b"t", START + DAY))
    life = life.again()
    assert life.kept("a") == [(n, b"%d" % (n - 1)) for n in range(46, 51)]
    assert not life.put(b"t", life.grant())
    life.stop()


def test_the_durability_may_change() -> None:
    life = Life.begin(durability="none")
    life.publish("a", b"1", size=10, ttl=600.0)
    life = life.again("commit")
    life.publish("a", b"2", size=10, ttl=600.0)
    life = life.crashed("write")
    assert life.kept("a") == [(1, b"1"), (2, b"2")]
    life.stop()


# --- Order and answers -----------------------------------------------------------------------


def test_nothing_is_seen_before_it_is_written() -> None:
    life = Life.begin()
    run(life.engine.subscribe("a"))
    life.publish("a", b"1", size=10, ttl=600.0)
    other = life.open_file()
    other.execute("BEGIN IMMEDIATE")  # The disk is slow.
    published = outcome(life.publishing("a", b"2"))
    revoked = outcome(life.engine.revoke_token(b"t", START + DAY))
    unkept = outcome(life.publishing("a", b"3", size=0))
    aside = outcome(life.publishing("b", b"4", size=0))
    assert [published, revoked, unkept] == [[], [], []]
    assert aside  # Of another channel, and nothing to write.
    assert life.since("a").position.offset == 1
    assert [p.data for p in life.events.publications] == [b"1"]
    assert not life.put(b"t", life.grant())  # What is refused is refused at once.
    other.execute("ROLLBACK")
    other.close()
    settle()
    assert published
    assert revoked
    assert unkept
    assert [p.data for p in life.events.publications] == [b"1", b"2", b"3"]
    life.stop()


def test_many_publishes_share_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life.begin()
    commits: list[int] = []
    write = store.Store.write

    def counted(self: store.Store, batch: Any) -> bool:
        commits.append(sum(len(each.publications) for each in batch.streams))
        return write(self, batch)

    monkeypatch.setattr(store.Store, "write", counted)
    doing = [life.publishing(f"c{number % 7}", b"%d" % number) for number in range(200)]
    for each in doing:
        run(each)
    # The first is written at once, all that came meanwhile together; less what was pushed out.
    assert commits == [1, 7 * 10]
    life.stop()


def test_a_node_that_fails_does_not_keep_the_others_from_their_answers(
    flush_logged_errors: Callable[..., list[Failure]],
) -> None:
    class Failing(FakeEvents):
        def publication_received(self, publication: Publication) -> int:
            if publication.data == b"1":
                raise ZeroDivisionError
            return super().publication_received(publication)

    life = Life.begin()
    life.stop()
    clock = life.clock
    engine = MemoryEngine(clock, journal(life.directory))
    events = Failing()
    run(engine.start(events))
    run(engine.subscribe("a"))
    doing = [
        engine.publish(Publication("a", b"%d" % number), PublishOptions(10, 60.0))
        for number in range(3)
    ]
    run(doing[0])
    with pytest.raises(ZeroDivisionError):
        run(doing[1])
    assert run(doing[2]).position is not None
    found = run(engine.history("a", None, -1, False))
    assert [p.data for p in found.publications] == [b"0", b"1", b"2"]
    run(engine.stop())


def test_one_who_publishes_again_from_an_answer_has_his_turn() -> None:
    life = Life.begin()
    doing = life.publishing("a", b"1")
    again = doing.addCallback(lambda _: life.publishing("a", b"2"))
    assert run(again).position == StreamPosition(2, life.since("a").position.epoch)
    life.stop()


def test_what_cannot_be_written_is_the_fault_of_one_publish_alone() -> None:
    life = Life.begin()
    good = life.publishing("a", b"1")
    with pytest.raises(UnicodeEncodeError):
        run(
            life.engine.publish(
                Publication("a", b"2", tags={"t": "\ud800"}), PublishOptions(10, 60.0)
            )
        )
    with pytest.raises(OverflowError):
        life.put_out("a", version=2**64)
    assert run(good).position is not None
    life.publish("a", b"3", size=10)
    assert [data for _, data in life.kept("a")] == [b"1", b"3"]
    life.stop()


def test_an_asker_who_left_does_not_matter() -> None:
    life = Life.begin()
    doing = life.engine.since("a", None, 0)
    gone = outcome(doing)
    doing.cancel()
    publishing = life.publishing("a")
    left = outcome(publishing)
    publishing.cancel()
    assert gone
    assert left
    settle()
    assert len(life.kept("a")) == 1
    life.stop()


def test_stop_writes_what_waits() -> None:
    life = Life.begin(durability="commit")
    doing = [outcome(life.publishing("a", b"%d" % number, size=2000)) for number in range(1500)]
    forgotten = outcome(life.engine.grant_forget("u"))
    life = life.again()
    assert all(doing)
    assert not any(isinstance(each, Failure) for [each] in doing)
    assert forgotten == [None]
    assert len(life.kept("a")) == 1500
    assert not life.put(b"t", Grant("u", START))
    life.stop()


@pytest.mark.parametrize("when", ["before it starts", "after its end"])
def test_an_engine_that_does_not_run_refuses_what_it_would_have_to_write(when: str) -> None:
    life = Life.begin()
    life.stop()
    if when == "before it starts":
        life.engine = MemoryEngine(life.clock, journal())
    for doing in (
        outcome(life.publishing("a")),
        outcome(life.engine.history_remove("a")),
        outcome(life.engine.grant_forget("u")),
    ):
        [failure] = doing
        assert isinstance(failure, Failure)
        assert failure.check(NotConnected)
    assert life.since("a").position.offset == 0


def test_stop_while_it_starts() -> None:
    clock = Clock()
    directory = new_directory()
    engine = MemoryEngine(clock, journal(directory))
    starting = engine.start(FakeEvents())
    run(engine.stop())
    run(starting)
    assert clock.getDelayedCalls() == []
    run(engine.stop())
    Life.begin(directory).stop()  # It is not locked any more.


# --- Too much, too full ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"), [(1, MAX_WAITING), (MAX_WAITING_BYTES // 8, 7)], ids=["count", "bytes"]
)
def test_a_bounded_number_of_publishes_waits(size: int, count: int) -> None:
    life = Life.begin()
    other = life.open_file()
    other.execute("BEGIN IMMEDIATE")
    data = b"1" * size
    first = life.publishing("a")
    doing = [life.publishing("a", data, size=1) for _ in range(count)]
    with pytest.raises(Overloaded):
        run(life.publishing("b", data))
    with pytest.raises(Overloaded):
        run(life.publishing("a", data, size=0))
    other.execute("ROLLBACK")
    other.close()
    run(first)
    for each in doing:
        run(each)
    assert life.since("a").position.offset == count + 1
    life.publish("b", size=10)
    life.stop()


def fill(life: Life, ttl: float) -> tuple[int, EngineUnavailable]:
    """Publish until it is refused; give how many there are, and the error."""
    for number in range(10_000):
        try:
            life.publish(f"c{number}", b"1" * 1000, size=10, ttl=ttl)
        except EngineUnavailable as error:
            return number, error
    raise AssertionError("there is always room")


def test_a_full_disk_refuses_publishes_until_there_is_room() -> None:
    life = Life.begin(max_size=400_000)
    run(life.engine.subscribe("free"))
    life.put(b"early", life.grant("u"))
    count, error = fill(life, ttl=100.0)
    assert count > 100
    assert isinstance(error, Overloaded)
    assert "full" in str(error)
    assert life.events.told[-1] == ("state", False)
    told = len(life.events.told)
    with pytest.raises(Overloaded):
        life.publish("c0", size=10)
    with pytest.raises(Overloaded):
        life.remove("c0")
    assert life.publish("free", size=0) == (None, 1)  # There is nothing to write.
    assert life.since("new").complete  # Clients are served …
    assert life.put(b"late", life.grant("v"))
    assert life.get(b"late") is not None
    with pytest.raises(OutcomeUnknown):  # … and the CMS is told.
        run(life.engine.revoke_token(b"early", START + DAY))
    assert life.get(b"early") is None  # It is in effect all the same.
    life.later(5.0)
    assert len(life.events.told) == told  # Tried again and again, and told once.
    life.later(130.0)  # Old publications go, and make room.
    assert life.events.told[-1] == ("state", True)
    life.publish("c0", b"new", size=10, ttl=600.0)
    position = life.since("new").position
    life = life.crashed()
    assert life.kept("c0") == [(2, b"new")]
    assert not life.put(b"early", life.grant("u"))
    assert life.get(b"late") is not None
    assert life.since("new").position == position
    life.stop()


def test_a_full_disk_loses_nothing_that_was_answered() -> None:
    life = Life.begin(max_size=400_000)
    count, _ = fill(life, ttl=DAY)
    for number in (0, count // 2, count - 1):
        assert len(life.kept(f"c{number}")) == 1
    assert life.kept(f"c{count}") == []
    life = life.crashed()
    for number in (0, count // 2, count - 1):
        assert life.kept(f"c{number}") == [(1, b"1" * 1000)]
    assert life.kept(f"c{count}") == []
    assert life.since(f"c{count}").position.offset == 0
    life.publish(f"c{count}", size=10)
    life.stop()


def test_a_failed_batch_fails_all_its_publishes_in_order() -> None:
    life = Life.begin()
    run(life.engine.subscribe("a"))
    other = life.open_file()
    other.execute("BEGIN IMMEDIATE")
    first = outcome(life.publishing("a", b"1"))
    doing = [
        outcome(life.engine.publish(Publication("a", b"2"), options))
        for options in (
            PublishOptions(10, 60.0, idempotency_key="k", version=4),
            PublishOptions(10, 60.0, idempotency_key="k"),
            PublishOptions(),
            PublishOptions(10, 60.0),
        )
    ]
    doing.append(outcome(life.engine.history_remove("a")))
    settle()  # SQLite gives up waiting for the lock.
    [failure] = first
    assert isinstance(failure, Failure)
    assert failure.check(Overloaded)
    kinds = [isinstance(each, Failure) for [each] in doing]
    assert kinds == [True, True, False, True, True]
    assert [p.data for p in life.events.publications] == [b"2"]
    assert life.events.told == [("state", False)]
    other.execute("ROLLBACK")
    other.close()
    life.later(2.0)
    assert life.events.told == [("state", False), ("state", True)]
    answer = life.put_out("a", b"3", idempotency_key="k", version=1)
    assert not answer.duplicate
    assert life.kept("a") == [(1, b"3")]
    life = life.crashed()
    assert life.kept("a") == [(1, b"3")]
    life.stop()


def test_a_disk_that_does_not_answer_turns_the_engine_red() -> None:
    life = Life.begin()
    other = life.open_file()
    other.execute("BEGIN IMMEDIATE")
    waiting = outcome(life.publishing("a"))
    life.clock.advance(11.0)
    assert life.events.told == [("state", False)]
    with pytest.raises(Overloaded):
        run(life.publishing("b"))
    with pytest.raises(OutcomeUnknown):
        run(life.engine.grant_forget("u"))
    [failure] = waiting
    assert isinstance(failure, Failure)
    assert failure.check(OutcomeUnknown)
    other.execute("ROLLBACK")
    other.close()
    settle()
    assert life.events.told == [("state", False), ("state", True)]
    life.publish("b", size=10)
    life.stop()


@pytest.mark.parametrize("fault", [None, Overloaded("full"), OutcomeUnknown("broken")])
def test_nobody_waits_for_a_disk_that_does_not_answer(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes at last takes effect, in its order; what it was not given never does."""
    life = Life.begin()
    run(life.engine.subscribe("a"))
    answer = Event()
    write = store.Store.write

    def slow(self: store.Store, batch: Any) -> bool:
        assert answer.wait(30.0)
        if fault is not None:
            raise fault
        return write(self, batch)

    def put_out(data: bytes, *given: Any, **options: Any) -> list[object]:
        publication = Publication("a", data)
        return outcome(life.engine.publish(publication, PublishOptions(*given, **options)))

    def faults(*asked: list[object]) -> list[type[BaseException] | None]:
        return [each.type if isinstance(each, Failure) else None for [each] in asked]

    with monkeypatch.context() as patched:
        patched.setattr(store.Store, "write", slow)
        taken = [put_out(b"1", 10, 600.0, idempotency_key="k")]
        left_out = [put_out(b"2", 10, 600.0), outcome(life.engine.history_remove("a"))]
        unkept = put_out(b"3")
        revoked = outcome(life.engine.revoke_token(b"gone", START + DAY))
        granted = outcome(life.engine.grant_put(b"t", life.grant(), START + DAY))
        life.clock.advance(9.0)
        assert not any((*taken, *left_out, unkept, revoked, granted))
        life.clock.advance(1.0)
        assert faults(*taken) == [OutcomeUnknown]
        assert faults(*left_out) == [Overloaded, Overloaded]
        assert faults(unkept, granted) == [None, None]  # Clients go on.
        assert faults(revoked) == [OutcomeUnknown]
        assert not life.put(b"gone", life.grant())  # It is in effect.
        assert [p.data for p in life.events.publications] == [b"3"]
        assert life.kept("a") == []
        answer.set()
        settle()
    life.later(2.0)
    assert life.events.told[-1] == ("state", True)
    there = [] if fault is not None else [b"1"]
    assert [p.data for p in life.events.publications] == [b"3", *there]
    assert [data for _, data in life.kept("a")] == there
    again = life.put_out("a", b"1", ttl=600.0, idempotency_key="k")
    assert again.duplicate is (fault is None)
    assert again.position is not None
    assert again.position.offset == 1
    life = life.crashed()
    assert life.kept("a") == [(1, b"1")]
    assert not life.put(b"gone", life.grant())
    life.stop()


def test_what_is_not_kept_goes_out_of_a_batch_that_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    life = Life.begin()
    run(life.engine.subscribe("a"))
    answers = Semaphore(0)
    write = store.Store.write

    def slow(self: store.Store, batch: Any) -> bool:
        assert answers.acquire(timeout=30.0)
        return write(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(store.Store, "write", slow)
        first = life.publishing("b")
        kept, unkept = (outcome(life.publishing("a", b"%d" % n, size=n)) for n in (1, 0))
        answers.release()
        run(first)  # The others are in the next batch.
        life.clock.advance(10.0)
        assert [isinstance(each, Failure) for [each] in (kept, unkept)] == [True, False]
        assert [p.data for p in life.events.publications] == [b"0"]
        answers.release(10)
        settle()
    assert [p.data for p in life.events.publications] == [b"0", b"1"]
    life.stop()


def test_stop_while_the_disk_is_full(
    flush_logged_errors: Callable[..., list[Failure]],
) -> None:
    life = Life.begin(max_size=200_000)
    count, _ = fill(life, ttl=DAY)
    life.stop()
    life = Life.begin(life.directory, clock=life.clock)
    assert len(life.kept(f"c{count - 1}")) == 1
    life.publish("x", size=10)
    life.stop()


def test_the_thread_ends_and_another_goes_on(
    flush_logged_errors: Callable[..., list[Failure]],
) -> None:
    life = Life.begin()
    life.publish("a", b"1", size=10, ttl=600.0)
    engine: Any = life.engine
    # Nothing that is public ends the thread: it is the fault that nobody thought of.
    ended = outcome(engine._journal._worker.call(sys.exit))
    doing = outcome(life.publishing("a", b"2"))
    settle()
    for [failure] in (ended, doing):
        assert isinstance(failure, Failure)
        assert failure.check(OutcomeUnknown)
    assert flush_logged_errors(SystemExit)
    assert life.events.told == [("state", False)]
    life.later(2.0)
    assert life.events.told == [("state", False), ("state", True)]
    life.publish("a", b"3", size=10, ttl=600.0)
    assert life.kept("a") == [(1, b"1"), (2, b"3")]
    life = life.crashed()
    assert life.kept("a") == [(1, b"1"), (2, b"3")]
    life.stop()


@pytest.mark.parametrize("durability", ["write", "none"])
def test_a_batch_of_unknown_outcome_that_was_written_leaves_nothing_behind(
    durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life.begin(durability=durability)
    for number in range(3):
        life.publish("a", b"%d" % number, size=3, ttl=600.0)
    settle()
    write = store.Store.write

    def unlucky(self: store.Store, batch: Any) -> bool:
        write(self, batch)
        raise OutcomeUnknown("the disk says no, and did it")

    with monkeypatch.context() as patched:
        patched.setattr(store.Store, "write", unlucky)
        doing = [outcome(life.publishing("a", b"x", size=3)) for _ in range(2)]
        key = PublishOptions(3, 600.0, idempotency_key="k", version=7)
        doing.append(outcome(life.engine.publish(Publication("a", b"x"), key)))
        settle()
        expected = [(n + 1, b"%d" % n) for n in range(3)]
        if durability == "none":
            expected = [(4, b"x"), (5, b"x"), (6, b"x")]
        else:
            assert all(isinstance(each, Failure) for [each] in doing)
        assert life.kept("a") == expected
    life.later(2.0)
    position = life.since("a").position
    life = life.crashed() if durability == "write" else life.again()
    assert life.since("a").position == position
    assert life.kept("a") == expected
    answer = life.put_out("a", b"y", size=3, idempotency_key="k", version=7)
    assert answer.duplicate is (durability == "none")
    life.stop()


# --- Size ------------------------------------------------------------------------------------


def test_the_file_has_what_is_kept_and_no_more() -> None:
    life = Life.begin()
    for number in range(100):
        life.publish("a", b"%d" % number, size=7, ttl=60.0)
        life.publish(f"b{number % 3}", size=1, ttl=600.0)
        life.put_out("a", size=0, idempotency_key=f"k{number}")
    assert life.count("publications") == 7 + 3
    assert life.count("streams") == 4
    assert life.count("facts") == 100 + 1  # And how the last run ended.
    life.later(61.0 + 30.0)
    assert life.count("publications") == 3
    life.later(600.0)
    assert life.count("publications") == 0
    assert life.count("facts") == 1
    life.later(2 * DAY)
    assert life.count("streams") == 0
    life.stop()


def test_what_is_over_while_nobody_runs_goes_after_the_start() -> None:
    life = Life.begin()
    for number in range(20):
        life.publish("a", b"%d" % number, size=100, ttl=60.0)
    life.put(b"t", life.grant(), START + 60.0)
    life.stop()
    life.clock.advance(3600.0)
    life = Life.begin(life.directory, clock=life.clock)
    assert life.kept("a") == []
    assert life.get(b"t") is None
    life.later(60.0)
    assert life.count("publications") == 0
    assert life.count("facts") == 1
    assert life.since("a").position.offset == 20
    life.stop()


def test_free_room_goes_back_to_the_disk_while_publishes_go_on() -> None:
    life = Life.begin()
    doing = [life.publishing(f"c{n % 50}", b"1" * 1000, size=100, ttl=60.0) for n in range(5000)]
    for each in doing:
        run(each)
    life.stop()
    full = life.file.stat().st_size
    assert full > 5_000_000
    life = Life.begin(life.directory, clock=life.clock)
    life.later(61.0)
    for _ in range(20):
        life.publish("a", size=10, ttl=600.0)
    life.later(60.0)
    settle()
    life.stop()
    assert life.file.stat().st_size < full / 3
    life = Life.begin(life.directory, clock=life.clock)
    assert len(life.kept("a")) == 10
    life.stop()


def test_a_backlog_of_old_publications_goes_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life.begin()
    doing = [life.publishing("a", size=10_000, ttl=60.0) for _ in range(2500)]
    doing += [life.publishing(f"b{number}", ttl=60.0) for number in range(1200)]
    for each in doing:
        run(each)
    gone: list[int] = []
    write = store.Store.write

    def counted(self: store.Store, batch: Any) -> bool:
        [before] = self.database.execute("SELECT count(*) FROM publications").fetchone()
        more = write(self, batch)
        [after] = self.database.execute("SELECT count(*) FROM publications").fetchone()
        gone.append(before - after)
        return more

    with monkeypatch.context() as patched:
        patched.setattr(store.Store, "write", counted)
        life.later(91.0)
    assert sum(gone) == 3700
    assert max(gone) <= 2000
    assert life.count("publications") == 0
    life.stop()
