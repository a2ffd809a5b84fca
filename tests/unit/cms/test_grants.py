"""Kept grants, one question per token, logout against an answer on its way, stale serving."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.unit.cms.support import NOW, Log, Outcome, World, asked, config, the_reactor, world
from twisted_push.cms.connect import ConnectDialect
from twisted_push.cms.exchange import Exchange
from twisted_push.cms.grants import GrantKeeper, token_digest
from twisted_push.cms.nodejs import NodejsDialect
from twisted_push.errors import CmsUnavailable, NotConnected
from twisted_push.interfaces import IAuthenticator
from twisted_push.model import ChannelGrant, ConnectRequest

ALICE = {"result": {"user": "alice", "channels": ["news"]}}
DIGEST = sha256(b"token-of-alice").digest()


class Keeper:
    """A keeper with a CMS in memory, a fake engine and a clock."""

    def __init__(
        self, answer: object = None, ttl: float = 3600.0, stale: float = 600.0, **changes: Any
    ) -> None:
        self.w: World = world(answer, **changes)
        self.cms, self.engine, self.clock = self.w.cms, self.w.engine, self.w.clock
        dialect = ConnectDialect(self.w.exchange, ("Cookie",))
        self.keeper = GrantKeeper(
            dialect, self.engine.engine, self.clock, ttl, stale, stats=self.w.stats
        )

    def ask(self, request: ConnectRequest | None = None) -> Outcome:
        return Outcome(self.keeper.authenticate(request or asked()))

    @property
    def questions(self) -> int:
        return len(self.cms.asked)

    def at_rest(self) -> bool:
        return (
            not self.keeper._flights
            and not self.clock.getDelayedCalls()
            and self.w.stats.callbacks_in_flight == 0
            and self.cms.open == 0
        )


def test_the_interface() -> None:
    assert verifyObject(IAuthenticator, Keeper().keeper)


def test_an_answer_is_kept_by_the_digest_of_the_token() -> None:
    k = Keeper(ALICE)
    first, second = k.ask(), k.ask()
    assert first.value.user == "alice"
    assert second.value == first.value
    assert k.questions == 1
    assert token_digest("token-of-alice") == DIGEST
    [(digest, grant, until)] = k.engine.puts
    assert (digest, grant, until) == (DIGEST, first.value, NOW + 3600 + 600)
    assert k.at_rest()


def test_tokens_are_told_apart() -> None:
    k = Keeper(ALICE)
    k.ask(asked("one"))
    k.ask(asked("two"))
    assert k.questions == 2


def test_200_askers_are_one_question_with_one_outcome() -> None:
    k = Keeper()
    outcomes = [k.ask(asked(client=f"client-{n}")) for n in range(200)]
    assert (k.cms.open, k.questions, k.engine.gets) == (1, 1, 1)
    k.cms.reply(ALICE)
    assert {outcome.value.user for outcome in outcomes} == {"alice"}
    assert k.questions == 1
    assert k.cms.asked[0].json["client"] == "client-0"
    assert k.w.stats.callbacks == {"ok": 1}
    assert k.at_rest()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": {"code": 103}}, "Refused 103 permission denied"),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, "Disconnect 4501 banned"),
        (None, "CmsUnavailable malformed: not the answer that was asked for: Expected `object`,"),
    ],
)
def test_a_refusal_is_for_everybody_and_is_not_kept(answer: object, says: str) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(5)]
    k.cms.reply(answer)
    assert all(outcome.says.startswith(says) for outcome in outcomes)
    assert k.engine.puts == []
    assert k.at_rest()
    k.ask()
    assert k.questions == 2


@pytest.mark.parametrize("order", [range(10), reversed(range(10))], ids=["first", "last"])
def test_a_cancelled_asker_does_not_cancel_the_others(order: Any) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(10)]
    order = list(order)
    for n in order[:-1]:
        outcomes[n].deferred.cancel()
        assert outcomes[n].says.startswith("CancelledError")
    assert k.cms.open == 1
    assert not outcomes[order[-1]].done
    k.cms.reply(ALICE)
    assert outcomes[order[-1]].value.user == "alice"
    assert k.at_rest()


@pytest.mark.parametrize("order", [range(10), reversed(range(10))], ids=["first", "last"])
def test_the_answer_is_kept_when_the_last_one_cancelled(order: Any, log: Log) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(10)]
    for n in order:
        outcomes[n].deferred.cancel()
    assert all(outcome.says.startswith("CancelledError") for outcome in outcomes)
    assert log.lines == []
    again = k.ask()
    again.deferred.cancel()
    assert k.cms.open == 1
    k.cms.reply(ALICE)
    assert k.at_rest()
    assert k.w.stats.callbacks == {"ok": 1}
    assert k.ask().value.user == "alice"
    assert k.questions == 1


@pytest.mark.parametrize("order", [range(10), reversed(range(10))], ids=["first", "last"])
def test_the_last_one_cancelled_leaves_the_queue(order: Any, log: Log) -> None:
    k = Keeper(max_concurrent=1)
    before = k.ask(asked("of-bob"))
    outcomes = [k.ask() for _ in range(10)]
    assert k.w.exchange.shield.waiting == 1
    for n in order:
        outcomes[n].deferred.cancel()
    assert k.w.exchange.shield.waiting == 0
    k.cms.reply(ALICE)
    assert before.done
    assert (k.questions, k.at_rest(), log.lines) == (1, True, [])
    again = k.ask()
    k.cms.reply(ALICE)
    assert again.value.user == "alice"


def test_who_comes_back_while_the_answer_is_on_its_way_waits_for_it() -> None:
    k = Keeper()
    k.ask().deferred.cancel()
    again = k.ask()
    assert k.cms.open == 1
    k.cms.reply(ALICE)
    assert again.value.user == "alice"
    assert k.questions == 1


def test_a_refusal_after_the_client_left_is_kept_for_nobody() -> None:
    k = Keeper()
    k.ask().deferred.cancel()
    k.cms.reply({"disconnect": {"code": 3500}})
    assert (k.engine.puts, k.at_rest()) == ([], True)


def test_a_logout_beats_an_answer_after_the_client_left() -> None:
    k = Keeper()
    k.ask().deferred.cancel()
    k.engine.revoked_users["alice"] = k.clock.seconds()
    k.cms.reply(ALICE)
    assert (k.engine.kept, k.at_rest()) == ({}, True)


@given(st.permutations(range(6)), st.integers(0, 6), st.booleans())
def test_whoever_is_cancelled_the_rest_get_the_outcome(
    order: list[int], cancelled: int, good: bool
) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(6)]
    for n in order[:cancelled]:
        outcomes[n].deferred.cancel()
    k.cms.reply(ALICE if good else {"error": {"code": 103}})
    says = "" if good else "Refused 103 permission denied"
    assert {outcomes[n].says for n in order[cancelled:]} <= {says}
    assert all(outcome.done for outcome in outcomes)
    assert k.at_rest()


def test_one_who_asks_again_when_told_starts_a_new_search() -> None:
    k = Keeper()
    again: list[Outcome] = []
    first = k.keeper.authenticate(asked())
    first.addErrback(lambda _: again.append(k.ask()))
    k.cms.reply({"error": {"code": 103}})
    assert (k.cms.open, k.questions) == (1, 2)
    k.cms.reply(ALICE)
    assert again[0].value.user == "alice"
    assert k.at_rest()


def test_one_who_cancels_another_when_told() -> None:
    k = Keeper()
    first, second, third = [k.keeper.authenticate(asked()) for _ in range(3)]
    first.addCallback(lambda _: second.cancel())
    outcomes = [Outcome(deferred) for deferred in (first, second, third)]
    k.cms.reply(ALICE)
    assert outcomes[1].says.startswith("CancelledError")
    assert outcomes[2].value.user == "alice"
    assert k.at_rest()


def test_the_time_of_a_grant_is_when_the_question_went_out() -> None:
    k = Keeper()
    outcome = k.ask()
    k.clock.advance(3)
    k.cms.reply(ALICE)
    assert outcome.value.issued_at == NOW


@pytest.mark.parametrize("what", ["token", "user"])
def test_a_logout_beats_an_answer_on_its_way(what: str) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(3)]
    k.clock.advance(1)
    if what == "token":
        k.engine.revoked_tokens.add(DIGEST)
    else:
        k.engine.revoked_users["alice"] = k.clock.seconds()
    late = k.ask()
    k.clock.advance(1)
    k.cms.reply(ALICE)
    assert {outcome.says for outcome in [*outcomes, late]} == {"Disconnect 3500 invalid token"}
    assert k.engine.kept == {}
    assert k.at_rest()


def test_a_logout_beats_an_answer_to_nobody_s_token() -> None:
    """A client that is known by its cookie has no token that could be refused."""
    k = Keeper()
    outcome = k.ask(asked("", headers={"cookie": "sid=1"}))
    k.engine.revoked_users["alice"] = k.clock.seconds()
    k.cms.reply(ALICE)
    assert outcome.says == "Disconnect 3500 invalid token"


def test_a_logout_beats_a_kept_grant() -> None:
    k = Keeper(ALICE)
    k.ask()
    k.clock.advance(1)
    k.engine.revoked_tokens.add(DIGEST)
    assert k.ask().says == "Disconnect 3500 invalid token"


def test_the_cms_is_not_asked_about_a_token_that_was_logged_out() -> None:
    """Else whoever repeats a dead token makes the CMS work."""
    k = Keeper(ALICE)
    k.engine.revoked_tokens.add(DIGEST)
    assert [k.ask().says for _ in range(3)] == ["Disconnect 3500 invalid token"] * 3
    assert k.questions == 0


def test_without_a_token_nothing_is_shared_and_nothing_kept() -> None:
    k = Keeper()
    outcomes = [k.ask(asked("", headers={"cookie": f"sid={n}"})) for n in range(3)]
    assert k.cms.open == 3
    assert [question.header("Cookie") for question in k.cms.asked] == [b"sid=0", b"sid=1", b"sid=2"]
    for n in range(3):
        k.cms.reply({"result": {"user": f"user-{n}"}})
    assert [outcome.value.user for outcome in outcomes] == ["user-0", "user-1", "user-2"]
    assert k.engine.kept == {}
    assert [digest for digest, _, _ in k.engine.puts] == [None] * 3
    k.ask(asked("", headers={"cookie": "sid=0"}))
    assert k.cms.open == 1


def test_a_grant_is_good_until_its_time() -> None:
    k = Keeper(ALICE, ttl=60)
    k.ask()
    k.clock.advance(59)
    k.ask()
    assert k.questions == 1
    k.clock.advance(1)
    k.ask()
    assert k.questions == 2


def test_an_end_that_the_cms_set_counts_if_it_is_earlier() -> None:
    k = Keeper({"result": {"user": "alice", "expire_at": int(NOW) + 10}}, ttl=60)
    assert k.ask().value.expires_at == NOW + 10
    assert k.engine.puts[0][2] == NOW + 10 + 600
    k.clock.advance(9)
    k.ask()
    assert k.questions == 1
    k.clock.advance(1)
    assert k.ask().says == "Refused 109 token expired"
    assert k.questions == 2


def down(k: Keeper) -> None:
    k.cms.answer = b"<h1>Down for maintenance</h1>"
    k.cms.code = 503


def test_a_stale_grant_serves_while_the_cms_is_down() -> None:
    k = Keeper(ALICE, ttl=60, stale=600)
    grant = k.ask().value
    down(k)
    k.clock.advance(61)
    assert k.ask().value == grant
    assert k.questions == 2  # It was asked first.
    k.clock.advance(598)
    assert k.ask().value == grant
    k.clock.advance(1)
    assert k.ask().says == "CmsUnavailable status: 503"
    k.cms.answer, k.cms.code = ALICE, 200
    assert k.ask().value.issued_at == k.clock.seconds()


def test_no_stale_grant_serves_when_that_is_off() -> None:
    k = Keeper(ALICE, ttl=60, stale=0)
    k.ask()
    down(k)
    k.clock.advance(60)
    assert k.ask().says == "CmsUnavailable status: 503"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_logout_beats_a_stale_grant(when: str) -> None:
    k = Keeper(ALICE, ttl=60, timeout=5.0)
    k.ask()
    k.cms.answer = None
    k.clock.advance(61)
    if when == "before":
        k.engine.revoked_tokens.add(DIGEST)
    outcome = k.ask()
    k.clock.advance(1)
    k.engine.revoked_tokens.add(DIGEST)
    k.clock.advance(5)
    refused, unanswered = "Disconnect 3500 invalid token", "CmsUnavailable timeout: after 5 s"
    assert outcome.says == (refused if when == "before" else unanswered)
    assert k.at_rest()


def test_a_stale_grant_serves_when_too_many_wait() -> None:
    k = Keeper(ALICE, ttl=60, max_concurrent=1, max_waiting=0)
    k.ask()
    k.cms.answer = None
    k.clock.advance(61)
    k.ask(asked("of-bob"))
    assert k.ask().value.user == "alice"


@pytest.mark.parametrize(
    ("no", "forgotten"),
    [
        ({"disconnect": {"code": 3500}}, True),
        ({"disconnect": {"code": 4501}}, True),
        ({"error": {"code": 103}}, True),
        ({"error": {"code": 100}}, False),
        ({"disconnect": {"code": 4001}}, False),
    ],
    ids=str,
)
def test_a_grant_that_the_cms_took_back_does_not_come_back_when_it_is_down(
    no: object, forgotten: bool
) -> None:
    k = Keeper(ALICE, ttl=60)
    k.ask()
    k.clock.advance(61)
    k.cms.answer = no
    assert k.ask().error is not None
    down(k)
    assert (k.ask().says == "CmsUnavailable status: 503") is forgotten


def test_content_tokens_are_of_one_connection() -> None:
    """Another tab has tokens of its own; whoever shares the token must not get these."""
    w = world()
    dialect = NodejsDialect(w.exchange, "service-key")
    keeper = GrantKeeper(dialect, w.engine.engine, w.clock, 3600, 600, stats=w.stats)
    first, second = [Outcome(keeper.authenticate(asked())) for _ in range(2)]
    w.cms.reply({"nodejsValidAuthToken": True, "uid": "1", "contentTokens": {"page": "secret"}})
    third = Outcome(keeper.authenticate(asked()))
    assert first.value.content_tokens == {"page": "secret"}
    assert second.value.content_tokens == third.value.content_tokens == {}
    assert "secret" not in repr(w.engine.kept)


def test_trouble_with_the_engine_is_told_to_everybody() -> None:
    k = Keeper(ALICE)
    k.engine.trouble = NotConnected("gone")
    assert k.ask().says.startswith("NotConnected")
    assert k.questions == 0
    assert k.at_rest()


def test_cancelling_while_the_engine_searches() -> None:
    k = Keeper(ALICE)
    k.engine.held = []
    first, second = k.ask(), k.ask()
    first.deferred.cancel()
    assert len(k.engine.held) == 1
    k.engine.held.pop().callback(None)
    assert second.value.user == "alice"
    third = k.ask()
    third.deferred.cancel()
    fourth = k.ask()
    assert len(k.engine.held) == 2
    k.engine.held.pop().callback(None)
    assert fourth.value.user == "alice"
    assert k.at_rest()


def test_closing_tells_everybody() -> None:
    k = Keeper(ALICE)
    k.engine.held = []
    outcomes = [k.ask() for _ in range(2)]
    k.keeper.close()
    assert {outcome.says for outcome in outcomes} == {"CmsUnavailable the server is stopping"}
    assert k.at_rest()


def test_no_token_is_logged_or_in_an_error(log: Log) -> None:
    k = Keeper()
    outcomes = [k.ask() for _ in range(2)]
    k.cms.reply({"result": {"user": 7, "info": "token-of-alice"}})
    k.ask().deferred.cancel()
    assert "token-of-alice" not in log.everything + outcomes[0].says
    assert len(log.lines) == 1


async def test_a_bug_in_a_dialect_that_nobody_waits_for_is_logged(flush_logged_errors: Any) -> None:
    class Stubborn:
        async def ask(self, request: ConnectRequest, patience: float = 0.0) -> Any:
            try:
                await Deferred()
            finally:
                raise KeyError("bug")

    w = world()
    keeper = GrantKeeper(Stubborn(), w.engine.engine, w.clock, 1, 1, stats=w.stats)
    Outcome(keeper.authenticate(asked())).deferred.cancel()
    assert len(flush_logged_errors(KeyError)) == 1


async def test_with_a_real_clock_and_a_real_server(raw_cms: Any) -> None:
    cms = raw_cms(lambda connection: connection.answer(b'{"result": {"user": "alice"}}'))
    w = world()
    exchange = Exchange(config(url=cms.url), the_reactor(), w.stats)
    keeper = GrantKeeper(
        ConnectDialect(exchange, ()), w.engine.engine, w.clock, 3600, 600, stats=w.stats
    )
    waiting = [keeper.authenticate(asked(client=f"client-{n}")) for n in range(200)]
    assert {(await one).user for one in waiting} == {"alice"}
    assert len(cms.requests) == 1
    await exchange.close()


# --- Channels of a kept grant ----------------------------------------------------------------


async def test_a_channel_is_added_to_what_is_kept_and_taken_out() -> None:
    k = Keeper(ALICE)
    k.ask()
    await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant(info=b"1"))
    assert k.ask().value.channels == {"news": ChannelGrant(), "chat": ChannelGrant(info=b"1")}
    await k.keeper.change_channel("token-of-alice", "news", None)
    await k.keeper.change_channel("token-of-alice", "never", None)
    assert list(k.ask().value.channels) == ["chat"]
    assert k.questions == 1
    # For as long as it was kept before.
    assert {until for _, _, until in k.engine.puts} == {NOW + 3600 + 600}
    assert {grant.issued_at for _, grant, _ in k.engine.puts} == {NOW}


async def test_nothing_is_kept_of_a_token_that_is_not_known() -> None:
    k = Keeper(ALICE)
    await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant())
    assert k.engine.puts == []
    k.ask()
    k.engine.revoked_tokens.add(DIGEST)
    await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant())
    assert len(k.engine.puts) == 1


async def test_a_later_answer_overrides_a_channel_that_was_added() -> None:
    k = Keeper(ALICE, ttl=10)
    k.ask()
    await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant())
    k.clock.advance(11)
    assert list(k.ask().value.channels) == ["news"]


async def test_a_channel_is_taken_out_of_an_answer_that_is_on_its_way() -> None:
    k = Keeper()
    waiting = k.ask()
    waiting.deferred.cancel()
    await k.keeper.change_channel("token-of-alice", "news", None)
    await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant())
    k.cms.reply(ALICE)
    assert list(k.ask().value.channels) == ["chat"]
    assert k.questions == 1


async def test_no_channel_is_changed_where_the_engine_cannot_say() -> None:
    k = Keeper(ALICE)
    k.engine.trouble = NotConnected()
    with pytest.raises(NotConnected):
        await k.keeper.change_channel("token-of-alice", "chat", ChannelGrant())


# --- A CMS that contradicts itself -----------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({**ALICE, "disconnect": {"code": 3500}}, "Disconnect 3500 invalid token"),
        ({**ALICE, "error": {"code": 103}}, "Refused 103 permission denied"),
        ({"error": {"code": 103}, "disconnect": {"code": 4501}}, "Disconnect 4501 connection"),
    ],
)
def test_of_two_opposite_things_in_one_answer_the_harder_counts(answer: Any, says: str) -> None:
    k = Keeper(answer)
    assert k.ask().says.startswith(says)
    assert k.engine.kept == {}


def test_opposite_answers_one_after_the_other_the_last_counts() -> None:
    """Two servers of one CMS that know different things, for instance."""
    k = Keeper(ALICE, ttl=60)
    assert k.ask().value.user == "alice"
    for answer, says in (
        ({"disconnect": {"code": 3500}}, "Disconnect 3500 invalid token"),
        (ALICE, ""),
        ({"error": {"code": 103}}, "Refused 103 permission denied"),
        ({"result": {"user": "bob"}}, ""),
    ):
        k.clock.advance(61)
        k.cms.answer = answer
        assert k.ask().says == says
    assert k.ask().value.user == "bob"
    assert [grant.user for grant, _ in k.engine.kept.values()] == ["bob"]


def test_a_connect_and_a_renewal_at_once_are_one_question_with_one_answer() -> None:
    k = Keeper(ALICE, ttl=60)
    grant = k.ask().value
    k.clock.advance(61)
    k.cms.answer = None
    renewal = Outcome(Deferred.fromCoroutine(k.keeper.renew(asked(client="one"), grant)))
    connect = k.ask(asked(client="two"))
    assert k.cms.open == 1
    k.cms.reply({"disconnect": {"code": 4501}})
    assert connect.says == renewal.says == "Disconnect 4501 connection closed"
    assert k.at_rest()


# --- A CMS that is left alone ----------------------------------------------------------------


def test_while_the_cms_is_left_alone_known_grants_serve_and_the_others_are_told() -> None:
    k = Keeper(ALICE, ttl=60)
    k.ask()
    k.clock.advance(61)
    down(k)
    k.cms.headers["Retry-After"] = "30"
    k.ask(asked("unknown"))
    before = k.questions
    assert k.ask().value.user == "alice"
    told = k.ask(asked("unknown")).error
    assert isinstance(told, CmsUnavailable)
    assert 30 <= (told.retry_after or 0) <= 32
    assert k.questions == before
    patient = k.ask(asked("patient", patient=True))
    assert not patient.done
    k.cms.code, k.cms.answer = 200, ALICE
    k.clock.advance(31)
    assert patient.value.user == "alice"
    assert k.w.stats.grants == {"asked": 2, "stale": 1}


def test_where_grants_come_from_is_counted() -> None:
    k = Keeper(ttl=60)
    tabs = [k.ask() for _ in range(8)]
    k.cms.reply(ALICE)
    assert all(tab.done for tab in tabs)
    k.ask()
    assert k.w.stats.grants == {"asked": 1, "shared": 7, "kept": 1}
