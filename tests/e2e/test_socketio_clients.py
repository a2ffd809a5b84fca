"""Socket.IO's own clients, 1.7 to 4.8, on every transport, with the PHP side of the nodejs module.

One process of Node.js has all of them, each in one or more sockets.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

import pytest

from tests.e2e.cms import Answer, hang_up, html, invalid_json, says, silence
from tests.e2e.drupal import forbidden, moved
from tests.e2e.raw_engineio import Polling
from tests.e2e.server import KEY, Dialogue, eventually, log_is_quiet
from tests.e2e.socketio_world import KINDS, VERSIONS, Kind, World, running

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
MODULES = ("7a", "7b", "8")
ASTRAL = "grüße 🌍 \u2028 𝄞"

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture(scope="module")
def library(node: str) -> Iterator[Dialogue]:
    """Run the process of the clients."""
    with Dialogue([node, str(HERE / "js" / "socketio.cjs")], HERE) as process:
        yield process


@pytest.fixture(scope="module")
def site(library: Dialogue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    callback = {"timeout": "1s", "client_messages": True}
    folder = tmp_path_factory.mktemp("site")
    with running(folder, library, callback_options=callback) as world:
        yield world


@pytest.fixture
def world(site: World) -> Iterator[World]:
    """Give the site of the module without a client; see that it has none afterwards."""
    site.clients.clear()
    yield site
    site.close()


# --- Messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [7, 9])
@every_kind
def test_connect(world: World, kind: Kind, generation: int) -> None:
    world.drupal.http.generation = generation
    # PHP gives a list, or an object.
    seven = generation == 7
    token, uid = world.person("example", presence=("1", "3"), presence_object=seven)

    client = world.open(kind, token)
    told = client.authenticated()

    connected = client.wait("connect")
    if kind.transport == "default":
        client.upgraded()
    else:
        assert connected["transport"] == kind.transport
    # What the page is told is ours, and none of the account.
    assert told["data"] == {
        "uid": str(uid),
        "authToken": token,
        "nodejsValidAuthToken": True,
        "clientId": connected["socket"],
        "channels": [f"nodejs_user_{uid}", "example"],
        "presenceUids": ["1", "3"],
        "contentTokens": [],
    }
    assert len(world.drupal.asked_of("authenticate", authToken=token)) == 1


@every_kind
def test_messages(world: World, kind: Kind) -> None:
    token, uid = world.person("example")
    other_token, _ = world.person("example")
    here, there = world.let_in(kind, token), world.let_in(kind, other_token)

    for php in map(world.php, MODULES):
        own = {} if php.kind == "8" else {"clientSocketId": ""}
        data = {"subject": "<b>'s & /", "n": [1, 2.5, None, True], "from": php.kind}
        assert php.send(f"nodejs_user_{uid}", data, callback="nodejsNotify") == 1
        private = {"channel": f"nodejs_user_{uid}", "broadcast": False, "data": data, **own}
        here.message(**private, callback="nodejsNotify")

        assert php.send("example", php.kind) == 2
        assert php.broadcast("to all", php.kind) == 2
        public = {"broadcast": True, "data": {"subject": "to all", "body": php.kind}}
        for client in (here, there):
            client.message(channel="example", broadcast=False, data=php.kind, **own)
            client.message(channel="nodejs_notify", **public, **own)
        assert php.send("nobody_is_here", 1) == 0
    assert there.channel(f"nodejs_user_{uid}") == []
    assert here.channel("example") == there.channel("example") == list(MODULES)


@every_kind
def test_a_large_message(world: World, kind: Kind) -> None:
    token, _ = world.person("example")
    client = world.let_in(kind, token)

    assert world.php().send("example", "x" * 200_000) == 1
    assert world.php().send("example", "after") == 1

    client.message(channel="example", broadcast=False, data="after")
    assert client.channel("example") == ["x" * 200_000, "after"]


@every_kind
def test_text_of_all_planes(world: World, kind: Kind) -> None:
    if str(kind) == "1.7-polling":
        pytest.skip("the 1.x clients encode twice where they poll, with their own server, too")
    token, _ = world.person("example")
    # What a client of 1.x says before its upgrade comes by polling.
    says_so = {"greeting": ASTRAL} if str(kind) != "1.7-default" else {}

    client = world.let_in(kind, token, **says_so)
    if kind.transport == "default":
        client.upgraded()
    for number in range(3):
        world.php().send("example", ASTRAL * (number + 1))

    client.message(channel="example", broadcast=False, data=ASTRAL * 3)
    assert client.channel("example") == [ASTRAL, ASTRAL * 2, ASTRAL * 3]
    [asked] = world.drupal.asked_of("authenticate", authToken=token)
    assert asked.get("greeting", ASTRAL) == ASTRAL


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_lost_or_doubled_across_the_upgrade(world: World, version: str) -> None:
    token, _ = world.person("example")
    options = {"transports": ["polling", "websocket"], "upgrade": False}
    client = world.let_in(Kind(version, "default"), token, options=options)
    stop = threading.Event()
    sent: list[int] = []

    def publish() -> None:
        php = world.php()
        while not stop.is_set():
            assert php.send("example", len(sent)) == 1
            sent.append(len(sent))

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        eventually("messages come by polling", lambda: len(client.channel("example")) >= 50)
        client.do("upgrade")
        upgraded = client.upgraded().events("upgrade")[0]
        eventually("200 were sent", lambda: len(sent) >= 200)
    finally:
        stop.set()
        publisher.join()

    client.message(channel="example", broadcast=False, data=sent[-1])
    assert client.channel("example") == sent
    events = client.library.events
    after = events[events.index(upgraded) :]
    assert any(e["event"] == "message" and e["id"] == client.id for e in after)
    assert client.events("disconnect") == []


@every_kind
def test_who_sent_it_is_not_given_its_echo(world: World, kind: Kind) -> None:
    token, _ = world.person("example")
    tabs = [world.let_in(kind, token) for _ in range(2)]
    if kind.transport == "default":
        for tab in tabs:
            tab.upgraded()
    id = tabs[0].do("state")["socket"]
    assert id == tabs[0].wait("connect")["socket"]

    assert world.php("7b").send("example", "echo", client=id) == 1
    assert world.php("7b").send("example", "to all") == 2

    # Up to 2.x a client that polls takes for its id what its requests are known by.
    secret = kind.version < "3" and kind.transport == "polling"
    shown = "" if secret else id
    tabs[1].message(channel="example", broadcast=False, data="echo", clientSocketId=shown)
    for tab in tabs:
        tab.message(channel="example", broadcast=False, data="to all", clientSocketId="")
    assert tabs[0].channel("example") == ["to all"]


@every_kind
def test_unknown_events_are_harmless(world: World, kind: Kind) -> None:
    token, _ = world.person("example")
    client = world.let_in(kind, token)

    with log_is_quiet(world.push, lines=0):
        for name, args in (
            ("whatever", [{"a": 1}]),
            ("authToken", []),
            ("__proto__", [None]),
            ("constructor", ["x"]),
            ("", [[[]]]),
        ):
            client.do("emit", name=name, args=args)
        assert client.call("join-token-channel", None)["result"] == "error"
        assert client.call("message", "no object")["result"] == "error"
    assert client.call("authenticate", {"authToken": token}) == {"result": "success"}

    world.php().send("example", "still here")
    client.message(channel="example", broadcast=False, data="still here")


@every_kind
def test_messages_to_the_cms(world: World, kind: Kind) -> None:
    token, uid = world.person()
    world.drupal.answer_to("chat", {"said": True, "serviceKey": KEY})
    client = world.let_in(kind, token)

    answer = client.call("message", {"type": "chat", "text": "hi", "uid": "1"})
    client.do("emit", name="message", args=[{"type": "chat", "text": "again"}])

    assert answer == {"said": True}
    client.message(said=True)
    [page] = world.drupal.asked_of("authenticate", authToken=token)
    asked = world.drupal.asked_of("chat", uid=str(uid))
    assert [each["text"] for each in asked] == ["hi", "again"]
    assert {each["clientId"] for each in asked} == {page["clientId"]}
    # Nobody says in the server's name who is here.
    forged = client.call("message", {"type": "userOffline", "uid": "1"})
    assert forged["result"] == "error"


# --- Content channels ------------------------------------------------------------------------


@every_kind
def test_content_channels(world: World, kind: Kind) -> None:
    php, channel = world.php("7b"), world.channel()
    (first, first_uid), (second, second_uid) = world.person(), world.person()
    tokens = [php.content_token(channel, notify=True, data={"n": n}) for n in range(2)]

    here = world.open(kind, first, contents={channel: tokens[0]})
    assert here.authenticated()["data"]["contentTokens"] == {channel: tokens[0]}
    there = world.let_in(kind, second, contents={channel: "not-a-token"})
    assert php.content_message(channel, "one") == {"status": "success"}
    here.message(channel=channel, data="one", clientSocketId="")

    joining = {"channel": channel, "contentToken": tokens[1]}
    assert there.call("join-token-channel", {**joining, "contentToken": "guessed"}) == {
        "result": "error",
        "error": "permission denied",
    }
    assert there.call("join-token-channel", joining) == {"result": "success"}
    record = {"channel": channel, "notifyOnDisconnect": True, "userData": {"n": 1}}
    there.message(callback="clientJoinedTokenChannel", data={"token": tokens[1], **record})
    here.message(callback="clientJoinedTokenChannel", channel=channel, data=record)
    php.content_message(channel, "two")
    for client in (here, there):
        client.message(channel=channel, data="two", clientSocketId="")
    users = php.content_users(channel)
    assert {**users, "uids": sorted(users["uids"])} == {
        "uids": sorted([str(first_uid), str(second_uid)]),
        "authTokens": [],
    }
    assert [data for data in there.channel(channel) if data == "one"] == []

    there.do("close")
    left = {"uid": str(second_uid), "type": "disconnect"}
    here.message(channel=channel, contentChannelNotification=True, data=left)
    assert php.content_users(channel)["uids"] == [str(first_uid)]


@every_kind
def test_a_content_channel_is_there_again_after_a_reconnect(world: World, kind: Kind) -> None:
    php, channel = world.php(), world.channel()
    token, _ = world.person()
    content = php.content_token(channel)
    client = world.let_in(kind, token, contents={channel: content})

    client.do("cut")

    client.wait_for(2, "authenticated")
    php.content_message(channel, "after")
    client.message(channel=channel, data="after")
    assert client.channel(channel) == ["after"]


# --- The end ---------------------------------------------------------------------------------


@every_kind
def test_a_client_leaves(world: World, kind: Kind) -> None:
    watching_token, watching = world.person()
    token, uid = world.person("example", presence=(str(watching),))
    watcher = world.let_in(Kind("4.8", "websocket"), watching_token)

    client = world.let_in(kind, token)
    watcher.message(presenceNotification={"uid": str(uid), "event": "online"})
    client.do("close")

    assert client.wait("disconnect")["reason"] == "io client disconnect"
    eventually("nobody is in the channel", lambda: world.php().send("example", 1) == 0)
    watcher.message(presenceNotification={"uid": str(uid), "event": "offline"})
    told = [e["message"].get("presenceNotification") for e in watcher.events("message")]
    assert len(list(filter(None, told))) == 2
    for report in ("userOnline", "userOffline"):
        world.drupal.wait_for(report, uid=str(uid))


@every_kind
def test_who_is_kicked_stays_away(world: World, kind: Kind) -> None:
    token, uid = world.person("example")
    (other_token, _), client = world.person("example"), world.let_in(kind, token)
    other = world.let_in(kind, other_token)

    world.php("7a").kick(uid)

    client.disconnected(3503)
    assert world.php().send("example", "after") == 1
    other.message(channel="example", broadcast=False, data="after")
    assert client.channel("example") == []
    # A new page is asked about anew.
    assert len(world.drupal.asked_of("authenticate", authToken=token)) == 1
    world.let_in(kind, token)
    assert len(world.drupal.asked_of("authenticate", authToken=token)) == 2


@every_kind
def test_logout(world: World, kind: Kind) -> None:
    token, _ = world.person("example")
    tabs = [world.let_in(kind, token) for _ in range(2)]

    world.php("7b").logout(token)

    assert world.php().send("example", "private") == 0
    for tab in tabs:
        tab.disconnected(3500)
    # The token is dead, even if Drupal should still know it.
    late = world.open(kind, token)
    assert late.wait("authenticated")["answer"] == {"result": "error", "error": "invalid token"}
    late.disconnected(3500)


@every_kind
def test_refused_token(world: World, kind: Kind) -> None:
    client = world.open(kind, "nobody-knows-this")

    assert client.wait("authenticated")["answer"] == {"result": "error", "error": "invalid token"}
    client.disconnected(3500)
    assert len(client.events("connect")) == 1
    assert world.php().send("example", 1) == 0


@pytest.mark.parametrize("version", [3, 4])
def test_who_is_refused_between_two_polls_is_told_everything(world: World, version: int) -> None:
    client = Polling(world.push, version).open()

    client.send('420["authenticate",{"authToken":"nobody-knows-this"}]')
    world.drupal.wait_for("authenticate", authToken="nobody-knows-this")
    eventually("it is over", lambda: world.php().health()["sockets"] == 0)

    answer, why, end = client.poll()
    assert answer == '430[{"result":"error","error":"invalid token"}]'
    assert '"code":3500,"reason":"invalid token","reconnect":false' in why
    assert (end, client.poll()) == ("41", ["1"])


# --- What goes wrong -------------------------------------------------------------------------


def test_they_come_back_when_the_server_was_killed(world: World) -> None:
    clients = [world.let_in(kind, world.person("example")[0]) for kind in KINDS]
    assert world.php().send("example", "before") == len(KINDS)
    for client in clients:
        client.message(channel="example", broadcast=False, data="before")

    world.push.kill()
    for client in clients:
        assert client.wait("disconnect")["reason"] != "io server disconnect"
    world.push.start()

    for client in clients:
        client.wait_for(2, "authenticated")
    assert world.php().send("example", "after") == len(KINDS)
    for client in clients:
        client.message(channel="example", broadcast=False, data="after")


TROUBLES: Mapping[str, Answer] = {
    "error 500": html(500),
    "forbidden": forbidden,
    "moved": moved,
    "a page": html(),
    "nothing": hang_up,
    "silence": silence,
    "half an answer": invalid_json,
    "wrong key": says({"error": "Invalid service key."}),
    "not implemented": says({"error": "Not implemented"}),
}


def test_nobody_is_stranded_when_the_cms_is_down(world: World) -> None:
    troubles = cycle(TROUBLES.values())
    clients = []
    for kind in KINDS:
        token, _ = world.person("example")
        person = world.people[token]
        world.set_person(token, next(troubles))
        clients.append((world.open(kind, token), person))

    for client, _ in clients:
        client.wait_for(3, "connect")
        assert client.events("authenticated") == []
    for client, person in clients:
        world.set_person(client.token, person)

    for client, _ in clients:
        assert client.wait("authenticated")["answer"] == {"result": "success"}
    assert world.php().send("example", "back") == len(KINDS)
    for client, _ in clients:
        client.message(channel="example", broadcast=False, data="back")
        reasons = {e["reason"] for e in client.events("disconnect")}
        assert "io server disconnect" not in reasons


def test_heartbeats(library: Dialogue, tmp_path: Path) -> None:
    limits = {"ping_interval": "1s", "pong_timeout": "1500ms"}
    with running(tmp_path, library, limits=limits) as world:
        clients = [world.let_in(kind, world.person("example")[0]) for kind in KINDS]
        for version in (3, 4):
            Polling(world.push, version).let_in(world.person()[0])
        assert world.php().health()["authenticatedClients"] == len(clients) + 2

        for client in clients:
            client.wait_for(4, "heartbeat")

        assert world.php().send("example", "alive") == len(clients)
        for client in clients:
            client.message(channel="example", broadcast=False, data="alive")
            assert client.events("disconnect") == []
            assert len(client.events("connect")) == 1
        # Those that answered nothing and asked nothing are gone.
        assert world.php().health()["sockets"] == len(clients)
        world.close()
