"""One HTTP exchange with the CMS, with every guard: the CMS may be down, slow, faulty or hostile.

200 only; no redirects (the question carries secrets, and its answer says who somebody is); no
compressed answers (treq's client inflates whatever comes, without a limit); a limit on size and
on time; no cookies kept (Drupal starts a session for each question, and the next question must
not be asked in it); no more questions at once than the CMS can take, and none while it wants to be
left alone (`Shield`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Mapping
from random import random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent

from twisted_push.cms.attempt import Attempt, Fault, fault_from
from twisted_push.cms.breaker import Circuit
from twisted_push.cms.connections import Connections, StaleConnection, make_agent
from twisted_push.cms.entrance import Turn
from twisted_push.cms.lines import Lines
from twisted_push.cms.requests import Body, Question, request_headers, shown
from twisted_push.cms.retryafter import retry_after
from twisted_push.cms.shield import PATIENCE, Shield
from twisted_push.config import CallbackConfig
from twisted_push.errors import CmsUnavailable, Disconnect, PushError, Refused
from twisted_push.logbook import Logbook
from twisted_push.stats import SiteStats

if TYPE_CHECKING:
    from treq._types import _ITreqReactor

__all__ = ["Exchange"]

AGAIN_AFTER = 0.2
"""Least seconds until a connection that could not be made is tried once more; at most twice that.

A CMS that is just being started again refuses connections for a moment.
"""

_log = Logger()
_STOPPING = "the server is stopping"
_T = TypeVar("_T")


class Exchange:
    """Asks one CMS, by POST.

    ``agent`` replaces the site's own connections, for tests; ``answered`` are the statuses of an
    answer. With ``quiet`` nothing is logged: whoever asks has lines of its own. ``where`` is the
    CMS's address for the log, without what may be secret in it.
    """

    def __init__(
        self,
        config: CallbackConfig,
        reactor: IReactorTime,
        stats: SiteStats,
        agent: IAgent | None = None,
        answered: Container[int] = (200,),
        *,
        quiet: bool = False,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._config = config
        self._answered = answered
        self._clock = reactor
        self._stats = stats
        self._jitter = jitter
        self.where = shown(config.url)
        self._lines = Lines(_log, Logbook(reactor), quiet)
        self.shield = Shield(
            config.max_concurrent, config.max_waiting, reactor, self._lines, jitter
        )
        self._running: set[Deferred[bytes]] = set()
        self._closed = False
        self._connections = Connections(reactor, config.max_concurrent, config.max_answer_size)
        self._agent = agent or make_agent(reactor, self._connections, config.verify_tls)
        self._fresh = Connections(reactor, 0, config.max_answer_size)
        self._fresh_agent = agent or make_agent(reactor, self._fresh, config.verify_tls)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Give the bytes of an answer. See `ask`."""
        return await self.ask(body, headers, lambda answer, _: answer)

    async def ask(
        self,
        body: bytes,
        headers: Mapping[str, str],
        read: Callable[[bytes, float], _T],
        *,
        quiet: bool = False,
        url: str = "",
        once: bool = False,
        patience: float = PATIENCE,
        finish: bool = False,
        kind: str = "connect",
        asker: str = "",
    ) -> _T:
        """POST ``body`` and give what ``read`` makes of the answer.

        ``read`` is called with the answer's bytes and the time (unix seconds) at which the
        question went out; it raises `CmsUnavailable` for an answer that makes no sense, or
        `Refused` or `Disconnect` if that is the answer. Those are what this raises, too. That the
        CMS fails is a line in the log, not each time that it does; with ``quiet`` it is none.
        ``url`` is another address than the callback's. The question may be put twice, if a kept
        connection turns out to be dead; with ``once`` it goes by a new connection, and is not. It
        is put again in any case if no connection could be made. For ``kind`` and ``asker`` see
        `Question`.

        ``patience``: see `Shield.enter`. Who cancels leaves the queue. A question that is out goes
        on all the same, for the CMS goes on as well, and its turn is not given to another one
        before; with ``finish`` whoever cancels gets its answer even so.

        Header values are text of the browser's bytes as ISO-8859-1, as HTTP has it.
        """
        address = url or self._config.url
        question = Question(address, body, headers, once, quiet, kind, asker)
        turn = await self._turn(question, patience)
        doing = Deferred.fromCoroutine(self._carry_out(turn, read))
        try:
            return await _outcome_of(doing)
        except CancelledError:
            if not finish or self._closed:
                doing.addErrback(_for_nobody)
                raise
        return await doing

    def close(self) -> Deferred[None]:
        """End what is under way with `CmsUnavailable`; fires when every connection is gone."""
        self._closed = True
        self.shield.close(CmsUnavailable(_STOPPING))
        self._lines.close()
        for running in tuple(self._running):
            running.cancel()
        fresh = self._fresh.close()
        return self._connections.close().addCallback(lambda _: fresh)

    # --- In its turn -------------------------------------------------------------------------

    async def _turn(self, question: Question, patience: float) -> Turn:
        """Wait for a turn. Raises `CmsUnavailable` if there is none to be had."""
        if self._closed:
            raise CmsUnavailable(_STOPPING)
        try:
            return await self.shield.enter(question, patience)
        except CmsUnavailable as error:
            if not self._closed:
                self._stats.callbacks[error.why] += 1
            raise

    async def _carry_out(self, turn: Turn, read: Callable[[bytes, float], _T]) -> _T:
        """Put a question, read its answer and give the turn back. Raises as `ask`."""
        self._stats.callbacks_in_flight += 1
        try:
            result = read(await self._answer(turn.question), turn.began)
        except (Refused, Disconnect):
            self._succeeded(turn, "refused")
            raise
        except Fault as fault:
            raise self._failed(turn, fault) from None
        except CmsUnavailable as error:
            senseless = Fault("malformed", error.why.removeprefix("malformed: "))
            raise self._failed(turn, senseless) from None
        except BaseException as error:
            self._over(turn)
            self.shield.abandoned(turn)
            if self._closed and isinstance(error, CancelledError):
                raise CmsUnavailable(_STOPPING) from None
            raise
        self._succeeded(turn, "ok")
        return result

    def _succeeded(self, turn: Turn, outcome: str) -> None:
        self._over(turn)
        if not self._closed:
            self._stats.callbacks[outcome] += 1
            self._lines.answered(turn.question.url)
        self.shield.answered(turn)

    def _failed(self, turn: Turn, fault: Fault) -> CmsUnavailable:
        """Take notice that there is no usable answer; give the error that says so."""
        self._over(turn)
        question = turn.question
        pause = retry_after(fault.later, self._clock.seconds()) or 0.0
        if not self._closed:
            self._stats.callbacks[fault.outcome] += 1
            if not question.quiet:
                self._lines.failed(question.url, fault.outcome, fault.why)
        again_after = self.shield.failed(turn, slow=fault.overload, alive=fault.alive, pause=pause)
        return CmsUnavailable(fault.why, again_after, alive=fault.alive, final=fault.final)

    def _over(self, turn: Turn) -> None:
        self._stats.callbacks_in_flight -= 1
        self._stats.callback_duration.observe(self._clock.seconds() - turn.began)

    # --- The request -------------------------------------------------------------------------

    async def _answer(self, question: Question) -> bytes:
        """Give the answer's body within the timeout, or raise `Fault` or `CancelledError`."""
        running = _cancellable(self._send(question))
        running.addTimeout(self._config.timeout, self._clock)
        self._running.add(running)
        try:
            return await running
        except (Fault, CancelledError):
            raise
        except TimedOut:
            raise Fault("timeout", f"after {self._config.timeout:g} s", overload=True) from None
        except Exception as error:
            raise fault_from(Failure(error)) from None
        finally:
            self._running.discard(running)

    async def _send(self, question: Question) -> bytes:
        try:
            return await self._send_once(question)
        except StaleConnection:
            # The others that are kept are likely to be dead as well.
            self._connections.closeCachedConnections()
        except ConnectError:
            # Nothing was sent: whatever the question is, the CMS knows nothing of it.
            if self.shield.circuit(question.kind) is not Circuit.CLOSED:
                raise
            await deferLater(self._clock, AGAIN_AFTER * (1.0 + self._jitter()))
        return await self._send_once(question)

    async def _send_once(self, question: Question) -> bytes:
        # A kept connection may break after the CMS has read all: whether it acted is not known.
        agent = self._fresh_agent if question.once else self._agent
        attempt = Attempt(agent, self._config.max_answer_size, self._answered)
        # A client per request: so no cookie outlives its answer.
        client = HTTPClient(attempt, data_to_body_producer=Body)
        await client.post(
            question.url,
            data=question.body,
            headers=request_headers(question.headers),
            auth=self._config.basic_auth,
            allow_redirects=False,
            unbuffered=True,
            # Not used without treq's own timeout, but without it treq imports the global one.
            reactor=cast("_ITreqReactor", self._clock),
        )
        return await attempt.read()


def _outcome_of(doing: Deferred[_T]) -> Deferred[_T]:
    """Give a Deferred with the outcome of another one, which goes on if that is cancelled."""
    outcome: Deferred[_T] = Deferred()

    def pass_on(result: _T | Failure) -> _T | Failure | None:
        if outcome.called:
            return result
        if isinstance(result, Failure):
            outcome.errback(result)
        else:
            outcome.callback(result)
        return None

    doing.addBoth(pass_on)
    return outcome


def _for_nobody(failure: Failure) -> None:
    """Take note of how a question failed whose asker is gone, if that is a fault of ours."""
    if not failure.check(CancelledError, PushError):
        _log.failure("a question that nobody waits for failed", failure)


def _cancellable(coroutine: Coroutine[Deferred[Any], Any, bytes]) -> Deferred[bytes]:
    """Run a coroutine in a Deferred that, cancelled, fails with `CancelledError` in any case.

    Twisted's clients fail with other errors then, depending on how far they had got.
    """
    over = False

    def cancel(_: Deferred[bytes]) -> None:
        nonlocal over
        over = True
        running.cancel()

    result: Deferred[bytes] = Deferred(cancel)
    running = Deferred.fromCoroutine(coroutine)
    running.addCallbacks(
        lambda body: None if over else result.callback(body),
        lambda failure: None if over else result.errback(failure),
    )
    return result
