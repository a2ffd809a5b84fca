"""One HTTP exchange with the CMS, with every guard: the CMS may be down, slow, faulty or hostile.

200 only; no redirects (the question carries secrets, and its answer says who somebody is); no
compressed answers (treq's client inflates whatever comes, without a limit); a limit on size and
on time; no cookies kept (Drupal starts a session for each question, and the next question must
not be asked in it); at most so many questions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import frozen
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_push.cms.connections import (
    Connections,
    Overrun,
    StaleConnection,
    causes,
    make_agent,
)
from twisted_push.cms.requests import Body, Question, request_headers, shown
from twisted_push.cms.retryafter import retry_after
from twisted_push.cms.turns import OVERLOADED, Turns
from twisted_push.config import CallbackConfig
from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.stats import SiteStats

if TYPE_CHECKING:
    from treq._types import _ITreqReactor

__all__ = ["Exchange"]

_STOPPING = "the server is stopping"
_T = TypeVar("_T")


@frozen
class _Fault(Exception):
    """Why there is no answer: the ``outcome`` counted, and ``detail`` (no secret, no payload).

    ``later`` is the header ``Retry-After``.
    """

    outcome: str
    detail: str = ""
    later: str | None = None

    @property
    def why(self) -> str:
        words = self.outcome.replace("_", " ")
        return f"{words}: {self.detail}" if self.detail else words


class _Reader(Protocol):
    """Collects a body up to ``limit`` bytes; cuts the connection beyond it, or when cancelled."""

    def __init__(self, response: IResponse, limit: int) -> None:
        self._response = response
        self._limit = limit
        self._size = 0
        self._chunks: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._size += len(data)
        if self._size > self._limit:
            self._chunks.clear()
            self.done.errback(_Fault("too_large", f"more than {self._limit} bytes"))
            self._cut()
        else:
            self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._chunks))
        elif getattr(self._response, "overrun", False):
            self.done.errback(Overrun())
        else:
            self.done.errback(reason)

    def _cut(self) -> None:
        abort = getattr(self._response, "abort", None)
        if abort is not None:
            abort()
        elif self.transport is not None:  # An agent that is not ours.
            self.transport.loseConnection()


@implementer(IAgent)
class _Attempt:
    """Stands between treq and the agent for one request: what gets past it may be read."""

    def __init__(self, agent: IAgent, limit: int, answered: Container[int]) -> None:
        self._agent = agent
        self._limit = limit
        self._answered = answered
        self._response: IResponse | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._received)

    def _received(self, response: IResponse) -> IResponse:
        self._response = response
        fault = self._fault_of(response)
        if fault is not None:
            reader = self._deliver()
            reader.done.addErrback(lambda _: None)
            reader.done.cancel()
            raise fault
        # They would not be kept, but read: thousands of them stop the reactor for 50 ms.
        response.headers.removeHeader(b"Set-Cookie")
        return response

    def _fault_of(self, response: IResponse) -> _Fault | None:
        if 300 <= response.code < 400:
            return _Fault("redirect", f"{response.code}")
        if response.code not in self._answered:
            later = (response.headers.getRawHeaders("Retry-After") or [None])[-1]
            return _Fault("status", f"{response.code}", later)
        encodings = b",".join(response.headers.getRawHeaders(b"Content-Encoding", []))
        if encodings.strip().lower() not in (b"", b"identity"):
            return _Fault("malformed", "it is compressed, though that was not asked for")
        if isinstance(response.length, int) and response.length > self._limit:
            return _Fault("too_large", f"more than {self._limit} bytes")
        return None

    def _deliver(self) -> _Reader:
        assert self._response is not None
        reader = _Reader(self._response, self._limit)
        self._response.deliverBody(reader)
        return reader

    def read(self) -> Deferred[bytes]:
        """Give the body as it was sent. Fails with `_Fault`, `Overrun` or twisted.web's errors."""
        return self._deliver().done


class Exchange:
    """Asks one CMS, by POST.

    ``agent`` replaces the site's own connections, for tests; ``answered`` are the statuses of an
    answer. ``where`` is the CMS's address for the log, without what may be secret in it.
    """

    _log = Logger()

    def __init__(
        self,
        config: CallbackConfig,
        reactor: IReactorTime,
        stats: SiteStats,
        agent: IAgent | None = None,
        answered: Container[int] = (200,),
    ) -> None:
        self._config = config
        self._answered = answered
        self._clock = reactor
        self._stats = stats
        self._turns = Turns(config.max_concurrent, config.max_waiting)
        self._running: set[Deferred[bytes]] = set()
        self._closed = False
        self._connections = Connections(reactor, config.max_concurrent, config.max_answer_size)
        self._agent = agent or make_agent(reactor, self._connections, config.verify_tls)
        self._fresh = Connections(reactor, 0, config.max_answer_size)
        self._fresh_agent = agent or make_agent(reactor, self._fresh, config.verify_tls)
        self.where = shown(config.url)

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
    ) -> _T:
        """POST ``body`` and give what ``read`` makes of the answer.

        ``read`` is called with the answer's bytes and the time (unix seconds) at which the
        question went out; it raises `CmsUnavailable` for an answer that makes no sense, or
        `Refused` or `Disconnect` if that is the answer. Those are what this raises, too:
        `CmsUnavailable` after one line in the log, or none if ``quiet``. ``url`` is another
        address than the callback's. The question may be put twice, if a kept connection turns out
        to be dead; with ``once`` it goes by a new connection, and is not.

        Header values are text of the browser's bytes as ISO-8859-1, as HTTP has it.
        """
        outcome = "malformed"
        question = Question(url or self._config.url, body, headers, once)
        try:
            result = await self._ask_in_turn(question, read)
            outcome = "ok"
            return result
        except (Refused, Disconnect):
            outcome = "refused"
            raise
        except _Fault as fault:
            outcome = fault.outcome
            pause = retry_after(fault.later, self._clock.seconds())
            raise self._unavailable(fault.why, outcome, quiet, pause) from None
        except CmsUnavailable as error:
            if error.why == OVERLOADED:
                outcome = OVERLOADED
            raise self._unavailable(error.why, outcome, quiet) from None
        except CancelledError:
            outcome = ""
            if self._closed:
                raise CmsUnavailable(_STOPPING) from None
            raise
        finally:
            if outcome and not self._closed:
                self._stats.callbacks[outcome] += 1

    def close(self) -> Deferred[None]:
        """End what is under way with `CmsUnavailable`; fires when every connection is gone."""
        self._closed = True
        self._turns.close(_STOPPING)
        for running in tuple(self._running):
            running.cancel()
        fresh = self._fresh.close()
        return self._connections.close().addCallback(lambda _: fresh)

    def _unavailable(
        self, why: str, outcome: str, quiet: bool, pause: float | None = None
    ) -> CmsUnavailable:
        if not self._closed and not quiet:
            line = "no usable answer from the CMS at {url}: {why}"
            self._log.warn(line, url=self.where, why=why, outcome=outcome)
        return CmsUnavailable(why, pause)

    async def _ask_in_turn(self, question: Question, read: Callable[[bytes, float], _T]) -> _T:
        if self._closed:
            raise CmsUnavailable(_STOPPING)
        await self._turns.enter()
        began = self._clock.seconds()
        self._stats.callbacks_in_flight += 1
        try:
            return read(await self._answer(question), began)
        finally:
            self._stats.callbacks_in_flight -= 1
            self._stats.callback_duration.observe(self._clock.seconds() - began)
            self._turns.leave()

    async def _answer(self, question: Question) -> bytes:
        """Give the answer's body within the timeout, or raise `_Fault` or `CancelledError`."""
        running = _cancellable(self._send(question))
        running.addTimeout(self._config.timeout, self._clock)
        self._running.add(running)
        try:
            return await running
        except (_Fault, CancelledError):
            raise
        except TimedOut:
            raise _Fault("timeout", f"after {self._config.timeout:g} s") from None
        except Exception as error:
            raise _fault_from(Failure(error)) from None
        finally:
            self._running.discard(running)

    async def _send(self, question: Question) -> bytes:
        try:
            return await self._send_once(question)
        except StaleConnection:
            # The others that are kept are likely to be dead as well.
            self._connections.closeCachedConnections()
            return await self._send_once(question)

    async def _send_once(self, question: Question) -> bytes:
        # A kept connection may break after the CMS has read all: whether it acted is not known.
        agent = self._fresh_agent if question.once else self._agent
        attempt = _Attempt(agent, self._config.max_answer_size, self._answered)
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


def _fault_from(failure: Failure) -> _Fault:
    """Say what an error of twisted.web's client goes back to; library names and texts only."""
    found = causes(failure)
    for cause in found:
        if isinstance(cause, Overrun):
            return _Fault("too_large", "endless headers, or much around the body")
    plain = [cause for cause in found if not hasattr(cause, "reasons")]
    cause = plain[0] if plain else found[0]
    kind = type(cause)
    if isinstance(cause, SSL.Error):
        texts = [entry[-1] for entry in cause.args[0]] if cause.args else []
        return _Fault("connection", f"TLS: {', '.join(texts) or 'failed'}")
    if kind.__module__.startswith("service_identity"):
        return _Fault("connection", "TLS: the certificate is not for this host")
    if isinstance(cause, (ValueError, LookupError)) or kind.__module__.startswith("twisted.web."):
        return _Fault("malformed", f"it is not HTTP ({kind.__name__})")
    return _Fault("connection", kind.__name__)
