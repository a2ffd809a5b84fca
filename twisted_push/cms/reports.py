"""Tells a CMS which users are online: its table of them, or its hook.

The CMS may be down, slow, or refuse one user only; users come and go meanwhile. So what counts is
the newest state of each user: it is told of a user once at a time, never of a state that it knows,
and again after each failure until it knows the newest state.

Drupal's module is told of one user in a message, ``userOnline`` or ``userOffline`` (dialect
``nodejs``). What it answers does not matter: a CMS without such a table says so, with status 200.
The hook (see ``hook``) is told of many at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import random

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_push.cms.messages import Messages
from twisted_push.errors import CmsUnavailable
from twisted_push.logbook import Logbook
from twisted_push.wheel import Wheel

__all__ = ["MAX_WAITING", "Change", "OnlineReports", "Teller", "reports_to_drupal"]

AT_ONCE = 4
"""Most messages to Drupal at once: it has more important questions to answer."""

MAX_WAITING = 10_000
"""Most users who wait to be reported, where nothing else is said."""

FIRST_DELAY = 1.0
"""Seconds until the second attempt; each further one doubles it."""

LONGEST_DELAY = 60.0
"""Seconds between two attempts in the end, unless the CMS asks for more."""

LINE_EVERY = 60.0
"""Least seconds between two lines of one kind in the log."""

SEVERAL = 4
"""So many times users are told of together; if the CMS answers that with nonsense, no longer."""

GRANULARITY = 0.25
"""Seconds by which an attempt may be late; `OnlineReports.tick` is called as often."""


@frozen
class Change:
    """A user came (``online``) or went, at a time in unix seconds."""

    user: str
    online: bool
    at: float


Tell = Callable[[Sequence[Change]], Awaitable[None]]


@frozen
class Teller:
    """How a CMS is told, by ``tell``, which raises `CmsUnavailable`; ``where`` it is, for the log.

    At most ``at_once`` calls at a time, of at most ``batch`` users; the first waits ``gather``
    seconds for others. Beyond ``max_waiting`` users who wait, the oldest is forgotten. ``lost`` is
    called for each user whose change the CMS is not told any more.
    """

    tell: Tell
    where: str
    at_once: int = 1
    batch: int = 1
    gather: float = 0.0
    max_waiting: int = MAX_WAITING
    lost: Callable[[], None] = lambda: None


@define(eq=False)
class _Report:
    """What is to be told of one user: the newest state, and whether it is being told.

    ``company``: at most so many users are told of together with this one, itself included.
    """

    online: bool
    at: float
    company: int
    sending: bool = False
    failures: int = 0


class OnlineReports:
    """The reports of one site to one CMS.

    `tick` is to be called again and again. While the CMS fails it is tried with one call at a time.
    ``jitter`` gives 0 to 1.

    It may be a single change that the CMS does not take, and all that are told with it. So a batch
    that it refuses for good, or that has failed several times, is told by halves: until that one is
    alone, which is dropped if it is refused for good.
    """

    _log = Logger()

    def __init__(
        self, teller: Teller, clock: IReactorTime, jitter: Callable[[], float] = random
    ) -> None:
        self._teller = teller
        self._clock = clock
        self._jitter = jitter
        self._closed = False
        self._reports: dict[str, _Report] = {}  # In the order they came.
        self._ready: dict[str, None] = {}
        self._later: Wheel[str] = Wheel(GRANULARITY)
        self._known_online: set[str] = set()
        self._senders: set[Deferred[None]] = set()
        self._failures = 0
        self._paused_until = 0.0
        self._gathered_at = 0.0
        self._failing = ""
        self._book = Logbook(clock, LINE_EVERY)

    @property
    def waiting(self) -> int:
        """How many users the CMS is yet to be told of."""
        return len(self._ready) + len(self._later)

    @property
    def sending(self) -> int:
        """How many it is being told of."""
        return len(self._reports) - self.waiting

    def report(self, user: str, online: bool) -> None:
        """Have the CMS told that a user came or went, now or as soon as it listens."""
        if self._closed:
            return
        now = self._clock.seconds()
        report = self._reports.get(user)
        if report is None:
            report = self._reports[user] = _Report(online, now, self._teller.batch)
            if not self._ready:
                self._gathered_at = now + self._teller.gather
            self._ready[user] = None
        report.online, report.at = online, now
        if online and not report.sending and user in self._known_online:
            self._forget(user)  # It did not hear of the going.
        elif self.waiting > self._teller.max_waiting:
            self._drop_oldest()
        self._send()

    def tick(self, now: float) -> None:
        """Do what is due at ``now``: further attempts, and lines in the log."""
        if self._closed:
            return
        for user in self._later.due(now):
            self._ready[user] = None
        self._write()
        self._send()

    def close(self) -> None:
        """End: nothing more is told."""
        self._closed = True
        self._book.close()
        self._reports.clear()
        self._ready.clear()
        self._known_online.clear()
        self._later = Wheel(GRANULARITY)
        for sender in tuple(self._senders):
            sender.cancel()

    # --- Sending -----------------------------------------------------------------------------

    def _send(self) -> None:
        while len(self._senders) < self._teller.at_once and self._may_send():
            sender = Deferred.fromCoroutine(self._send_in_turn())
            self._senders.add(sender)
            sender.addCallback(self._ended, sender)

    def _may_send(self) -> bool:
        if not self._ready or (self._failures and self.sending):
            return False
        return self._clock.seconds() >= max(self._paused_until, self._gathered_at)

    async def _send_in_turn(self) -> None:
        """Tell of one user, or many, after the other, while there are any and the CMS listens."""
        while self._may_send():
            await self._tell(self._next_batch())

    def _next_batch(self) -> Mapping[str, _Report]:
        """Take those who are told of next out of those who are ready."""
        batch: dict[str, _Report] = {}
        most = self._teller.batch
        for user in self._ready:
            most = min(most, self._reports[user].company)
            if len(batch) >= most:
                break
            batch[user] = self._reports[user]
        for user in batch:
            del self._ready[user]
        return batch

    async def _tell(self, batch: Mapping[str, _Report]) -> None:
        changes = [Change(user, report.online, report.at) for user, report in batch.items()]
        changes.sort(key=lambda change: change.at)
        for report in batch.values():
            report.sending = True
        try:
            await self._teller.tell(changes)
        except CmsUnavailable as error:
            self._failed(changes, error)
        except CancelledError:
            return  # By `close`.
        except Exception:
            self._log.failure("a report of who is online failed")
            for user in batch:
                self._reports.pop(user, None)
                self._known_online.discard(user)
        else:
            self._told(changes)

    def _told(self, changes: Sequence[Change]) -> None:
        if self._closed:
            return
        self._failures, self._paused_until = 0, 0.0
        self._failing = ""
        for change in changes:
            user, report = change.user, self._reports[change.user]
            if change.online:
                self._known_online.add(user)
            else:
                self._known_online.discard(user)
            report.sending, report.failures = False, 0
            report.company = self._teller.batch
            if report.online == change.online:
                del self._reports[user]
            else:
                self._ready[user] = None

    def _failed(self, changes: Sequence[Change], error: CmsUnavailable) -> None:
        if self._closed:
            return
        now = self._clock.seconds()
        self._failing = error.why
        batch = {change.user: self._reports[change.user] for change in changes}
        for user, report in batch.items():
            self._known_online.discard(user)  # It may have heard it all the same.
            report.sending = False
            report.failures += 1
        failures = max(each.failures for each in batch.values())
        if error.final:
            self._refused(changes, error.why)
        else:
            if error.alive and failures >= SEVERAL:
                self._part(batch)
            due = now + self._delay(failures)
            for user in batch:
                self._later.add(user, due)
        if now >= self._paused_until:  # Else it is one of several that failed together.
            self._failures += 1
            self._paused_until = now + max(error.retry_after or 0.0, self._delay(self._failures))
        while self.waiting > self._teller.max_waiting:
            self._drop_oldest()

    def _refused(self, changes: Sequence[Change], why: str) -> None:
        """The CMS does not take these, or one of them."""
        self._part({change.user: self._reports[change.user] for change in changes})
        for change in changes:
            self._ready[change.user] = None
        if len(changes) == 1 and self._reports[change.user].online == change.online:
            self._drop(change.user, why)

    def _part(self, batch: Mapping[str, _Report]) -> None:
        """Have no more than half of a batch told together."""
        for report in batch.values():
            report.company = max(1, len(batch) // 2)

    def _delay(self, failures: int) -> float:
        """Give seconds: at least half of what is due, so that attempts do not come in step."""
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
        return longest * (0.5 + 0.5 * self._jitter())

    def _ended(self, _: None, sender: Deferred[None]) -> None:
        self._senders.discard(sender)

    def _write(self) -> None:
        """Have the log say whether they fail, and why."""
        if self._failing:
            self._book.begins("failing", self._fails)
        else:
            self._book.ends(("failing",), self._works)

    def _fails(self) -> None:
        line = "the CMS at {url} cannot be told who is online: {why}; it is tried again"
        self._log.warn(line, url=self._teller.where, why=self._failing)

    def _works(self) -> None:
        self._log.info("the CMS at {url} is told who is online again", url=self._teller.where)

    # --- Forgetting --------------------------------------------------------------------------

    def _drop_oldest(self) -> None:
        user = next(user for user, report in self._reports.items() if not report.sending)
        self._drop(user, "too many wait")

    def _drop(self, user: str, why: str) -> None:
        self._forget(user)
        self._known_online.discard(user)
        self._teller.lost()

        def more(count: int) -> None:
            line = "the CMS at {url} is not told of {count} more users who came or went: {why}"
            self._log.warn(line, url=self._teller.where, count=count, why=why)

        if self._book.few(why, more, first=1):
            line = "the CMS at {url} is not told of a user who came or went: {why}"
            self._log.warn(line, url=self._teller.where, why=why)

    def _forget(self, user: str) -> None:
        del self._reports[user]
        self._ready.pop(user, None)
        self._later.discard(user)


def reports_to_drupal(
    messages: Messages,
    clock: IReactorTime,
    max_concurrent: int,
    jitter: Callable[[], float] = random,
) -> OnlineReports:
    """Make the reports to a CMS of the dialect ``nodejs``: a message for each user.

    ``max_concurrent`` is how many questions the CMS is asked at once by everybody; reports take a
    quarter of that at the most.
    """

    async def tell(changes: Sequence[Change]) -> None:
        for change in changes:
            kind = "userOnline" if change.online else "userOffline"
            await messages.tell(kind, {"uid": change.user})

    at_once = max(1, min(AT_ONCE, max_concurrent // 4))
    teller = Teller(tell, messages.exchange.where, at_once=at_once)
    return OnlineReports(teller, clock, jitter)
