"""The strict fixtures of ``tests/conftest.py`` really fail a test, and fail only the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def strict(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a pytester whose inner runs have our conftest."""
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    return pytester


def run(strict: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    strict.makepyfile(source)
    return strict.runpytest_subprocess("-p", "no:cacheprovider", *options)


@pytest.mark.parametrize(
    "log",
    [
        "Logger().failure('it broke', Failure(ValueError('secret sauce')))",
        "Logger().critical('it broke', log_failure=Failure(ValueError('secret sauce')))",
        "log.err(Failure(ValueError('secret sauce')), 'it broke')",
    ],
    ids=["failure", "critical", "legacy"],
)
def test_a_logged_failure_fails_the_test(strict: pytest.Pytester, log: str) -> None:
    result = run(
        strict,
        f"""
        from twisted.logger import Logger
        from twisted.python import log
        from twisted.python.failure import Failure

        def test_logs():
            {log}

        def test_after():
            pass
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_logs*",
            "*1 failure(s) logged*",
            "*it broke*",
            "*secret sauce*",
        ]
    )


@pytest.mark.parametrize("cycle", [False, True])
def test_an_unhandled_error_in_a_deferred_fails_the_test(
    strict: pytest.Pytester, cycle: bool
) -> None:
    result = run(
        strict,
        f"""
        from twisted.internet.defer import Deferred, fail

        def test_drops_an_error():
            d = fail(ValueError("dropped"))
            if {cycle}:
                d.itself = d

        def test_after():
            pass
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_drops_an_error*", "*Unhandled error in Deferred*", "*dropped*"]
    )


def test_an_unhandled_error_in_a_coroutine_fails_the_test(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from twisted.internet.task import deferLater

        async def breaks():
            await deferLater(reactor, 0)
            raise ValueError("dropped")

        async def test_drops_an_error():
            Deferred.fromCoroutine(breaks())
            await deferLater(reactor, 0.01)
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_drops_an_error*", "*dropped*"])


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_delayed_call_left_behind_fails_the_test(strict: pytest.Pytester, kind: str) -> None:
    result = run(
        strict,
        f"""
        def never():
            pass

        {kind} test_leaves_a_timer():
            from twisted.internet import reactor
            reactor.callLater(3600, never)

        {kind} test_after():
            from twisted.internet import reactor
            assert not reactor.getDelayedCalls()
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_leaves_a_timer*", "*1 delayed call(s) left*", "*never*"]
    )


def test_what_is_due_at_once_may_still_happen_but_must_not_fail(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        def breaks():
            raise ValueError("too late")

        def test_fine():
            from twisted.internet import reactor
            reactor.callLater(0, reactor.callLater, 0, str)

        def test_breaks_on_the_next_turn():
            from twisted.internet import reactor
            reactor.callLater(0, breaks)
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_breaks_on_the_next_turn*", "*too late*"]
    )


def test_timers_of_a_wider_fixture_are_not_the_tests(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        import pytest
        from twisted.internet.task import LoopingCall, deferLater

        @pytest.fixture(scope="module")
        def ticking():
            loop = LoopingCall(str)
            loop.start(0.005)
            yield loop
            loop.stop()

        async def test_first(ticking):
            from twisted.internet import reactor
            await deferLater(reactor, 0.02)

        async def test_second(ticking):
            from twisted.internet import reactor
            await deferLater(reactor, 0.02)
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_failure_logged_while_a_fixture_ends_is_seen(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        import pytest
        from twisted.logger import Logger
        from twisted.python.failure import Failure

        def log(words):
            Logger().failure(words, Failure(ValueError()))

        @pytest.fixture
        def small():
            yield
            log("small fixture ended badly")

        @pytest.fixture(scope="module")
        def wide():
            yield
            log("wide fixture ended badly")

        def test_one(small, wide):
            pass
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines_random(
        ["*] small fixture ended badly", "*] wide fixture ended badly"]
    )


def test_expected_failures_are_flushed(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        from twisted.internet.defer import fail
        from twisted.logger import Logger
        from twisted.python.failure import Failure

        def log(error):
            Logger().failure("it broke", Failure(error))

        def test_flushes_a_type(logged_failures, flush_logged_errors):
            log(ValueError("one"))
            log(KeyError("two"))
            assert [f.type for f in logged_failures()] == [ValueError, KeyError]
            assert [str(f.value) for f in flush_logged_errors(ValueError)] == ["one"]
            assert flush_logged_errors(ValueError) == []
            assert len(flush_logged_errors(LookupError)) == 1

        def test_flushes_everything(flush_logged_errors):
            log(ValueError("one"))
            fail(KeyError("two"))
            assert len(flush_logged_errors()) == 2

        def test_flushes_too_little(flush_logged_errors):
            log(ValueError("expected"))
            log(KeyError("not expected"))
            flush_logged_errors(ValueError)
        """,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_flushes_too_little*", "1 failure(s) logged*", "*not expected*"]
    )


def test_another_reactor_can_be_chosen(strict: pytest.Pytester) -> None:
    result = run(
        strict,
        """
        def test_reactor():
            from twisted.internet import reactor
            assert type(reactor).__name__ == "AsyncioSelectorReactor"
        """,
        "--reactor=asyncio",
    )
    result.assert_outcomes(passed=1)
