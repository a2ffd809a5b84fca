"""What every test runs under: trial's strictness, for pytest.

pytest-twisted by itself lets three kinds of failure pass in silence. Here each of them fails the
test during which it is found:

- a failure logged through ``twisted.logger`` or ``twisted.python.log``;
- an error in a ``Deferred`` that nobody handled;
- a ``DelayedCall`` still waiting in the global reactor when the test is over.

A test that expects logged failures asks for ``flush_logged_errors`` and calls it with their types,
as with trial's ``flushLoggedErrors``.

The reactor must not be imported when this module is: pytest-twisted installs the one that
``--reactor`` names, and refuses if another was there first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall, ReactorBase

FlushLoggedErrors = Callable[..., list[Failure]]

# A machine that does other work is slow. And what fails is to fail again, for everybody: new
# examples are for those who look for faults, with --hypothesis-profile=explore.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


@implementer(ILogObserver)
class FailureLog:
    """Collects the log events that carry a failure, until someone takes them."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if _failure_of(event) is not None:
            self.events.append(event)

    def failures(self) -> list[Failure]:
        """Return the failures collected so far."""
        # A Deferred reports its unhandled error when it is collected, and tracebacks tend to
        # hold it in a cycle.
        gc.collect()
        return [failure for event in self.events if (failure := _failure_of(event))]

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take and return the collected failures of these types; without types, all of them."""
        taken = [f for f in self.failures() if not types or f.check(*types)]
        self.events = [event for event in self.events if _failure_of(event) not in taken]
        return taken

    def complain(self) -> None:
        """Fail the running test when something is left; leave the log empty."""
        failures = self.failures()
        events, self.events = self.events, []
        if events:
            described = [
                f"[{event.get('log_namespace', '?')}] {formatEvent(event).strip()}\n"
                + failure.getTraceback()
                for event, failure in zip(events, failures, strict=True)
            ]
            pytest.fail(
                f"{len(events)} failure(s) logged and not flushed:\n\n" + "\n".join(described),
                pytrace=False,
            )


def _failure_of(event: LogEvent) -> Failure | None:
    """Return the failure in a log event: twisted.logger has one key for it, log.err another."""
    failure = event.get("log_failure") or (event.get("isError") and event.get("failure"))
    return failure if isinstance(failure, Failure) else None


def _reactor() -> ReactorBase:
    from twisted.internet import reactor

    return cast("ReactorBase", reactor)


def _delayed_calls() -> list[DelayedCall]:
    return cast("list[DelayedCall]", _reactor().getDelayedCalls())


def _turn() -> None:
    """Let the reactor turn once: what was due by now is called."""
    done: Deferred[None] = Deferred()
    _reactor().callLater(0, done.callback, None)
    pytest_twisted.blockon(done)


def pytest_collection_finish() -> None:
    """Keep the many objects of the imported modules out of the collections after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _failure_log() -> Iterator[FailureLog]:
    """Watch the log for the whole run, so that fixtures of any scope are watched too."""
    log = FailureLog()
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)
    log.complain()


@pytest.fixture(autouse=True)
def _no_logged_failures(_failure_log: FailureLog) -> Iterator[None]:
    """Fail the test in which a failure was logged, or an error of a Deferred went unhandled."""
    yield
    _failure_log.complain()


@pytest.fixture(autouse=True)
def _no_delayed_calls(_no_logged_failures: None) -> Iterator[None]:
    """Fail the test that leaves a timer in the global reactor, and cancel that timer.

    Timers that waited before the test are not its own, nor is the next call of something that
    keeps calling itself (the ``LoopingCall`` of a server in a module's fixture).
    """
    before = [call.func for call in _delayed_calls()]

    def left() -> list[DelayedCall]:
        return [call for call in _delayed_calls() if call.func not in before]

    yield
    for _ in range(2):  # As trial does: what is due at once may still happen.
        if left():
            _turn()
    if calls := left():
        words = "\n".join(str(call) for call in calls)
        for call in calls:
            call.cancel()
        pytest.fail(f"{len(calls)} delayed call(s) left in the reactor:\n{words}", pytrace=False)


@pytest.fixture
def logged_failures(_failure_log: FailureLog) -> Callable[[], list[Failure]]:
    """Return a function that looks at the failures logged so far, without taking them."""
    return _failure_log.failures


@pytest.fixture
def flush_logged_errors(_failure_log: FailureLog) -> FlushLoggedErrors:
    """Return a function that takes the expected failures (of the types given) out of the log."""
    return _failure_log.flush
