from __future__ import annotations

from typing import Any

import jwt
import pytest
from zope.interface.verify import verifyObject

from tests.unit.cms.support import (
    NOW,
    FakeEngine,
    MemoryCms,
    Outcome,
    asked,
    clock_at,
    config,
    the_reactor,
)
from twisted_push.cms.breaker import FAILURES, Circuit
from twisted_push.cms.gate import MAX_TOKEN_LENGTH, make_gate
from twisted_push.cms.grants import token_digest
from twisted_push.config import CallbackConfig, SiteConfig
from twisted_push.errors import OutcomeUnknown, Refused
from twisted_push.interfaces import IAuthenticator
from twisted_push.model import Grant
from twisted_push.stats import SiteStats

SECRET = "a-secret-of-the-site-with-32-bytes"
BAD = "Disconnect 3500 invalid token"
ALICE = {"result": {"user": "alice"}}
DRUPAL = {"nodejsValidAuthToken": True, "uid": "2"}


class Site:
    def __init__(self, callback: CallbackConfig | None = None, **changes: Any) -> None:
        self.clock, self.stats, self.cms = clock_at(), SiteStats(), MemoryCms(ALICE)
        self.engine = FakeEngine(self.clock)
        site = SiteConfig(callback=callback, **changes)
        self.gate = make_gate(site, self.engine.engine, self.clock, self.stats, self.cms.agent)

    def ask(self, token: str = "", **headers: str) -> Outcome:
        return Outcome(self.gate.authenticate(asked(token, headers=headers)))


def sign(**claims: Any) -> str:
    return jwt.encode(claims, SECRET, algorithm="HS256")


def test_the_interface() -> None:
    assert verifyObject(IAuthenticator, Site().gate)


def test_nobody_gets_in_where_nothing_is_configured() -> None:
    site = Site()
    assert site.ask().says == BAD
    assert site.ask("token").says == BAD
    assert site.ask(sign(sub="42")).says == BAD


def test_anonymous_clients_where_they_may() -> None:
    site = Site(anonymous=True)
    assert site.ask().value == Grant(user="", issued_at=NOW)
    assert site.ask("a token that nobody knows").says == BAD


def test_a_signed_token_is_checked_here() -> None:
    site = Site(config(), token_secret=SECRET)
    assert site.ask(sign(sub="42", iat=NOW - 5)).value == Grant(
        user="42", issued_at=NOW - 5, client_refresh=True
    )
    assert site.ask(sign(sub="42") + "x").says == BAD
    assert site.ask(sign(sub="42", exp=NOW)).says == "Refused 109 token expired"
    assert site.cms.asked == []
    assert site.engine.gets == 0


def test_without_a_secret_a_jwt_is_a_token_like_any_other() -> None:
    site = Site(config())
    assert site.ask(sign(sub="42")).value.user == "alice"


def test_with_a_secret_other_tokens_are_for_the_cms() -> None:
    site = Site(config(), token_secret=SECRET)
    assert site.ask("opaque").value.user == "alice"
    assert Site(token_secret=SECRET).ask("opaque").says == BAD


@pytest.mark.parametrize("what", ["token", "user"])
def test_a_logout_beats_a_signed_token(what: str) -> None:
    site = Site(token_secret=SECRET)
    token = sign(sub="42", iat=NOW - 5)
    if what == "token":
        site.engine.revoked_tokens.add(token_digest(token))
    else:
        site.engine.revoked_users["42"] = NOW - 1
    assert site.ask(token).says == BAD
    if what == "user":
        assert site.ask(sign(sub="42", iat=NOW)).value.user == "42"
        assert site.ask(sign(sub="42")).says == BAD


def test_a_browser_without_a_token_is_known_by_a_forwarded_header() -> None:
    site = Site(config(forward_headers=("Cookie", "X-User")), anonymous=True)
    assert site.ask("", cookie="sid=1").value.user == "alice"
    assert site.ask("", origin="https://a.test").value.user == ""
    assert site.ask("", cookie="sid=1\n2").value.user == ""
    assert len(site.cms.asked) == 1


def test_without_a_token_and_a_header_nobody_is_asked() -> None:
    assert Site(config()).ask().says == BAD


def test_drupal_is_asked_only_about_tokens() -> None:
    site = Site(config(dialect="nodejs"))
    site.cms.answer = DRUPAL
    assert site.ask("", cookie="SESS=1").says == BAD
    assert site.ask("token").value.user == "2"
    assert site.cms.asked[0].form["serviceKey"] == "service-key-0123456789"


@pytest.mark.parametrize("dialect", ["connect", "nodejs"])
@pytest.mark.parametrize(
    "token",
    ["x" * (MAX_TOKEN_LENGTH + 1), "a\x00", "a\nb", "\x7f", "\x85", "\ud800", "a\x1bb"],
    ids=repr,
)
def test_a_token_that_cannot_be_one_is_refused_without_asking(token: str, dialect: str) -> None:
    site = Site(config(dialect=dialect), token_secret=SECRET, anonymous=True)
    assert site.ask(token).says == BAD
    assert site.cms.asked == []
    assert site.engine.gets == 0
    with pytest.raises(Refused):
        site.gate.verify_subscription(token)


@pytest.mark.parametrize("token", ["x" * MAX_TOKEN_LENGTH, "zoë", "日本", '"<&=%00'])
def test_any_other_token_reaches_the_cms_as_it_is(token: str) -> None:
    site = Site(config())
    assert site.ask(token).value.user == "alice"
    assert site.cms.asked[0].json["token"] == token


def test_when_the_engine_fails_nobody_can_say() -> None:
    site = Site(config(), token_secret=SECRET)
    site.engine.trouble = OutcomeUnknown("of the answer")
    assert site.ask("token").says == "CmsUnavailable the engine: OutcomeUnknown"
    assert site.ask(sign(sub="42")).says == "CmsUnavailable the engine: OutcomeUnknown"


def test_subscription_tokens() -> None:
    site = Site(token_secret=SECRET)
    assert site.gate.verify_subscription(sign(channel="a", sub="42")).channel == "a"
    with pytest.raises(Refused, match="103"):
        Site().gate.verify_subscription(sign(channel="a", sub="42"))


def test_nothing_secret_is_shown() -> None:
    site = Site(config(basic_auth=("user", "pass-word")), token_secret=SECRET)
    shown = repr(site.gate)
    assert SECRET not in shown
    assert "pass-word" not in shown
    assert "service-key" not in shown


@pytest.mark.parametrize("token", ["token", ""])
def test_who_cancels_is_gone_and_the_question_ends_by_itself(token: str) -> None:
    site = Site(config())
    site.cms.answer = None
    outcome = site.ask(token, cookie="sid=1")
    assert site.cms.open == 1
    outcome.deferred.cancel()
    assert outcome.says.startswith("CancelledError")
    assert site.cms.open == 1
    site.cms.reply({"result": {"user": "alice"}})
    assert site.clock.getDelayedCalls() == []


async def test_closing_with_a_real_server(raw_cms: Any) -> None:
    cms = raw_cms(lambda connection: None)
    site = SiteConfig(callback=config(url=cms.url))
    clock = clock_at()
    gate = make_gate(site, FakeEngine(clock).engine, the_reactor(), SiteStats())
    outcome = Outcome(gate.authenticate(asked()))
    await gate.close()
    assert outcome.says == "CmsUnavailable the server is stopping"
    await make_gate(SiteConfig(), FakeEngine(clock).engine, clock, SiteStats()).close()


@pytest.mark.parametrize(("refresh_url", "held_back"), [("", True), ("http://cms.test/r", False)])
def test_renewals_are_held_back_by_the_circuit_of_their_own_question(
    refresh_url: str, held_back: bool
) -> None:
    assert Site().gate.circuit is Circuit.CLOSED
    site = Site(config(refresh_url=refresh_url))
    assert site.gate.entrances == {}
    site.cms.code = 500
    for number in range(FAILURES):
        site.ask(str(number))
    assert list(site.gate.entrances) == ["connect"]
    assert (site.gate.circuit is Circuit.OPEN) is held_back
