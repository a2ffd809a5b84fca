"""The dialect of Drupal's module; questions and answers as captured from Drupal 7 and 9."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, SERVICE_KEY, Log, Outcome, World, asked, world
from twisted_push.cms.nodejs import NodejsDialect
from twisted_push.model import ChannelGrant, ConnectRequest, Grant

D7_TOKEN = "2f29f07c3cdabfe464232f244e2ab32b"
D7_ALICE = (
    b'{"uid":"2","name":"alice","pass":"$S$DTEcQEJc2P9Tu7J09nUFsFpILSL83rjunpeUFGof8k5RXneSaDi6",'
    b'"mail":"alice@example.com","theme":"","signature":"","signature_format":null,'
    b'"created":"1795449879","access":"1795451265","status":"1","timezone":null,"picture":null,'
    b'"data":false,"roles":{"2":"authenticated user"},"rdf_mapping":{"rdftype":'
    b'["sioc:UserAccount"],"name":{"predicates":["foaf:name"]}},'
    b'"authToken":"2f29f07c3cdabfe464232f244e2ab32b","nodejsValidAuthToken":true,'
    b'"clientId":"epSz1uONeqXaenGZAAAB","channels":["nodejs_user_2","nodejs_ajax_broadcast",'
    b'"example","pushlab_uid_2"],"presenceUids":["1","3"],"serviceKey":"lab-service-key",'
    b'"contentTokens":[]}'
)
D7_ANONYMOUS = (
    b'{"uid":0,"hostname":"127.0.0.1","roles":{"1":"anonymous user"},"cache":0,'
    b'"authToken":"55ca107a635c229ed940c49c502c9b31","nodejsValidAuthToken":true,'
    b'"clientId":"CqOz_vvS5FRy-jKUAAAA","channels":["nodejs_ajax_broadcast","example"],'
    b'"presenceUids":[],"serviceKey":"lab-service-key","contentTokens":[]}'
)
D7_REFUSED = (
    b'{"uid":0,"hostname":"127.0.0.1","roles":{"1":"anonymous user"},"cache":0,'
    b'"authToken":"93a5c55b6c4f2c8df4d126a7e4b335a5","nodejsValidAuthToken":false,'
    b'"clientId":"WhNlxE_jow_DlU9DAAAD"}'
)
D9_ADMIN = (
    b'{"uid":"1","authToken":"4c84d4fc3e9908221d04683ce8fdfaa9","nodejsValidAuthToken":true,'
    b'"clientId":"1ECvv3zzwMkObaahAAAB","channels":["nodejs_user_1","nodejs_ajax_broadcast",'
    b'"watchdog_dblog","example","pushlab_uid_1"],"presenceUids":["2","3"],'
    b'"contentTokens":{"watchdog_dblog":"O1wwmQMFoRO0l8Vpq8TrOzHGUyPFMfCZ1zBdsQ54mKE"}}'
)


def ask(w: World, request: ConnectRequest | None = None) -> Outcome:
    dialect = NodejsDialect(w.exchange, SERVICE_KEY)
    return Outcome(Deferred.fromCoroutine(dialect.ask(request or asked())))


def answered(answer: object) -> Outcome:
    return ask(world(answer))


def valid(**fields: Any) -> dict[str, Any]:
    return {"nodejsValidAuthToken": True, "uid": "2", **fields}


def channels(*names: str) -> dict[str, ChannelGrant]:
    return {name: ChannelGrant() for name in names}


def test_the_question_is_byte_for_byte_what_the_original_server_sent() -> None:
    w = world(D7_ALICE)
    dialect = NodejsDialect(w.exchange, "lab-service-key")
    request = asked(D7_TOKEN, "epSz1uONeqXaenGZAAAB")
    Outcome(Deferred.fromCoroutine(dialect.ask(request)))
    [question] = w.cms.asked
    assert question.body == (
        b"messageJson=%7B%22authToken%22%3A%222f29f07c3cdabfe464232f244e2ab32b%22%2C"
        b"%22messageType%22%3A%22authenticate%22%2C%22clientId%22%3A%22epSz1uONeqXaenGZAAAB%22%7D"
        b"&serviceKey=lab-service-key"
    )
    assert question.header("Content-Type") == b"application/x-www-form-urlencoded"
    assert question.header("Content-Length") == b"188"


def test_the_client_s_own_message_goes_along_and_our_fields_win() -> None:
    w = world(D9_ADMIN)
    ask(
        w,
        asked(
            data=b'{"authToken": "another", "contentTokens": {"watchdog_dblog": "O1ww+/="},'
            b' "messageType": "userOffline", "clientId": "another", "\xc3\xa9": 1.10}'
        ),
    )
    form = w.cms.asked[0].form
    assert form["serviceKey"] == SERVICE_KEY
    assert form["messageJson"] == (
        '{"authToken":"token-of-alice","contentTokens":{"watchdog_dblog": "O1ww+/="},'
        '"messageType":"authenticate","clientId":"client-1","é":1.10}'
    )


@pytest.mark.parametrize("data", [b"[1]", b'"text"', b"null", b"7"])
def test_data_that_is_no_message_is_left_out(data: bytes) -> None:
    w = world(D9_ADMIN)
    ask(w, asked(data=data))
    assert json.loads(w.cms.asked[0].form["messageJson"]) == {
        "authToken": "token-of-alice",
        "messageType": "authenticate",
        "clientId": "client-1",
    }


def test_the_service_key_cannot_be_broken_out_of() -> None:
    w = world(D9_ADMIN)
    ask(w, asked('x"}&serviceKey=mine&y=1'))
    form = w.cms.asked[0].form
    assert set(form) == {"messageJson", "serviceKey"}
    assert form["serviceKey"] == SERVICE_KEY


def test_a_user_of_drupal_7() -> None:
    outcome = answered(D7_ALICE)
    assert outcome.value == Grant(
        user="2",
        issued_at=NOW,
        channels=channels("nodejs_user_2", "nodejs_ajax_broadcast", "example", "pushlab_uid_2"),
        presence_to=frozenset({"1", "3"}),
    )
    for secret in ("lab-service-key", "$S$", "alice@example.com", "authenticated user"):
        assert secret not in repr(outcome.value) + repr(outcome.value.raw)


def test_an_anonymous_visitor_of_drupal_7() -> None:
    assert answered(D7_ANONYMOUS).value == Grant(
        user="",
        issued_at=NOW,
        channels=channels("nodejs_ajax_broadcast", "example"),
        presence_to=frozenset(),
    )


def test_a_user_of_drupal_9_with_a_content_token() -> None:
    grant = answered(D9_ADMIN).value
    assert (grant.user, grant.presence_to) == ("1", {"2", "3"})
    assert grant.content_tokens == {"watchdog_dblog": "O1wwmQMFoRO0l8Vpq8TrOzHGUyPFMfCZ1zBdsQ54mKE"}


def test_a_refusal_is_not_a_failure(log: Log) -> None:
    w = world(D7_REFUSED)
    assert ask(w).says == "Disconnect 3500 invalid token"
    assert w.stats.callbacks == {"refused": 1}
    assert log.lines == []


@pytest.mark.parametrize("yes", [True, 1, "1", "true"])
def test_yes_in_php(yes: object) -> None:
    assert answered(valid(nodejsValidAuthToken=yes)).value.user == "2"


@pytest.mark.parametrize("no", [False, 0, "0", "", "false", None])
def test_no_in_php(no: object) -> None:
    assert answered(valid(nodejsValidAuthToken=no)).says == "Disconnect 3500 invalid token"


@pytest.mark.parametrize(
    ("uid", "user"), [("2", "2"), (2, "2"), (0, ""), ("0", ""), ("", ""), ("alice", "alice")]
)
def test_uids(uid: object, user: str) -> None:
    assert answered(valid(uid=uid)).value.user == user


@pytest.mark.parametrize("names", [["a", "7"], ["a", 7], {"0": "a", "2": "7"}, {"0": "a", "5": 7}])
def test_channels_as_list_or_object(names: object) -> None:
    assert answered(valid(channels=names)).value.channels == channels("a", "7")


@pytest.mark.parametrize(
    "uids", [["1", "3"], [1, 3], {"0": "1", "2": "3"}, {"1": 1, "3": "3"}, [0, 1, "0", "3"]]
)
def test_presence_uids_as_list_or_object(uids: object) -> None:
    assert answered(valid(presenceUids=uids)).value.presence_to == {"1", "3"}


@pytest.mark.parametrize("none", [None, [], {}])
def test_nothing_in_php(none: object) -> None:
    grant = answered(valid(channels=none, presenceUids=none, contentTokens=none)).value
    assert grant == Grant(user="2", issued_at=NOW, presence_to=frozenset())


def test_the_answer_s_client_id_moves_nobody() -> None:
    grant = answered(valid(clientId="of-somebody-else", authToken="another")).value
    assert grant == Grant(user="2", issued_at=NOW, presence_to=frozenset())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"error": "Invalid service key."}, "the CMS answers: Invalid service key."),
        ({"error": "Not implemented"}, "the CMS answers: Not implemented"),
        ({"error": "SQLSTATE[42000]: secret"}, "the CMS answers: an error"),
        (valid(error={"code": "secret"}), "the CMS answers: an error"),
        ({}, "nodejsValidAuthToken is neither true nor false"),
        ({"uid": "2", "channels": []}, "nodejsValidAuthToken is neither true nor false"),
        (valid(nodejsValidAuthToken=2), "nodejsValidAuthToken is neither true nor false"),
        (valid(nodejsValidAuthToken="yes"), "nodejsValidAuthToken is neither true nor false"),
        (valid(nodejsValidAuthToken=[True]), "got `array` - at `$.nodejsValidAuthToken`"),
        (valid(uid=None), "there is no uid"),
        ({"nodejsValidAuthToken": True}, "there is no uid"),
        (valid(uid=True), "got `bool` - at `$.uid`"),
        (valid(uid=2.5), "got `float` - at `$.uid`"),
        (valid(uid=["2"]), "got `array` - at `$.uid`"),
        (valid(channels="a"), "got `str` - at `$.channels`"),
        (valid(channels=[["secret"]]), "got `array` - at `$.channels[0]`"),
        (valid(channels={"secret": None}), "got `null` - at `$.channels[...]`"),
        (valid(presenceUids=7), "got `int` - at `$.presenceUids`"),
        (valid(contentTokens=["a"]), "contentTokens is a list"),
        (valid(contentTokens={"secret": ["a"]}), "got `array` - at `$.contentTokens[...]`"),
        (b"null", "got `null`"),
        (b"[]", "got `array`"),
        (b"<html>", "no JSON"),
        (b"", "no JSON"),
    ],
    ids=str,
)
def test_malformed_answers(answer: object, why: str, log: Log) -> None:
    outcome = answered(answer)
    assert outcome.says.startswith("CmsUnavailable malformed: ")
    assert why in outcome.says
    assert "secret" not in outcome.says + log.everything
    assert len(log.lines) == 1


def test_nothing_secret_is_shown() -> None:
    assert SERVICE_KEY not in repr(NodejsDialect(world().exchange, SERVICE_KEY))
