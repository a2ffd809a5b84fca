"""The hook that is told who is online: batches, order, further attempts, signature, bounds."""

from __future__ import annotations

import hmac
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.web.server import Request

from tests.unit.cms.support import NOW, Log, MemoryCms, clock_at, config
from twisted_push.cms import hook as hook_module
from twisted_push.cms.hook import BATCH, PresenceHook, _asking
from twisted_push.cms.reports import LONGEST_DELAY
from twisted_push.config import PresenceConfig, SiteConfig
from twisted_push.stats import SiteStats

HOOK = "http://cms.test/push/online?key=of-the-query"
SECRET = "a-secret-of-the-hook-with-32-bytes!"


class HookCms(MemoryCms):
    """A CMS that keeps a table of who is online. While it ``hangs`` it answers nothing.

    A batch with a user of ``poison`` it answers with the status ``poisoned``.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.online: set[str] = set()
        self.fails = self.late = False
        self.poison: set[str] = set()
        self.poisoned = 400
        self.most_open = 0

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        said = json.loads(request.content.read())
        request.content.seek(0)
        users = [event["user"] for event in said["events"]]
        assert len(set(users)) == len(users) <= BATCH
        if self.answer is not None:
            poisoned = not self.poison.isdisjoint(users)
            self.code = 503 if self.fails else self.poisoned if poisoned else 200
            if self.code == 200 or self.late:
                self._note(said["events"])
        answer = super().render_POST(request)
        self.most_open = max(self.most_open, len(self._open))
        return answer

    def _note(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            change = self.online.add if event["event"] == "online" else self.online.discard
            change(event["user"])

    @property
    def batches(self) -> list[list[tuple[str, str]]]:
        """The events of each request: user and what happened."""
        return [[(e["user"], e["event"]) for e in asked.json["events"]] for asked in self.asked]


class Bench:
    """A hook of a site, on a clock that ticks."""

    def __init__(self, url: str = HOOK, jitter: float = 1.0, **presence: Any) -> None:
        self.clock, self.stats, self.cms = clock_at(), SiteStats(), HookCms()
        site = SiteConfig(name="shop", presence=PresenceConfig(hook_url=url, **presence))
        self.hook = PresenceHook(site, self.clock, self.stats, self.cms.agent, lambda: jitter)

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.cms.agent.flush()
            self.hook.tick(self.clock.seconds())

    def attempts(self, seconds: float) -> list[float]:
        """Give the times, in seconds from now, at which the CMS was asked."""
        found = []
        began = self.clock.seconds()
        for _ in range(round(seconds / 0.25)):
            before = len(self.cms.asked)
            self.advance(0.25)
            found += [self.clock.seconds() - began] * (len(self.cms.asked) - before)
        return found

    def end(self) -> None:
        self.hook.close()
        self.cms.agent.flush()
        assert self.clock.getDelayedCalls() == []


def test_what_it_is_told() -> None:
    bench = Bench()
    bench.clock.advance(1.5)
    bench.hook.report("42", True)
    bench.advance(0.25)
    [asked] = bench.cms.asked
    assert asked.json == {
        "site": "shop",
        "since": NOW * 1000,
        "events": [{"user": "42", "event": "online", "time": (NOW + 1.5) * 1000}],
    }
    assert asked.header("Content-Type") == b"application/json"
    assert asked.header("X-Push-Signature") is None
    assert (bench.hook.url, bench.hook.waiting) == (HOOK, 0)
    bench.end()


def test_a_request_is_signed() -> None:
    bench = Bench(hook_secret=SECRET)
    bench.hook.report("é", True)
    bench.advance(0.25)
    [asked] = bench.cms.asked
    signature = hmac.new(SECRET.encode(), asked.body, "sha256").hexdigest()
    assert asked.header("X-Push-Signature") == f"sha256={signature}".encode()
    assert SECRET.encode() not in asked.body
    bench.end()


def test_those_who_come_together_are_told_together() -> None:
    bench = Bench()
    for number in range(3):
        bench.hook.report(str(number), True)
    assert bench.cms.asked == []
    assert bench.hook.waiting == 3
    assert bench.attempts(5) == [0.25]
    assert bench.cms.batches == [[("0", "online"), ("1", "online"), ("2", "online")]]
    bench.end()


def test_those_who_come_in_a_stream_do_not_put_it_off() -> None:
    bench = Bench()
    for number in range(8):
        bench.hook.report(str(number), True)
        bench.clock.advance(0.125)
        bench.hook.tick(bench.clock.seconds())
    told = [[user for user, _ in batch] for batch in bench.cms.batches]
    assert told == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    bench.end()


def test_one_request_at_a_time_of_a_bounded_size() -> None:
    bench = Bench()
    for number in range(2 * BATCH + 1):
        bench.hook.report(str(number), True)
    bench.cms.answer = None
    bench.advance(1)
    assert bench.cms.open == 1
    bench.cms.answer = {}
    bench.cms.reply({})
    bench.advance(0.25)
    assert [len(batch) for batch in bench.cms.batches] == [BATCH, BATCH, 1]
    assert bench.cms.most_open == 1
    assert bench.hook.waiting == 0
    bench.end()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_every_good_status_is_an_answer(status: int) -> None:
    class Cms(HookCms):
        def render_POST(self, request: Request) -> bytes | int:
            super().render_POST(request)
            request.setResponseCode(status)
            return b""

    bench = Bench(url="")
    bench.hook._agent = Cms().agent
    bench.hook.move(HOOK, ["1"])
    bench.advance(60)
    assert (bench.hook.waiting, bench.stats.hook_failures) == (0, 0)
    bench.end()


def test_a_cms_that_fails_twice(log: Log) -> None:
    bench = Bench(hook_secret=SECRET)
    bench.cms.fails = True
    bench.hook.report("1", True)
    assert bench.attempts(2) == [0.25, 1.25]
    bench.hook.report("2", True)
    bench.cms.fails = False
    assert bench.attempts(10) == [1.25]
    assert bench.cms.batches == [
        [("1", "online")],
        [("1", "online")],
        [("1", "online"), ("2", "online")],
    ]
    assert bench.stats.hook_failures == 2
    assert bench.stats.callbacks == {}
    bench.advance(60)
    assert len(log.lines) == 2  # That it fails, and that it works again.
    for text in ("of-the-query", SECRET):
        assert text not in log.everything
    bench.end()


def test_the_delay_grows_to_its_end() -> None:
    bench = Bench()
    bench.cms.fails = True
    bench.hook.report("1", True)
    times = bench.attempts(600)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:7] == [1, 2, 4, 8, 16, 32, LONGEST_DELAY]
    assert set(gaps[6:]) == {LONGEST_DELAY}
    bench.end()


def test_a_cms_that_asks_for_time_is_given_it() -> None:
    bench = Bench()
    bench.cms.fails = True
    bench.cms.headers["Retry-After"] = "30"
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.cms.fails = False
    bench.hook.report("2", True)
    assert bench.attempts(60) == [30]
    assert bench.cms.batches[-1] == [("1", "online"), ("2", "online")]
    bench.end()


@pytest.mark.parametrize(("status", "lost"), [(400, 2), (422, 2), (404, 2), (500, 0)])
def test_one_that_the_cms_does_not_take_keeps_no_other_back(
    status: int, lost: int, log: Log
) -> None:
    bench = Bench()
    bench.cms.poison, bench.cms.poisoned = {"17", "301"}, status
    for number in range(400):
        bench.hook.report(str(number), True)
    soon = 60 if lost else 600  # One that may be taken later is tried again, later each time.
    bench.advance(soon)
    assert bench.cms.online == {str(number) for number in range(400)} - {"17", "301"}
    assert bench.stats.hook_lost == lost
    assert bench.hook.waiting == 2 - lost
    bench.hook.report("late", True)
    bench.advance(soon)
    assert "late" in bench.cms.online
    assert sum(f"a user who came or went: status: {status}" in each for each in log.lines) == (
        1 if lost else 0
    )
    bench.end()


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_what_is_about_the_moment_is_told_again_as_a_whole(status: int) -> None:
    bench = Bench()
    bench.cms.poison, bench.cms.poisoned = {"1"}, status
    for number in range(3):
        bench.hook.report(str(number), True)
    bench.advance(3)
    assert [len(batch) for batch in bench.cms.batches] == [3, 3]
    assert bench.stats.hook_lost == 0
    bench.end()


def test_a_change_that_is_refused_is_dropped_and_not_the_next_one() -> None:
    bench = Bench()
    bench.cms.poison = {"1"}
    bench.cms.answer = None
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.hook.report("1", False)
    bench.cms.code = 400
    bench.cms.reply({})
    assert bench.stats.hook_lost == 0
    bench.cms.answer, bench.cms.poison = {}, set()
    bench.advance(5)
    assert bench.cms.batches == [[("1", "online")], [("1", "offline")]]
    bench.end()


def test_an_address_that_takes_nothing_is_not_flooded() -> None:
    bench = Bench()
    bench.cms.poison = {str(number) for number in range(200)}
    bench.cms.poisoned = 404
    for number in range(200):
        bench.hook.report(str(number), True)
    assert len(bench.attempts(600)) < 25
    bench.end()


def test_only_the_newest_state_waits() -> None:
    bench = Bench()
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.cms.fails = True
    for state in (False, True, False, True, False):
        bench.hook.report("1", state)
    bench.hook.report("2", True)
    bench.advance(1)
    for state in (False, True):
        bench.hook.report("2", state)
    bench.cms.fails = False
    bench.advance(60)
    assert bench.cms.batches[0] == [("1", "online")]
    rest = [sorted(batch) for batch in bench.cms.batches[1:]]
    assert rest == [[("1", "offline"), ("2", "online")]] * 2
    bench.end()


def test_one_who_is_back_before_it_was_told_is_no_news() -> None:
    bench = Bench()
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.hook.report("1", False)
    bench.hook.report("1", True)
    assert bench.attempts(60) == []
    bench.end()


def test_what_happens_while_it_is_told_comes_afterwards() -> None:
    bench = Bench()
    bench.cms.answer = None
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.hook.report("1", False)
    bench.advance(1)
    assert len(bench.cms.asked) == 1
    bench.cms.answer = {}
    bench.cms.reply({})
    bench.advance(0.25)
    assert bench.cms.batches == [[("1", "online")], [("1", "offline")]]
    bench.end()


def test_too_many_who_wait(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setattr(hook_module, "MAX_HOOK_WAITING", 700)
    bench = Bench()
    bench.cms.fails = True
    for number in range(1000):
        bench.hook.report(str(number), True)
        assert bench.hook.waiting <= 700
    bench.advance(0.5)
    assert bench.hook.waiting == 700
    assert "is not told of a user who came or went: too many wait" in log.lines[0]
    assert bench.stats.hook_lost == 300
    bench.end()
    assert "is not told of 299 more users" in log.lines[-1]


def test_too_many_while_a_batch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "MAX_HOOK_WAITING", 700)
    bench = Bench()
    bench.cms.answer = None
    for number in range(BATCH):
        bench.hook.report(f"a{number}", True)
    bench.advance(0.25)
    for number in range(700):
        bench.hook.report(f"b{number}", True)
    assert bench.hook.waiting == 700 + BATCH
    bench.cms.code = 503
    bench.cms.reply({})
    assert bench.hook.waiting == 700
    bench.end()


# --- Its address -----------------------------------------------------------------------------


def test_without_an_address_nothing_is_kept() -> None:
    bench = Bench(url="")
    bench.hook.report("1", True)
    bench.advance(60)
    assert (bench.hook.url, bench.hook.waiting, bench.cms.asked) == ("", 0, [])
    bench.end()


def test_a_new_address_is_told_of_those_who_are_here() -> None:
    bench = Bench()
    bench.cms.answer = None
    bench.hook.report("1", True)
    bench.advance(0.25)
    bench.hook.move("http://cms.test/other", ["1", "2"])
    assert (bench.cms.open, bench.cms.hung_up) == (0, 1)
    bench.cms.answer = {}
    bench.advance(0.25)
    assert bench.cms.batches[1:] == [[("1", "online"), ("2", "online")]]
    assert bench.cms.asked[1].request.uri == b"/other"
    bench.hook.move("", ["1", "2"])
    bench.hook.report("3", True)
    bench.advance(60)
    assert len(bench.cms.asked) == 2
    bench.end()


def test_it_is_asked_like_the_callback_but_for_its_password() -> None:
    callback = config(basic_auth=("user", "password"), verify_tls=False, timeout=2.0)
    same = _asking(callback, "http://cms.test:80/push/online")
    assert same.basic_auth == ("user", "password")
    assert (same.timeout, same.verify_tls, same.max_concurrent) == (2.0, False, 1)
    for url in ("https://cms.test/x", "http://cms.test:81/x", "http://other.test/x"):
        assert _asking(callback, url).basic_auth is None
    assert _asking(None, "http://a.test/").basic_auth is None


def test_closing_in_the_middle(log: Log) -> None:
    bench = Bench()
    bench.cms.answer = None
    bench.hook.report("1", True)
    bench.advance(0.25)
    closed = bench.hook.close()
    assert closed.called
    assert (bench.cms.open, bench.cms.hung_up) == (0, 1)
    bench.hook.report("2", True)
    bench.hook.move(HOOK, ["3"])
    bench.advance(60)
    assert len(bench.cms.asked) == 1
    assert bench.stats.hook_failures == 0
    assert log.lines == []
    bench.end()


# --- Any course of events --------------------------------------------------------------------

USERS = ("1", "2", "3", "4")
EVENT = st.one_of(
    st.tuples(st.just("report"), st.sampled_from(USERS), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((0.25, 1.0, 6.0, 90.0))),
    st.tuples(st.just("cms"), st.sampled_from(("works", "fails", "fails late"))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT, max_size=40), st.floats(0.0, 1.0))
def test_it_knows_the_true_state_once_it_answers(
    events: list[tuple[Any, ...]], jitter: float
) -> None:
    bench = Bench(jitter=jitter)
    state: dict[str, bool] = {}
    for event in [*events, ("cms", "works"), ("wait", 2 * LONGEST_DELAY)]:
        if event[0] == "report":
            state[event[1]] = event[2]
            bench.hook.report(event[1], event[2])
        elif event[0] == "wait":
            bench.advance(event[1])
        else:
            bench.cms.fails = event[1].startswith("fails")
            bench.cms.late = event[1].endswith("late")
        assert bench.hook.waiting <= len(USERS)
    assert bench.hook.waiting == 0
    assert {user: user in bench.cms.online for user in state} == state
    last: dict[str, float] = {}
    for asked in bench.cms.asked:
        for each in asked.json["events"]:
            assert each["time"] >= last.get(each["user"], 0.0)
            last[each["user"]] = each["time"]
    bench.end()
