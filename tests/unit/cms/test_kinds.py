"""Each kind of question is on its own, and knows who asks: as each part of the package puts it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Outcome, World, asked, world
from twisted_push.cms.breaker import FAILURES, Circuit
from twisted_push.cms.connect import ConnectDialect
from twisted_push.cms.decisions import Asker, Decisions
from twisted_push.cms.messages import Messages
from twisted_push.cms.nodejs import NodejsDialect
from twisted_push.cms.renewal import ConnectRenewal
from twisted_push.model import ConnectRequest, Grant

URL = "http://cms.test/push/other"
URLS = {f"{name}_url": URL for name in ("subscribe", "sub_refresh", "publish", "rpc")}

Put = Callable[[World, str], Coroutine[Any, Any, Any]]
"""Put a question of somebody."""


def by(name: str, address: str = "192.0.2.1") -> ConnectRequest:
    request = asked(name)
    return evolve(request, request=evolve(request.request, address=address))


def decisions(w: World) -> Decisions:
    return Decisions(w.exchange, w.exchange._config, w.clock)


def asker(name: str) -> Asker:
    return Asker("client", name, asked().request)


PUT: dict[str, tuple[str, Put]] = {
    "connect": ("connect", lambda w, name: ConnectDialect(w.exchange, ()).ask(by(name))),
    "by address": ("connect", lambda w, name: ConnectDialect(w.exchange, ()).ask(by("", name))),
    "nodejs": ("connect", lambda w, name: NodejsDialect(w.exchange, "key").ask(by(name))),
    "refresh": (
        "refresh",
        lambda w, name: ConnectRenewal(w.exchange, URL, ()).ask(by("token"), Grant(name, NOW)),
    ),
    "subscribe": ("subscribe", lambda w, name: decisions(w).subscribe(asker(name), "a")),
    "sub_refresh": ("sub_refresh", lambda w, name: decisions(w).sub_refresh(asker(name), "a")),
    "publish": ("publish", lambda w, name: decisions(w).publish(asker(name), "a", b"1")),
    "rpc": ("rpc", lambda w, name: decisions(w).rpc(asker(name), "a", b"1")),
    "message": ("message", lambda w, name: Messages(w.exchange, "key").ask("a", {}, name)),
}


def failing(put: Put, names: list[str]) -> World:
    w = world(b"no JSON", **URLS)
    for name in names:
        question = put(w, name)
        assert Outcome(Deferred.fromCoroutine(question)).says.startswith("CmsUnavailable malf")
    return w


@pytest.mark.parametrize("what", PUT)
def test_only_its_own_circuit_opens(what: str) -> None:
    kind, put = PUT[what]
    w = failing(put, [str(number) for number in range(FAILURES)])
    assert {kind: each.circuit for kind, each in w.exchange.shield} == {kind: Circuit.OPEN}


@pytest.mark.parametrize("what", PUT)
def test_one_who_asks_again_and_again_opens_nothing(what: str) -> None:
    kind, put = PUT[what]
    w = failing(put, ["alice"] * 3 * FAILURES)
    assert {kind: each.circuit for kind, each in w.exchange.shield} == {kind: Circuit.CLOSED}


@pytest.mark.parametrize("user", ["alice", ""])
def test_one_who_is_nobody_is_known_by_the_address(user: str) -> None:
    here = evolve(asked().request, address="192.0.2.7")
    assert Asker("client", user, here).name == (user or "192.0.2.7")


def test_the_reports_of_drupal_are_a_kind_of_their_own() -> None:
    w = world(b"")
    w.cms.code = 500
    for _ in range(FAILURES):
        telling = Messages(w.exchange, "key").tell("userOnline", {"uid": "1"})
        Outcome(Deferred.fromCoroutine(telling))
    assert {kind: each.circuit for kind, each in w.exchange.shield} == {"online": Circuit.OPEN}
