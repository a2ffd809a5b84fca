"""Ordinary requests on the fast path: how they are read, answered, bounded and given up."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.conftest import FlushLoggedErrors
from tests.unit import test_api
from tests.unit.cms.support import Log
from tests.unit.node.support import BROADCAST, KEY, World
from tests.unit.request_support import Caller, Leaf, asking, read_answers
from tests.unit.test_api import Http
from tests.unit.websocket_support import CONNECT, TEXT, Browser, Make, Server, masked, servers
from twisted_push.backend.api import LARGE
from twisted_push.deadline import Deadline
from twisted_push.ops.health import Health
from twisted_push.transports.fast.mux import MAX_WHOLE
from twisted_push.transports.fast.requests import WholeRequest
from twisted_push.transports.fast.websocket import LeanWebSocket
from twisted_push.transports.head import MAX_HEAD
from twisted_push.web import IDLE_TIMEOUT, REQUEST_DEADLINE, GuardedRequest


@pytest.fixture
def make_server() -> Iterator[Make]:
    yield from servers(fast=True)


@pytest.fixture
def server(make_server: Make) -> Server:
    """The public port of a site, with a `Leaf` for the CMS."""
    server = make_server()
    server.tree.mount_leaf("api", Leaf())
    server.tree.mount("health", Health())
    return server


@pytest.fixture
def leaf(server: Server) -> Any:
    return server.tree.root.children[b"api"]


@pytest.fixture
def caller(server: Server) -> Iterator[Caller]:
    """A connection of which no timer may be left."""
    before = timers(server)
    caller = Caller(server)
    yield caller
    caller.wire.hang_up()
    server.clock.advance(0)
    assert [call for call in timers(server) if call not in before] == []


def timers(server: Server) -> list[Any]:
    calls: Any = server.clock.getDelayedCalls()
    return [call.func for call in calls]


# --- Reading ---------------------------------------------------------------------------------


def test_one_after_the_other(caller: Caller, leaf: Leaf) -> None:
    for body in (b"one", b"", b"three"):
        caller.ask(body)
    assert caller.answers == [(200, b"one"), (200, b""), (200, b"three")]
    assert all(isinstance(request, WholeRequest) for request in leaf.asked)


def test_an_answer_leaves_in_one_piece_before_the_next_turn(caller: Caller) -> None:
    caller.ask(b"one")
    assert caller.wire.kernel.sends == 1
    assert read_answers(bytes(caller.wire.kernel.sent)) == [(200, b"one")]


def test_what_a_leaf_is_told(caller: Caller, leaf: Leaf) -> None:
    caller.give(asking(b"body", "/api/a//b?c=%20", "X-A: \t b \t", "X-C:"))
    [request] = leaf.asked
    assert request.method == b"POST"
    assert request.postpath == [b"a", b"", b"b"]
    assert request.read() == b"body"
    assert request.getClientAddress() == caller.wire.getPeer()
    headers = request.requestHeaders
    assert headers.getRawHeaders(b"X-a") == [b"b"]
    assert headers.getRawHeaders(b"x-C") == [b""]
    assert headers.getRawHeaders(b"x-d") is None
    assert dict(headers.getAllRawHeaders())[b"content-length"] == [b"4"]


def test_a_body_that_comes_behind_its_head(caller: Caller, leaf: Leaf) -> None:
    request = asking(b"0123456789")
    for piece in (request[:-10], request[-10:-7], request[-7:-1]):
        caller.give(piece)
        assert leaf.asked == []
    caller.give(request[-1:])
    assert caller.answers == [(200, b"0123456789")]
    assert isinstance(leaf.asked[0], WholeRequest)
    caller.ask(b"next")
    assert caller.answers[1:] == [(200, b"next")]


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_more_than_one_at_once(caller: Caller, leaf: Leaf, pieces: int) -> None:
    data = b"".join(asking(b"%d" % number) for number in range(5))
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        caller.give(data[start : start + size])
    assert caller.answers == [(200, b"%d" % number) for number in range(5)]
    assert len(leaf.asked) == 5


def test_a_body_of_the_next_size_goes_to_twisted_web(server: Server, leaf: Leaf) -> None:
    server.site.max_body = lambda: 10 * MAX_WHOLE
    for size, kind in ((MAX_WHOLE, WholeRequest), (MAX_WHOLE + 1, GuardedRequest)):
        caller = Caller(server)
        caller.ask(b"x" * size)
        assert caller.answers == [(200, b"x" * size)]
        assert isinstance(leaf.asked[-1], kind)
        caller.wire.hang_up()


def test_a_body_that_is_too_long_is_not_kept(server: Server, caller: Caller, leaf: Leaf) -> None:
    server.site.max_body = lambda: 10
    caller.ask(b"x" * 10)
    caller.give(asking(b"x" * 11)[:-1])
    assert not leaf.asked[0].too_large
    caller.give(b"x")
    assert leaf.asked[1].too_large
    assert leaf.bodies[1] == b""


def test_the_limit_may_change_while_a_body_comes(
    server: Server, caller: Caller, leaf: Leaf
) -> None:
    caller.give(asking(b"x" * 20)[:-1])
    server.site.max_body = lambda: 10
    caller.give(b"x")
    assert leaf.asked[0].too_large


def test_a_body_in_small_pieces_takes_no_more_memory(server: Server, leaf: Leaf) -> None:
    server.site.max_body = lambda: MAX_WHOLE
    caller, body = Caller(server), random.Random(1).randbytes(MAX_WHOLE)
    caller.give(asking(length=len(body)))
    tracemalloc.start()
    try:
        for start in range(0, len(body) - 2, 2):
            caller.give(body[start : start + 2])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * MAX_WHOLE
    caller.give(body[-2:])
    assert leaf.bodies == [body]
    caller.wire.hang_up()


# --- In time ---------------------------------------------------------------------------------


def test_a_body_that_never_comes(caller: Caller, leaf: Leaf) -> None:
    """Nor does it help to send a byte now and then."""
    caller.ask()
    caller.server.clock.advance(IDLE_TIMEOUT - 1)
    caller.give(asking(b"x" * 90)[:-90])
    for _ in range(2 * round(REQUEST_DEADLINE) - 1):
        caller.give(b"x")
        assert caller.ended_after(0.5) is None
    assert caller.ended_after(100) == 0.5
    assert len(leaf.asked) == 1


def test_idle_after_an_answer(caller: Caller) -> None:
    caller.server.clock.advance(IDLE_TIMEOUT - 1)
    caller.ask()
    assert caller.ended_after(100) == IDLE_TIMEOUT


def test_idle_after_a_late_answer(caller: Caller, leaf: Leaf) -> None:
    """While it is not there, its client may wait for long."""
    leaf.later = True
    caller.ask(b"late")
    assert caller.ended_after(10 * IDLE_TIMEOUT) is None
    leaf.finish(0)
    assert caller.answers == [(200, b"late")]
    assert caller.ended_after(100) == IDLE_TIMEOUT


def test_who_does_not_take_an_answer_is_dropped(caller: Caller) -> None:
    """There is no use in waiting for it to take the rest."""
    caller.wire.kernel.room = 10
    caller.ask()
    assert caller.ended_after(100) == IDLE_TIMEOUT
    assert caller.wire.kernel.closed


# --- While one is being answered -------------------------------------------------------------


def test_what_comes_meanwhile_is_answered_after_it(caller: Caller, leaf: Leaf) -> None:
    leaf.later = True
    caller.ask(b"one")
    caller.ask(b"two")
    assert not caller.is_read
    caller.server.clock.advance(100)
    assert leaf.bodies == [b"one"]
    leaf.finish(0)
    assert leaf.bodies == [b"one"]  # Not in the midst of whatever finished the first.
    caller.server.clock.advance(0)
    assert leaf.bodies == [b"one", b"two"]
    assert caller.is_read
    leaf.finish(1)
    assert caller.answers == [(200, b"one"), (200, b"two")]


@pytest.mark.parametrize("cut", [3, 100])
def test_half_of_the_next_comes_meanwhile(caller: Caller, leaf: Leaf, cut: int) -> None:
    """A part of its head, or of its body."""
    leaf.later = True
    following = asking(b"t" * 100)
    caller.ask(b"one")
    caller.give(following[:-cut] if cut < 100 else following[:cut])
    leaf.finish(0)
    caller.server.clock.advance(0)
    caller.give(following[-cut:] if cut < 100 else following[cut:])
    leaf.finish(1)
    assert caller.answers == [(200, b"one"), (200, b"t" * 100)]


def test_who_sends_without_end(caller: Caller, leaf: Leaf) -> None:
    leaf.later = True
    caller.ask(b"one")
    given = 0
    while caller.is_read:
        caller.give(b"GET")
        given += 1
    assert given == 1


def test_an_answer_in_the_midst_of_another_request(server: Server, leaf: Any) -> None:
    """What comes behind the first is not dealt with before all of that is done."""
    leaf.later = True
    first, second = Caller(server), Caller(server)
    first.ask(b"one")
    first.ask(b"next")
    render, seen = leaf.render, []

    def finishing(request: Any) -> Any:
        leaf.finish(0)
        seen.append(list(leaf.bodies))
        leaf.render = render
        return render(request)

    leaf.render = finishing
    second.ask(b"two")
    assert seen == [[b"one"]]
    server.clock.advance(0)
    assert leaf.bodies == [b"one", b"two", b"next"]
    assert first.answers == [(200, b"one")]
    for caller in (first, second):
        caller.wire.hang_up()


# --- Who goes --------------------------------------------------------------------------------


def test_who_goes_while_being_answered(caller: Caller, leaf: Leaf) -> None:
    leaf.later = True
    caller.ask(b"one")
    caller.ask(b"two")
    assert not leaf.asked[0].gone
    caller.wire.hang_up()
    assert leaf.asked[0].gone
    leaf.finish(0)
    caller.server.clock.advance(100)
    assert leaf.bodies == [b"one"]
    assert caller.wire.kernel.sent == b""


def test_who_goes_before_what_follows_is_read(caller: Caller, leaf: Leaf) -> None:
    leaf.later = True
    caller.ask(b"one")
    caller.ask(b"two")
    leaf.finish(0)
    caller.wire.hang_up()
    caller.server.clock.advance(0)
    assert leaf.bodies == [b"one"]


def test_who_says_no_more_after_a_request(caller: Caller, leaf: Leaf) -> None:
    """It has its answer if that was there at once; else nobody waits for it, as twisted.web."""
    caller.ask(b"one")
    caller.give(b"")
    assert caller.answers == [(200, b"one")]
    other = Caller(caller.server)
    leaf.later = True
    other.ask(b"late")
    other.give(b"")
    assert leaf.asked[-1].gone


@pytest.mark.parametrize("gone", [False, True])
def test_a_broken_connection(caller: Caller, leaf: Leaf, gone: bool) -> None:
    leaf.later = True
    caller.ask(b"one")
    caller.wire.kernel.broken = True
    if gone:
        caller.wire.abortConnection()
    leaf.finish(0)
    caller.wire.turns.turn()
    assert caller.wire.ended


# --- Faults ----------------------------------------------------------------------------------


def test_a_fault(
    caller: Caller, leaf: Leaf, log: Log, flush_logged_errors: FlushLoggedErrors
) -> None:
    leaf.fails = True
    caller.ask(b"secret")
    leaf.fails = False
    caller.ask(b"next")
    assert caller.answers == [(500, b"internal server error"), (200, b"next")]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    assert log.lines == ["a request could not be answered"]


# --- Who does not read -----------------------------------------------------------------------


def let_read_little(caller: Caller, leaf: Leaf, *, slow: bool = False) -> None:
    """Have answers be long, and taken no more after one of them; ``slow``: by twisted.web."""
    if slow:
        caller.give(b"GET /health HTTP/1.1\r\nHost: push.test\r\n\r\n")
        caller.wire.clear()
    leaf.size = 10_000
    caller.wire.kernel.room = 15_000


def count_pushed(caller: Caller, request: Callable[[int], bytes]) -> int:
    """Ask as long as it is read; give how often that was."""
    for number in range(1000):
        if not caller.is_read:
            return number
        caller.give(request(number))
    raise AssertionError("there is no end")


def numbered(number: int) -> bytes:
    return asking(b"%d" % number)


@pytest.mark.parametrize("slow", [False, True])
def test_answers_do_not_pile_up(caller: Caller, leaf: Leaf, slow: bool) -> None:
    """Of one that does not read: neither here, nor with twisted.web, and none is lost."""
    let_read_little(caller, leaf, slow=slow)
    given = count_pushed(caller, numbered)
    assert caller.wire.unsent < 100_000
    caller.wire.kernel.room = None
    for _ in range(2):
        found = [body.rstrip(b".") for _, body in caller.answers]
        assert found == [b"%d" % number for number in range(given)]
        assert caller.is_read
        caller.give(numbered(given))
        given += 1


@pytest.mark.parametrize("slow", [False, True])
def test_nor_do_those_of_requests_that_came_at_once(caller: Caller, leaf: Leaf, slow: bool) -> None:
    let_read_little(caller, leaf, slow=slow)
    many = b"".join(map(numbered, range(100)))
    times = count_pushed(caller, lambda _: many)
    assert caller.wire.unsent < 100_000
    assert len(leaf.asked) < 20
    caller.wire.kernel.room = None
    while caller.wire.unsent:
        caller.wire.turns.turn()
    found = [body.rstrip(b".") for _, body in caller.answers]
    assert found == times * [b"%d" % number for number in range(100)]
    assert caller.is_read


def test_who_lets_them_pile_up_is_dropped(caller: Caller, leaf: Leaf) -> None:
    let_read_little(caller, leaf)
    count_pushed(caller, numbered)
    assert caller.ended_after(2 * IDLE_TIMEOUT) is not None


# --- What is asked on the same connection ----------------------------------------------------


def test_a_websocket_after_requests(server: Server) -> None:
    browser = Browser(server)
    browser.give(asking(b"one"))
    browser.wire.clear()
    assert browser.open() == 101
    browser.send(CONNECT)
    [(opcode, payload)] = browser.got()
    assert opcode == TEXT
    assert payload.startswith(b'{"id":1,"connect"')
    [session] = server.worlds[0].node.sessions
    assert isinstance(session.transport, LeanWebSocket)
    owners = [getattr(timer, "__self__", None) for timer in timers(server)]
    assert not any(isinstance(owner, Deadline) for owner in owners)


def test_a_websocket_behind_an_answer_that_is_waited_for(server: Server, leaf: Leaf) -> None:
    leaf.later = True
    browser = Browser(server)
    browser.give(asking(b"one"))
    browser.give(browser.asking() + masked(CONNECT))
    leaf.finish(0)
    server.clock.advance(0)
    _, first, second = browser.wire.value().split(b"HTTP/1.1 ")
    assert first.startswith(b"200 ")
    assert second.startswith(b"101 ")
    assert b'{"id":1,"connect"' in second


def test_something_else_after_requests(caller: Caller, leaf: Leaf) -> None:
    caller.ask(b"one")
    caller.give(b"GET /health HTTP/1.1\r\nHost: push.test\r\n\r\n")
    caller.ask(b"three")
    [first, (status, _), third] = caller.answers
    assert (first, status, third) == ((200, b"one"), 200, (200, b"three"))
    assert [type(request) for request in leaf.asked] == [WholeRequest, GuardedRequest]


def test_a_head_that_is_too_long(caller: Caller, leaf: Leaf) -> None:
    caller.ask(b"one")
    caller.give(asking(b"two", "/api/x", f"X: {'x' * MAX_HEAD}"))
    assert leaf.bodies == [b"one"]
    assert caller.answers == [(200, b"one")]
    assert caller.wire.ended


# --- The API itself --------------------------------------------------------------------------


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    monkeypatch.setattr(test_api, "LIMIT", 2 * LARGE)
    world = World()
    Deferred.fromCoroutine(world.node.start())
    yield Http(world, fast=True)
    assert Deferred.fromCoroutine(world.end()).called


def publishing(size: int) -> bytes:
    body = b'{"channel":"%s","data":"' % BROADCAST.encode()
    body += b"x" * (size - len(body) - 2) + b'"}'
    return asking(body, "/api/publish", f"X-API-Key: {KEY}")


@pytest.mark.parametrize(("size", "waits"), [(LARGE, False), (LARGE + 1, True)])
def test_what_is_large_waits_for_its_turn(http: Http, size: int, waits: bool) -> None:
    caller = Caller(http)
    caller.give(publishing(size))
    assert (caller.answers == []) is waits
    http.clock.advance(0)
    assert caller.answers == [(200, b'{"result":{"recipients":0}}')]
    caller.wire.hang_up()


def test_who_goes_before_its_turn(http: Http) -> None:
    caller = Caller(http)
    caller.give(publishing(LARGE + 1))
    caller.wire.hang_up()
    http.clock.advance(0)
    assert caller.wire.kernel.sent == b""
