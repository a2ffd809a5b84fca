"""Grants over time: what ends them, what renews them, and what overtakes them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import jwt
import pytest

from tests.e2e.cms import PEOPLE, Answer, Request, StubCms, in_turn, says, user
from tests.e2e.raw_client import RawClient
from tests.e2e.server import PATIENCE, TOKEN_SECRET, PushServer, jwt_for


def slow(name: str) -> Answer:
    """Let in a user who takes half a second."""
    answer = user(name, "news")

    def answer_slowly(request: Request) -> None:
        request.server.stopping.wait(0.5)
        answer(request)

    return answer_slowly


def ending(request: Request) -> None:
    """Let in a user for two seconds."""
    user("ender", expire_at=int(time.time()) + 2)(request)


@pytest.fixture(scope="module")
def cms() -> Iterator[StubCms]:
    no_more = says({"error": {"code": 403, "message": "no more"}})
    answers = {**PEOPLE, "ending-token": in_turn(ending, no_more)}
    answers |= {f"slow-{name}-token": slow(f"slow-{name}") for name in ("c", "d")}
    with StubCms(answers) as stub:
        yield stub


def subscription_token(**claims: object) -> str:
    payload = {"sub": "alice", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(payload, TOKEN_SECRET, algorithm="HS256")


def test_subscription_tokens(server: PushServer) -> None:
    with RawClient(server) as client:
        client.connect()

        def subscribe(channel: str, token: str) -> int:
            reply = client.command("subscribe", channel=channel, token=token)
            code: int = reply.get("error", {}).get("code", 0)
            return code

        good = subscription_token(channel="signed:1")
        assert subscribe("signed:1", "") == 103
        assert subscribe("signed:1", "garbage") == 103
        assert subscribe("signed:1", subscription_token(channel="signed:2")) == 103
        assert subscribe("signed:1", subscription_token(channel="signed:1", sub="bob")) == 103
        forged = jwt.encode({"sub": "alice", "channel": "signed:1"}, "x" * 40, algorithm="HS256")
        assert subscribe("signed:1", forged) == 103
        unsigned = jwt.encode({"sub": "alice", "channel": "signed:1"}, "", algorithm="none")
        assert subscribe("signed:1", unsigned) == 103
        expired = subscription_token(channel="signed:1", exp=int(time.time()) - 60)
        assert subscribe("signed:1", expired) == 109
        assert subscribe("signed:1", good) == 0
        server.publish("signed:1", "hello")
        assert client.publication("signed:1")["data"] == "hello"


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode({"sub": "mallory"}, "another-secret-that-is-long-enough-too", algorithm="HS256"),
        jwt.encode({"sub": "mallory"}, "", algorithm="none"),
        jwt.encode({"sub": "mallory", "channel": "signed:1"}, TOKEN_SECRET, algorithm="HS256"),
        jwt.encode({"sub": "mallory"}, TOKEN_SECRET * 2, algorithm="HS512"),
    ],
    ids=["forged", "unsigned", "of a subscription", "of another algorithm"],
)
def test_bad_signed_tokens(server: PushServer, cms: StubCms, token: str) -> None:
    asked = len(cms.questions)
    with RawClient(server) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert client.closing()[0] == 3500
    assert len(cms.questions) == asked


def test_a_signed_token_is_renewed(server: PushServer) -> None:
    with RawClient(server) as client:
        result = client.connect(jwt_for("gina", exp=int(time.time()) + 30))
        assert result["expires"] is True
        assert 28 <= result["ttl"] <= 30
        token = jwt_for("gina", exp=int(time.time()) + 600)
        refreshed = client.command("refresh", token=token)["refresh"]
        assert refreshed["expires"] is True
        assert 590 < refreshed["ttl"] <= 600
        # Nobody else's token renews it.
        client.send(json.dumps({"id": 50, "refresh": {"token": jwt_for("mallory")}}))
        assert client.failure() in (101, 103, 107, 3500)


def test_a_signed_token_ends(server: PushServer) -> None:
    """The client has 25 seconds after the end for a new one."""
    with RawClient(server) as client:
        client.connect(jwt_for("harry"))
        server.api("refresh", user="harry", expire_at=int(time.time()) - 22)
        assert "refresh" in client.message()["push"]
        with pytest.raises(TimeoutError):
            client.message(timeout=1)
        assert client.closing()[0] == 3005


def test_an_answer_of_the_cms_ends(server: PushServer, cms: StubCms) -> None:
    """The CMS is asked before the end; if it says no, the client is closed."""

    def asked() -> int:
        return sum(question.get("token") == "ending-token" for question in cms.questions)

    with RawClient(server) as client:
        assert "expires" not in client.connect("ending-token")
        assert client.closing(timeout=PATIENCE)[0] == 3005
    assert asked() == 2


@pytest.mark.parametrize(
    ("token", "logout"),
    [("late-1", {"token": "late-1"}), ("late-2", {"user": "late"})],
    ids=["of the token", "of the user"],
)
def test_a_logout_overtakes_an_answer(
    server: PushServer, cms: StubCms, token: str, logout: dict[str, str]
) -> None:
    """The CMS has said yes, and no thereafter: no counts."""
    asked, go = threading.Event(), threading.Event()

    def late(request: Request) -> None:
        asked.set()
        go.wait(PATIENCE)
        user("late", "news")(request)

    cms.http.answers[token] = late
    with RawClient(server) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert asked.wait(PATIENCE)
        server.api("logout", **logout)
        go.set()
        assert client.failure() == 3500
    assert "late" not in server.api("users")["users"]


def test_a_client_that_goes_while_the_cms_is_asked(server: PushServer) -> None:
    with RawClient(server) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": "slow-c-token"}}))
    time.sleep(0.7)
    assert "slow-c" not in server.api("users")["users"]
    with RawClient(server) as client:
        client.connect("slow-c-token")


def test_commands_wait_for_the_connect(server: PushServer) -> None:
    with RawClient(server) as client:
        client.send(
            '{"id":1,"connect":{"token":"slow-d-token"}}\n'
            '{"id":2,"subscribe":{"channel":"open:waiting"}}'
        )
        client.send('{"id":3,"publish":{"channel":"open:waiting","data":"first"}}')
        assert "connect" in client.message()
        assert "subscribe" in client.message()
        seen = [client.message(), client.message()]
        assert any(each.get("push", {}).get("pub", {}).get("data") == "first" for each in seen)


# -- Recovery ---------------------------------------------------------------------------------


def position(server: PushServer) -> dict[str, object]:
    """Give the position of ``news``, as a client that is connected knows it."""
    with RawClient(server) as client:
        found = client.connect()["subs"]["news"]
    return {"epoch": found["epoch"], "offset": found.get("offset", 0), "recover": True}


def test_everything_missed_comes_in_order(server: PushServer) -> None:
    at = position(server)
    for number in range(10):
        server.publish("news", number)
    with RawClient(server) as client:
        found = client.connect(subs={"news": at})["subs"]["news"]
        assert found["was_recovering"] is True
        assert found["recovered"] is True
        assert [each["data"] for each in found["publications"]] == list(range(10))
        server.publish("news", "live")
        assert client.publication("news")["data"] == "live"


def test_nothing_missed(server: PushServer) -> None:
    at = position(server)
    with RawClient(server) as client:
        found = client.connect(subs={"news": at})["subs"]["news"]
    assert found["recovered"] is True
    assert found.get("publications", []) == []


@pytest.mark.parametrize("fault", ["too much was missed", "another epoch", "from the future"])
def test_never_a_silent_gap(server: PushServer, fault: str) -> None:
    at = position(server)
    if fault == "too much was missed":
        for number in range(11):  # The history holds ten.
            server.publish("news", number)
    elif fault == "another epoch":
        at["epoch"] = "xxxxxxxx"
    else:
        at["offset"] = 10**9
    with RawClient(server) as client:
        found = client.connect(subs={"news": at})["subs"]["news"]
        assert found["was_recovering"] is True
        assert found.get("recovered", False) is False
        assert found.get("publications", []) == []
        top = position(server)
        assert (found["epoch"], found.get("offset", 0)) == (top["epoch"], top["offset"])


def test_recovery_of_a_channel_that_the_client_asks_for(server: PushServer) -> None:
    with RawClient(server) as client:
        client.connect()
        first = client.command("subscribe", channel="chat:rec")["subscribe"]
    for number in range(3):
        server.publish("chat:rec", number)
    with RawClient(server) as client:
        client.connect()
        found = client.command(
            "subscribe",
            channel="chat:rec",
            recover=True,
            epoch=first["epoch"],
            offset=first.get("offset", 0),
        )["subscribe"]
        assert found["recovered"] is True
        assert [each["data"] for each in found["publications"]] == [0, 1, 2]
