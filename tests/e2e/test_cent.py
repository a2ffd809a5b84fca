"""The public Python library of the server API (PyPI ``cent``)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cent
import pytest
import requests

from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, PushServer, eventually, jwt_for


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def api(server: PushServer, session: requests.Session) -> cent.Client:
    return cent.Client(f"{server.url}/api", KEY, session=session)


@pytest.fixture
def alice(server: PushServer) -> Iterator[RawClient]:
    with RawClient(server) as client:
        client.connect("alice-token")
        yield client


def test_publish(api: cent.Client, alice: RawClient) -> None:
    result = api.publish(
        cent.PublishRequest(channel="news", data={"text": "hello"}, tags={"kind": "greeting"})
    )
    assert result.offset > 0
    assert result.epoch
    got = alice.publication("news")
    assert got["data"] == {"text": "hello"}
    assert got["tags"] == {"kind": "greeting"}
    assert got["offset"] == result.offset


def test_publish_without_history(api: cent.Client, alice: RawClient) -> None:
    before = api.publish(cent.PublishRequest(channel="news", data=1)).offset
    skipped = api.publish(cent.PublishRequest(channel="news", data=2, skip_history=True))
    after = api.publish(cent.PublishRequest(channel="news", data=3)).offset
    assert skipped.offset in (0, before)
    assert after == before + 1
    assert [alice.publication("news")["data"] for _ in range(3)] == [1, 2, 3]


def test_publish_once_with_an_idempotency_key(api: cent.Client, alice: RawClient) -> None:
    request = cent.PublishRequest(channel="news", data="once", idempotency_key="key-1")
    first = api.publish(request)
    second = api.publish(request)
    assert first.offset == second.offset
    api.publish(cent.PublishRequest(channel="news", data="next"))
    assert [alice.publication("news")["data"] for _ in range(2)] == ["once", "next"]


def test_broadcast(api: cent.Client, alice: RawClient) -> None:
    result = api.broadcast(cent.BroadcastRequest(channels=["news", "broadcast"], data=[1]))
    assert len(result.responses) == 2
    assert all(response.error is None for response in result.responses)
    first = result.responses[0].result
    assert first is not None
    assert first.offset > 0
    assert alice.publication("news")["data"] == [1]
    assert alice.publication("broadcast")["data"] == [1]


def test_broadcast_with_one_bad_channel(api: cent.Client, alice: RawClient) -> None:
    result = api.broadcast(cent.BroadcastRequest(channels=["bad\nname", "news"], data=7))
    bad, good = result.responses
    assert bad.error is not None
    assert bad.error.code == 107
    assert good.error is None
    assert alice.publication("news")["data"] == 7


def test_subscribe_and_unsubscribe(api: cent.Client, alice: RawClient) -> None:
    api.subscribe(cent.SubscribeRequest(user="alice", channel="chat:api", data={"why": "api"}))
    push = alice.message()["push"]
    assert push["channel"] == "chat:api"
    assert push["subscribe"]["data"] == {"why": "api"}
    api.publish(cent.PublishRequest(channel="chat:api", data="in"))
    assert alice.publication("chat:api")["data"] == "in"

    api.unsubscribe(cent.UnsubscribeRequest(user="alice", channel="chat:api"))
    while "unsubscribe" not in (push := alice.message()["push"]):
        pass
    assert push["channel"] == "chat:api"
    assert push["unsubscribe"]["code"] == 2000
    api.publish(cent.PublishRequest(channel="chat:api", data="out"))
    api.publish(cent.PublishRequest(channel="news", data="still here"))
    assert alice.message()["push"]["pub"]["data"] == "still here"


def test_disconnect(api: cent.Client, server: PushServer) -> None:
    with RawClient(server) as first, RawClient(server) as second:
        kept = first.connect("kicked-token")["client"]
        second.connect("kicked-token")
        api.disconnect(
            cent.DisconnectRequest(
                user="kicked",
                whitelist=[kept],
                disconnect=cent.Disconnect(code=4501, reason="house rules"),
            )
        )
        assert second.closing() == (4501, "house rules")
        assert "ping" in first.command("ping")
        api.disconnect(cent.DisconnectRequest(user="kicked", client=kept))
        assert first.closing()[0] == 3503


def test_refresh(api: cent.Client, server: PushServer) -> None:
    with RawClient(server) as client:
        client.connect(jwt_for("carol"))
        until = int(time.time()) + 600
        api.refresh(cent.RefreshRequest(user="carol", expire_at=until))
        push = client.message()["push"]
        assert push["refresh"]["expires"] is True
        assert 500 < push["refresh"]["ttl"] <= 601
        api.refresh(cent.RefreshRequest(user="carol", expired=True))
        assert client.closing()[0] == 3005


def test_presence(api: cent.Client, alice: RawClient) -> None:
    alice.command("subscribe", channel="chat:cent-presence")
    found = api.presence(cent.PresenceRequest(channel="chat:cent-presence")).presence
    assert [info.user for info in found.values()] == ["alice"]
    assert [info.conn_info for info in found.values()] == [{"name": "Alice"}]
    stats = api.presence_stats(cent.PresenceStatsRequest(channel="chat:cent-presence"))
    assert (stats.num_clients, stats.num_users) == (1, 1)


def test_history(api: cent.Client) -> None:
    for number in range(5):
        api.publish(cent.PublishRequest(channel="chat:past", data=number))
    top = api.history(cent.HistoryRequest(channel="chat:past"))
    assert (top.offset, top.publications) == (5, [])
    everything = api.history(cent.HistoryRequest(channel="chat:past", limit=-1))
    assert [each.data for each in everything.publications] == [0, 1, 2, 3, 4]
    assert [each.offset for each in everything.publications] == [1, 2, 3, 4, 5]
    since = cent.StreamPosition(offset=2, epoch=top.epoch)
    some = api.history(cent.HistoryRequest(channel="chat:past", limit=2, since=since))
    assert [each.data for each in some.publications] == [2, 3]
    last = api.history(cent.HistoryRequest(channel="chat:past", limit=2, reverse=True))
    assert [each.data for each in last.publications] == [4, 3]


def test_history_remove(api: cent.Client) -> None:
    api.publish(cent.PublishRequest(channel="chat:gone", data=1))
    api.history_remove(cent.HistoryRemoveRequest(channel="chat:gone"))
    found = api.history(cent.HistoryRequest(channel="chat:gone", limit=-1))
    assert found.publications == []
    assert found.offset == 1


def test_a_position_that_leads_nowhere(api: cent.Client) -> None:
    api.publish(cent.PublishRequest(channel="chat:nowhere", data=1))
    since = cent.StreamPosition(offset=1, epoch="of another life")
    with pytest.raises(cent.CentApiResponseError) as caught:
        api.history(cent.HistoryRequest(channel="chat:nowhere", limit=1, since=since))
    assert caught.value.code == 112


def test_history_of_a_channel_without_any(api: cent.Client) -> None:
    with pytest.raises(cent.CentApiResponseError) as caught:
        api.history(cent.HistoryRequest(channel="open:1", limit=1))
    assert caught.value.code == 108


def test_channels(api: cent.Client, alice: RawClient) -> None:
    alice.command("subscribe", channel="open:listed")
    found = api.channels(cent.ChannelsRequest(pattern="open:*")).channels
    assert {name: each.num_clients for name, each in found.items()} == {"open:listed": 1}
    assert "news" in api.channels(cent.ChannelsRequest()).channels


def test_info(api: cent.Client, alice: RawClient) -> None:
    def settled() -> bool:
        (node,) = api.info(cent.InfoRequest()).nodes
        return node.num_clients == 1 and node.num_users == 1

    eventually("only alice is there", settled)
    (node,) = api.info(cent.InfoRequest()).nodes
    assert node.uid
    assert node.name
    assert node.num_channels >= 2


def test_batch(api: cent.Client, alice: RawClient) -> None:
    requests = [
        cent.PublishRequest(channel="news", data="batched"),
        cent.PresenceStatsRequest(channel="news"),
        cent.InfoRequest(),
    ]
    published, stats, info = api.batch(cent.BatchRequest(requests=requests)).replies
    assert isinstance(published, cent.PublishResult)
    assert published.offset > 0
    assert isinstance(stats, cent.PresenceStatsResult)
    assert stats.num_clients >= 1
    assert isinstance(info, cent.InfoResult)
    assert alice.publication("news")["data"] == "batched"
    parallel = api.batch(cent.BatchRequest(requests=requests[:1] * 3, parallel=True))
    assert len(parallel.replies) == 3


def test_wrong_key(server: PushServer, session: requests.Session) -> None:
    stranger = cent.Client(f"{server.url}/api", "a-key-that-nobody-has-given", session=session)
    with pytest.raises(cent.CentUnauthorizedError):
        stranger.publish(cent.PublishRequest(channel="news", data=1))


def test_no_key(server: PushServer, session: requests.Session) -> None:
    stranger = cent.Client(f"{server.url}/api", "", session=session)
    with pytest.raises(cent.CentUnauthorizedError):
        stranger.info(cent.InfoRequest())


def test_bad_requests(api: cent.Client) -> None:
    with pytest.raises(cent.CentApiResponseError) as caught:
        api.publish(cent.PublishRequest(channel="", data=1))
    assert caught.value.code == 107
