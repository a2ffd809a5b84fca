"""Whatever is done, and whenever it stops or crashes: the journal gives back what was there.

The model is the memory engine without a journal, which lives through everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from tests.contract.bench import START, Bench, clean_up, run, settle, start
from tests.unit.engines.support import Life, failing_writes
from twisted_push.engines.journal import saving
from twisted_push.engines.memory import MemoryEngine
from twisted_push.errors import EngineUnavailable, OutcomeUnknown
from twisted_push.model import (
    ChannelGrant,
    ChannelOverlay,
    ContentToken,
    Grant,
    PresenceList,
    Publication,
    PublishOptions,
)

CHANNELS = st.sampled_from(["a", "b", "c"])
USERS = st.sampled_from(["u", "v"])
TOKENS = st.sampled_from([b"s", b"t"])
HOLDERS = st.sampled_from([b"h", b"i"])
OPTIONS = st.builds(
    PublishOptions,
    st.integers(0, 4),
    st.sampled_from([20.0, 60.0, 5000.0]),
    st.sampled_from(["", "", "k", "l"]),
    st.integers(0, 3),
    st.sampled_from(["", "x"]),
)
LIFE = 20_000.0
"""Seconds for which facts hold; shorter than what a restart adds to the life of a stream."""


FAULTS = st.sampled_from(["not done", "unknown, not done", "unknown, done"])


@pytest.fixture(autouse=True, scope="module")
def _little_at_a_time() -> Iterator[None]:
    """Have old publications go one by one, so that there is a time between."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(saving, "HOUSEKEEPING", 1)
        yield


class Crashes(RuleBasedStateMachine):
    durability = "write"

    def __init__(self) -> None:
        super().__init__()
        self.life = Life.begin(durability=self.durability)
        clock = Clock()
        clock.advance(START)
        self.model: Bench = start(MemoryEngine, clock)
        self.epochs: dict[str, str] = {}
        self.in_use: set[bytes] = set()
        self.count = 0

    def both(self, method: str, *given: Any) -> Any:
        """Do the same to both; what they answer has to be the same, but for positions' epochs."""
        answers = []
        for each in (self.life, self.model):
            answers.append(run(getattr(each.engine, method)(*given)))
        return answers

    # --- Streams -----------------------------------------------------------------------------

    @rule(channel=CHANNELS, options=OPTIONS)
    def publish(self, channel: str, options: PublishOptions) -> None:
        self.count += 1
        found, expected = self.both("publish", Publication(channel, b"%d" % self.count), options)
        assert found.duplicate is expected.duplicate
        assert (found.position is None) is (expected.position is None)
        if found.position is not None:
            assert found.position.offset == expected.position.offset

    @rule(channel=CHANNELS, count=st.integers(2, 12), options=OPTIONS)
    def publish_many(self, channel: str, count: int, options: PublishOptions) -> None:
        """Publish some at once, so that they share a batch."""
        publications = [Publication(channel, b"%d" % (self.count + n)) for n in range(count)]
        self.count += count
        doing = [self.life.engine.publish(each, options) for each in publications]
        for each, expected in zip(doing, publications, strict=True):
            found = run(each)
            answer = run(self.model.engine.publish(expected, options))
            assert found.duplicate is answer.duplicate

    @rule(channel=CHANNELS)
    def remove(self, channel: str) -> None:
        self.both("history_remove", channel)

    @rule(seconds=st.sampled_from([1.0, 25.0, 100.0, 301.0]))
    def later(self, seconds: float) -> None:
        self.life.later(seconds)
        self.model.later(seconds)

    @rule(channel=CHANNELS, options=OPTIONS, fault=FAULTS, crash=st.booleans())
    def publish_in_vain(
        self, channel: str, options: PublishOptions, fault: str, crash: bool
    ) -> None:
        """Publish while the disk fails: refused, or there is nothing to write."""
        settle()
        self.count += 1
        publication = Publication(channel, b"%d" % self.count)
        with failing_writes(fault):
            try:
                run(self.life.engine.publish(publication, options))
            except EngineUnavailable:
                pass
            else:
                run(self.model.engine.publish(publication, options))
        self.streams_are_the_same()
        if crash and fault != "unknown, done":
            self.restart()
        self.later(2.0)
        settle()

    # --- Rights ------------------------------------------------------------------------------

    @rule(user=USERS, fault=FAULTS)
    def kick_in_vain(self, user: str, fault: str) -> None:
        """Kick while the disk fails: it is in effect, and written later."""
        settle()
        with failing_writes(fault):
            with suppress(OutcomeUnknown):
                run(self.life.engine.grant_forget(user))
            run(self.model.engine.grant_forget(user))
        self.rights_are_the_same()
        self.later(2.0)
        settle()

    @property
    def now(self) -> float:
        return self.life.clock.seconds()

    @rule(token=TOKENS, user=USERS, age=st.sampled_from([0.0, 50.0]), kept=CHANNELS)
    def put_grant(self, token: bytes, user: str, age: float, kept: str) -> None:
        grant = Grant(user, self.now - age, {kept: ChannelGrant(b"1")})
        found, expected = self.both("grant_put", token, grant, self.now + 200.0)
        assert found is expected

    @rule(user=USERS)
    def kick(self, user: str) -> None:
        self.both("grant_forget", user)

    @rule(token=TOKENS, life=st.sampled_from([100.0, LIFE]))
    def log_out_token(self, token: bytes, life: float) -> None:
        self.both("revoke_token", token, self.now + life)

    @rule(user=USERS, life=st.sampled_from([100.0, LIFE]))
    def log_out_user(self, user: str, life: float) -> None:
        self.both("revoke_user", user, self.now + life)

    @rule(user=USERS, channel=CHANNELS, added=st.booleans(), life=st.sampled_from([100.0, LIFE]))
    def overlay(self, user: str, channel: str, added: bool, life: float) -> None:
        overlay = ChannelOverlay(self.now, ChannelGrant(b"2") if added else None, self.now + life)
        self.both("overlay_set", user, channel, overlay)

    @rule(user=USERS, seen_by=st.frozensets(USERS), life=st.sampled_from([100.0, LIFE]))
    def list_presence(self, user: str, seen_by: frozenset[str], life: float) -> None:
        self.both("presence_list_set", user, PresenceList(self.now, seen_by, self.now + life))

    @rule(token=TOKENS, channel=CHANNELS)
    def put_content(self, token: bytes, channel: str) -> None:
        self.both("content_put", token, ContentToken(channel, self.now + 100.0), 10)
        self.in_use.discard(token)

    @rule(token=TOKENS, channel=CHANNELS, holder=HOLDERS, user=USERS)
    def claim_content(self, token: bytes, channel: str, holder: bytes, user: str) -> None:
        found, expected = self.both("content_claim", token, channel, holder, user)
        assert found == expected
        if found is not None:
            self.in_use.add(token)

    @rule(token=TOKENS, holder=HOLDERS, new=HOLDERS)
    def hand_over_content(self, token: bytes, holder: bytes, new: bytes) -> None:
        self.both("content_hand_over", token, holder, new)

    @rule(token=TOKENS)
    def remove_content(self, token: bytes) -> None:
        self.both("content_remove", token)

    @rule(channel=CHANNELS, user=USERS, all_of_it=st.booleans())
    def forget_content(self, channel: str, user: str, all_of_it: bool) -> None:
        self.both("content_forget", channel, None if all_of_it else user, None)

    @precondition(lambda self: self.in_use)
    @rule()
    def release_content(self) -> None:
        self.both("content_release", self.in_use.pop(), self.now + 100.0)

    @rule(channel=CHANNELS)
    def add_channel(self, channel: str) -> None:
        self.both("channel_add", channel, 10)

    @rule(channel=CHANNELS)
    def remove_channel(self, channel: str) -> None:
        self.both("channel_remove", channel)

    # --- Ends --------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.life = self.life.again()
        self.released()

    @precondition(lambda self: self.durability != "none")
    @rule()
    def crash(self) -> None:
        self.life = self.life.crashed()
        self.released()

    def released(self) -> None:
        """Content tokens that were in use end an hour after a restart."""
        for token in self.in_use:
            run(self.model.engine.content_release(token, self.now + 3600.0))
        self.in_use.clear()

    # --- What has to be ----------------------------------------------------------------------

    @invariant()
    def streams_are_the_same(self) -> None:
        for channel in "abc":
            found, expected = self.life.history(channel), self.model.history(channel)
            there = [(p.position and p.position.offset, p.data) for p in found.publications]
            assert there == [
                (p.position and p.position.offset, p.data) for p in expected.publications
            ]
            assert found.position.offset == expected.position.offset
            if found.position.offset:
                epoch = self.epochs.setdefault(channel, found.position.epoch)
                assert found.position.epoch == epoch

    @invariant()
    def rights_are_the_same(self) -> None:
        for token in (b"s", b"t"):
            found, expected = self.both("grant_get", token)
            assert found == expected
            for user in "uv":
                for age in (0.0, 60.0):
                    found, expected = self.both("grant_valid", token, Grant(user, self.now - age))
                    assert found is expected
        for user in "uv":
            for what in ("overlays", "presence_list"):
                found, expected = self.both(what, user)
                assert found == expected
        for channel in "abc":
            for method in ("content_known", "channel_added"):
                found, expected = self.both(method, channel)
                assert found is expected

    def teardown(self) -> None:
        self.life.stop()
        run(self.model.engine.stop())
        clean_up()


class Restarts(Crashes):
    durability = "none"


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRestarts = Restarts.TestCase
TestRestarts.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
