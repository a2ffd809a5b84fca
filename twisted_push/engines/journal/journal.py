"""When the journal is written: one batch at a time, and what follows from each.

Whoever has something to write is a contributor. A batch takes what they have by then, a thread
writes it in one transaction, and they are told. So many publishes share one commit, and the
reactor never waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_push.engines.journal.notes import FactNotes
from twisted_push.engines.journal.records import Batch, Loaded
from twisted_push.engines.journal.store import Store
from twisted_push.engines.journal.worker import Worker
from twisted_push.errors import EngineUnavailable, NotConnected, OutcomeUnknown, Overloaded

__all__ = ["Contributor", "Journal"]

RETRY = 1.0
"""Seconds between two tries while the file cannot be written."""

STUCK = 10.0
"""Seconds after which a disk that has not answered is taken for one that cannot be written."""

_log = Logger()


class Contributor(Protocol):
    """Has something to write now and then."""

    @property
    def waiting(self) -> bool:
        """Whether there is something."""

    def take(self, batch: Batch) -> None:
        """Add what there is to a batch; no other comes before its outcome is told."""

    def done(self) -> None:
        """What was taken is written."""

    def failed(self, error: EngineUnavailable) -> None:
        """What was taken is not written; with OutcomeUnknown it may be."""

    def late(self, error: OutcomeUnknown) -> None:
        """It may be long until the outcome is told: nobody is to wait for it any more."""


class Journal:
    """The journal of one engine, in a directory of its own.

    ``durability``: with ``commit`` what was answered is on the disk, with ``write`` it is with the
    operating system (a crash of this process loses nothing, one of the machine may), with ``none``
    it will be some time. ``max_size`` is the most bytes that the file may have, 0 for any number.
    """

    def __init__(
        self,
        directory: str,
        durability: str,
        reactor: IReactorFromThreads,
        *,
        max_size: int = 0,
    ) -> None:
        self.waits = durability != "none"
        self.notes = FactNotes()
        self.failing = ""
        self._directory = directory
        self._store = Store(directory, durability, max_size)
        self._reactor = reactor
        self._worker: Worker | None = None
        self._clock: IReactorTime
        self._state: Callable[[bool, str], None] | None = None
        self._contributors: Sequence[Contributor] = ()
        self._open = self._closing = False
        self._stuck: IDelayedCall | None = None
        self._tidy = False
        self._waiting: list[Deferred[None]] = []
        self._taken: list[Deferred[None]] = []
        self._turns: list[Deferred[None]] = []
        self._retry: IDelayedCall | None = None

    # --- Beginning and end -------------------------------------------------------------------

    async def open(self, clock: IReactorTime, state: Callable[[bool, str], None]) -> Loaded:
        """Give what the file has. Raises EngineRefused, with a line for the operator.

        ``state`` is told later when it cannot be written, and when it can again.
        """
        self._clock, self._state = clock, state
        self.notes = FactNotes()
        self._worker = Worker(self._reactor, "journal")
        try:
            loaded = await self._worker.call(self._store.open)
        except BaseException:
            self._end()
            raise
        if loaded.loss:
            _log.warn(
                "what was answered may be missing in the journal in {directory} ({why}): its"
                " channels begin a new epoch, and logouts may be forgotten",
                directory=self._directory,
                why=loaded.loss,
            )
        return loaded

    def begin(self, contributors: Sequence[Contributor]) -> None:
        """Write from now on."""
        self._contributors = (*contributors, self.notes)
        self._open = True
        self.poke()

    async def close(self) -> None:
        """Write what waits, and end. What cannot be written is given up."""
        if self._worker is None:
            return
        self._closing = True
        self._state = None
        if self._retry is not None:
            self._retry.cancel()
            self._again()
        while self.busy or (self._open and self._wanted and not self.failing):
            turn: Deferred[None] = Deferred()
            self._turns.append(turn)
            await turn
        self._open = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            _log.error("the journal is closed, and is not complete: {why}", why=self.failing)
        if self._worker.alive:
            try:
                clean = self.waits or not self.failing
                await self._worker.call(partial(self._store.close, clean=clean))
            except EngineUnavailable as error:
                _log.error("the journal could not be closed: {why}", why=error)
        self._end()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
        self._contributors = ()
        self._state = None
        self._open = self._closing = False
        self.failing = ""

    # --- What others ask ---------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a batch is being written."""
        return self._stuck is not None

    def check(self) -> None:
        """Raise NotConnected or Overloaded if nothing can be written now."""
        if not self._open or self._closing:
            raise NotConnected("the engine is not running")
        if self.failing:
            raise Overloaded(f"the journal cannot be written: {self.failing}")

    def written(self) -> Deferred[None]:
        """Fires when all that was noted by now is as safe as the durability says.

        Fails with OutcomeUnknown if it cannot be written now: it is in effect, and tried again.
        """
        try:
            self.check()
        except NotConnected as error:
            return fail(error)
        except Overloaded as error:
            return fail(OutcomeUnknown(*error.args))
        if not self.waits:
            self.poke()
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self.poke()
        return waiting

    def tidy(self) -> None:
        """Give room that is free in the file back to the disk, a little at a time."""
        self._tidy = True
        self.poke()

    def poke(self) -> None:
        """Write what there is, unless something is being written: then that is next."""
        while self._open and not self.busy and self._retry is None and self._wanted:
            self._write()

    # --- One batch ---------------------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return bool(self._tidy or self._waiting or any(c.waiting for c in self._contributors))

    def _write(self, *, probe: bool = False) -> None:
        """Write a batch; with ``probe`` see whether there is room for more, too."""
        batch = Batch(tidy=self._tidy, probe=probe)
        self._tidy = False
        self._stuck = self._clock.callLater(STUCK, self._late)
        self._taken, self._waiting = self._waiting, []
        try:
            for contributor in self._contributors:
                contributor.take(batch)
        except Exception:
            self._failed(Failure())
            return
        if batch.empty or self._worker is None:
            self._done(False)
            return
        writing: Deferred[Any] = self._worker.call(self._store.write, batch)
        writing.addCallbacks(self._done, self._failed)
        writing.addErrback(lambda failure: _log.failure("the journal failed", failure))
        writing.addCallback(lambda _: self.poke())

    def _done(self, more: bool) -> None:
        try:
            self._tidy = self._tidy or more
            if self.failing:
                self.failing = ""
                self._tell(True, "the journal is written again")
            for contributor in self._contributors:
                contributor.done()
            written, self._taken = self._taken, []
            for each in written:
                each.callback(None)
        finally:
            self._turn()

    def _failed(self, failure: Failure) -> None:
        try:
            error = failure.value
            if not isinstance(error, EngineUnavailable):
                _log.failure("the journal failed", failure)
                error = OutcomeUnknown("a fault of the server")
            self._retry = self._clock.callLater(RETRY, self._again)
            self._fail(str(error))
            for contributor in self._contributors:
                contributor.failed(error)
            self._give_up(str(error))
        finally:
            self._turn()

    def _late(self) -> None:
        """Have nobody wait for a disk that does not answer. What it writes at last counts."""
        why = "the disk does not answer"
        self._fail(why)
        for contributor in self._contributors:
            contributor.late(OutcomeUnknown(why))
        self._give_up(why)

    def _give_up(self, why: str) -> None:
        waiting, self._taken, self._waiting = [*self._taken, *self._waiting], [], []
        for each in waiting:
            each.errback(OutcomeUnknown(f"the journal cannot be written: {why}"))

    def _turn(self) -> None:
        stuck, self._stuck = self._stuck, None
        if stuck is not None and stuck.active():
            stuck.cancel()
        turns, self._turns = self._turns, []
        for each in turns:
            each.callback(None)

    def _again(self) -> None:
        self._retry = None
        if self._worker is not None and not self._worker.alive:
            self._worker = Worker(self._reactor, "journal")
        self._write(probe=True)

    # --- Whether it works --------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        first, self.failing = not self.failing, why
        if first:
            self._tell(False, f"the journal cannot be written: {why}")

    def _tell(self, works: bool, why: str) -> None:
        if self._state is not None:
            self._state(works, why)
