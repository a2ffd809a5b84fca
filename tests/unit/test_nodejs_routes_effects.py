"""What the routes of Drupal's nodejs module do: to messages, users, channels and tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.node.support import BROADCAST, World, sign
from tests.unit.nodejs_http import (
    DONE,
    MISSING,
    PAGE_1,
    TOKEN,
    Http,
    Page,
    failed,
    joined,
    make_worlds,
    page,
    token_tab,
)
from twisted_push.backend import calls
from twisted_push.errors import NotConnected
from twisted_push.model import ClientRequest


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    yield from make_worlds()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()


@pytest.fixture
def http(world: World, fast: bool) -> Http:
    return Http(world, fast=fast)


# --- Messages --------------------------------------------------------------------------------


def test_a_message_into_a_channel(world: World, http: Http) -> None:
    alice, native, other = page(world, "2"), world.user("2"), page(world, "3")
    body = b'{"data":{"n":1.10},"channel":"nodejs_user_2","callback":"show","broadcast":false}'
    assert http.post("publish", body) == {**DONE, "sent": 2}
    assert alice.messages == [
        {"channel": "nodejs_user_2", "data": {"n": 1.1}, "callback": "show", "broadcast": False}
    ]
    assert b'{"n":1.10}' in alice.transport.sent[-1]
    assert other.messages == []
    [push] = [each["push"]["pub"] for each in native.everything if "push" in each]
    assert (push["data"], push["tags"]["callback"]) == ({"n": 1.1}, "show")


def test_a_broadcast_has_its_channel_as_a_label(world: World, http: Http) -> None:
    tabs = [page(world, "2"), page(world, "3")]
    native = world.user("4")
    body = {"broadcast": True, "channel": "nodejs_notify", "data": 1, "clientSocketId": ""}
    assert http.post("publish", body) == {**DONE, "sent": 3}
    assert [tab.messages for tab in tabs] == [[body], [body]]
    assert native.published(BROADCAST) == [1]
    assert http.post("publish", {"broadcast": True}) == {**DONE, "sent": 3}
    assert tabs[0].messages[-1]["channel"] == ""


def test_who_is_not_let_in_yet_gets_no_broadcast(world: World, http: Http) -> None:
    stranger = Page(world)
    assert http.post("publish", {"broadcast": True, "data": "secret"}) == {**DONE, "sent": 0}
    assert stranger.transport.sent == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": 1},
        {"broadcast": False},
        {"channel": ""},
        {"channel": None},
        {"channel": []},
        {"channel": "", "broadcast": "0"},
    ],
)
def test_neither_channel_nor_broadcast(world: World, http: Http, body: Any) -> None:
    tab = world.connected()
    assert http.post("publish", body) == MISSING
    assert http.post("publish", {"messages": [body]}) == {
        "status": "failed",
        **MISSING,
        "errors": [{"index": 0, **MISSING}],
    }
    assert tab.published() == []


def test_an_unknown_channel_is_success_for_nobody(http: Http) -> None:
    assert http.post("publish", {"channel": "nobody", "data": 1}) == {**DONE, "sent": 0}


def test_a_channel_that_php_sends_as_a_number(world: World, http: Http) -> None:
    tab = world.user("3", channels=["42"])
    assert http.post("publish", {"channel": 42, "data": 1}) == {**DONE, "sent": 1}
    assert tab.published("42") == [1]


def test_channel_unchecked_in_publish(world: World, http: Http) -> None:
    """Each channel is checked as all channels are: no control characters, no endless names."""
    tab = world.connected()
    for channel in ("x" * 256, "a\x00b", "a\nb", "\u2028"):
        answer = http.post("publish", {"channel": channel, "data": 1})
        assert "channel" in answer["error"]
        assert channel not in answer["error"]
    for name in ("__proto__", "constructor", "toString"):
        assert http.post("publish", {"channel": name, "data": 1}) == {**DONE, "sent": 0}
    assert tab.published() == []


def test_uid_unchecked_in_publish(world: World, http: Http) -> None:
    """A uid in a message is the message's own: it neither chooses nor hides who gets it."""
    tabs = [page(world, "2"), page(world, "3")]
    body = {"channel": "nodejs_user_2", "uid": "3", "data": 1}
    assert http.post("publish", body) == {**DONE, "sent": 1}
    assert [tab.messages for tab in tabs] == [[body], []]


def socket_id(world: World, tab: Page, revision: int) -> str:
    """Have a tab know itself as the client library of that revision does."""
    if revision == 4:
        world.node.sockets[tab.session.secret] = tab.session
        return tab.session.secret
    return tab.session.client


@pytest.mark.parametrize("revision", [4, 5])
def test_the_tab_that_asked_is_left_out(world: World, http: Http, revision: int) -> None:
    asking, other = page(world, "2"), page(world, "2")
    name = socket_id(world, asking, revision)
    body = {"channel": "nodejs_user_2", "data": 1, "clientSocketId": name}
    assert http.post("publish", body) == {**DONE, "sent": 1}
    assert asking.messages == []
    assert other.messages == [body]


@pytest.mark.parametrize("transport", ["polling", "socketio_polling"])
def test_nobody_learns_the_sid_of_a_client_that_polls(
    world: World, http: Http, transport: str
) -> None:
    asking, other = page(world, "2", transport), page(world, "2")
    name = socket_id(world, asking, 4)
    body = {"channel": "nodejs_user_2", "data": 1, "clientSocketId": name}
    http.post("publish", body)
    assert other.messages[-1] == {**body, "clientSocketId": ""}
    asking.transport.request = ClientRequest("socketio_websocket", "192.0.2.1")
    http.post("publish", body)
    assert other.messages[-1] == body
    public = {**body, "clientSocketId": asking.session.client}
    http.post("publish", public)
    assert other.messages[-1] == public
    assert asking.messages == []


def test_several_messages(world: World, http: Http) -> None:
    tab = page(world, "2")
    messages = [
        {"broadcast": True, "channel": "a", "data": 1},
        {"data": 2},
        3,
        {"channel": "x" * 300, "data": 4},
        {"messages": []},
        {"channel": "nodejs_user_2", "data": 5},
        {"channel": "nobody", "data": 6},
    ]
    answer = http.post("publish", {"messages": messages})
    assert (answer["status"], answer["sent"]) == ("success", 2)
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4]
    assert [message["data"] for message in tab.messages] == [1, 5]
    assert http.post("publish", {"messages": []}) == {**DONE, "sent": 0}
    assert http.post("publish", {"messages": messages[:1]}) == {**DONE, "sent": 1}
    assert http.ask("POST", "publish", {"messages": {"0": messages[0]}}).status == 400


def test_several_messages_and_no_engine(world: World, http: Http) -> None:
    world.engine.broken["publish"] = NotConnected()
    messages = [{"channel": "a"}, {"data": 1}]
    assert http.ask("POST", "publish", {"messages": messages}).status == 503
    content = {"channel": "c", "token": "t"}
    world.engine.broken = {"content_put": NotConnected()}
    assert http.ask("POST", "content/token", [content]).status == 503


def test_too_many_messages(world: World, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twisted_push.backend.nodejs_messages.MAX_ITEMS", 3)
    tab = world.connected()
    message = {"broadcast": True, "data": 1}
    assert "at most 3" in http.post("publish", {"messages": [message] * 4})["error"]
    assert http.post("publish", {"messages": [message] * 3}) == {**DONE, "sent": 3}
    assert len(tab.published()) == 3


# --- Content channels ------------------------------------------------------------------------


def test_a_content_channel(world: World, http: Http) -> None:
    tab, other = page(world, "2"), page(world, "3")
    message = {"channel": "page_1", "data": 1, "clientSocketId": ""}
    assert http.post("content/token/message", message) == {"error": "Invalid message"}
    assert http.post("content/token", {**PAGE_1, "userData": {"who": 1}}) == DONE
    assert http.post("content/token/message", message) == DONE
    joined(world, tab, "page_1", "token-1")
    assert http.post("content/token/message", message) == DONE
    assert tab.messages == [message]
    assert other.messages == []
    assert http.post("content/token/users", {"channel": "page_1"}) == users("2")
    assert http.post("content/token/users", {"channel": "other"}) == users()


def test_a_content_channel_that_is_removed_is_gone_for_pages_to_come(
    world: World, http: Http
) -> None:
    assert http.post("content/token", PAGE_1) == DONE
    assert http.get("channel/remove/page_1") == DONE
    assert http.post("content/token/message", {"channel": "page_1"}) == {"error": "Invalid message"}
    assert http.get("channel/remove/page_1") == failed("Non-existent channel name.")


def users(*uids: str, tokens: tuple[str, ...] = ()) -> Any:
    return {"users": {"uids": list(uids), "authTokens": list(tokens)}}


def test_what_modules_up_to_7_x_1_10_expect(world: World, http: Http) -> None:
    """They say nothing of their body's type, and look for other words."""
    assert http.post("content/token", PAGE_1, typed=False) == {"status": "ok"}
    message = {"channel": "page_1", "data": 1}
    sent = {**DONE, "sent": "sent"}
    assert http.post("content/token/message", message, typed=False) == sent
    assert http.post("publish", {"channel": "a"}, typed=False) == {**DONE, "sent": 0}


@pytest.mark.parametrize(
    "body", [{}, {"channel": "a"}, {"token": "a"}, {"channel": "", "token": "a"}, {"channel": None}]
)
def test_a_token_without_what_it_needs(http: Http, body: Any) -> None:
    assert http.post("content/token", body) == MISSING


def test_users_of_no_channel(http: Http) -> None:
    assert http.post("content/token/users", {}) == MISSING


def test_several_tokens_and_messages(world: World, http: Http) -> None:
    tokens = [PAGE_1, {**PAGE_1, "channel": "page_2", "token": "token-2"}]
    assert http.post("content/token", tokens) == DONE
    assert http.post("content/token", []) == DONE
    answer = http.post("content/token", [{}, PAGE_1, 5])
    assert answer["status"] == "success"
    assert [error["index"] for error in answer["errors"]] == [0, 2]
    tab = page(world, "2")
    joined(world, tab, "page_2", "token-2")
    messages = [{"channel": "page_2", "data": n} for n in range(3)]
    assert http.post("content/token/message", {"messages": messages}) == DONE
    assert [message["data"] for message in tab.messages] == [0, 1, 2]
    nowhere = http.post("content/token/message", {"messages": [{"channel": "nowhere"}]})
    assert (nowhere["status"], nowhere["error"]) == ("failed", "Invalid message")


def test_what_php_sends_as_numbers(world: World, http: Http) -> None:
    assert http.post("content/token", {"channel": 5, "token": 7, "notifyOnDisconnect": 1}) == DONE
    tab = world.user("2")
    joined(world, tab, "5", "7")
    assert http.post("content/token/users", {"channel": 5}) == users("2")


@pytest.mark.parametrize(
    ("given", "notify"),
    [(True, True), (1, True), ("1", True), (False, False), (0, False), (None, False), ("0", False)],
)
def test_notify_on_disconnect(world: World, http: Http, given: Any, notify: bool) -> None:
    http.post("content/token", {**PAGE_1, "notifyOnDisconnect": given, "userData": None})
    [(_, content, _)] = world.engine.named("content_put")
    assert (content.notify_on_leave, content.data) == (notify, None)


def test_too_many_content_tokens(worlds: Callable[..., World], fast: bool) -> None:
    http = Http(worlds(limits={"max_content_tokens": 2}), fast=fast)
    answers = [http.post("content/token", {**PAGE_1, "token": str(n)}) for n in range(3)]
    assert answers[:2] == [DONE, DONE]
    assert "too many" in answers[2]["error"]


def test_users_of_a_content_channel_are_counted_once(world: World, http: Http) -> None:
    tabs = [world.user("2"), world.user("2", jti="2"), *(world.connected() for _ in range(3))]
    labels = ["", "auth-1", "auth-2", "auth-3", ""]  # Only who has no user is known by one.
    for n, (tab, label) in enumerate(zip(tabs, labels, strict=True)):
        http.post("content/token", {"channel": "page_1", "token": f"token-{n}"})
        joined(world, tab, "page_1", f"token-{n}", label=label)
    expected = users("2", tokens=("auth-2", "auth-3"))
    assert http.post("content/token/users", {"channel": "page_1"}) == expected


def test_content_users_after_a_kick(world: World, http: Http) -> None:
    """It was answered with 500 from then on."""
    tab = world.user("2")
    http.post("content/token", PAGE_1)
    joined(world, tab, "page_1", "token-1")
    assert http.get("user/kick/2") == DONE
    assert http.post("content/token/users", {"channel": "page_1"}) == users()


# --- Users -----------------------------------------------------------------------------------


def test_kick(world: World, http: Http) -> None:
    one, two, other = world.user("3"), page(world, "3"), world.user("4")
    assert http.post("user/kick/3") == DONE
    assert (one.code, two.code, other.code) == (3503, 3503, None)
    assert two.transport.sent[-1] == b"1"  # It is told not to come back by itself.
    for uid in ("3", "99", "alice", "__proto__"):
        assert http.post(f"user/kick/{uid}") == DONE
    assert http.post("user/kick/%00") == failed("Invalid uid.")
    assert other.code is None


def test_a_kick_has_the_cms_asked_again(worlds: Callable[..., World], fast: bool) -> None:
    world = worlds(callback=True)
    http = Http(world, fast=fast)
    for user, uid in (("3", "3"), ("", "0")):
        token_tab(world, f"token-{uid}", {"result": {"user": user}})
        http.get(f"user/kick/{uid}")
        asked = len(world.cms.asked)
        world.clock.advance(1)
        token_tab(world, f"token-{uid}", {"result": {"user": user}})
        assert len(world.cms.asked) == asked + 1


def test_kick_of_everybody_who_is_not_logged_in(world: World, http: Http) -> None:
    visitors, user = [world.connected(), world.connected()], world.user("3")
    assert http.get("user/kick/0") == DONE
    assert [tab.code for tab in visitors] == [3503, 3503]
    assert user.code is None


def test_uids_of_other_systems(world: World, http: Http) -> None:
    tab = world.user("caf\u00e9")
    assert http.get("user/channel/add/chat/caf%C3%A9") == DONE
    assert http.get("user/kick/caf%C3%A9") == DONE
    assert tab.code == 3503


def test_logout_ends_a_token_for_good(worlds: Callable[..., World], fast: bool) -> None:
    """It once did nothing: pages stayed, and the token was good for new ones."""
    world = worlds(callback=True)
    http = Http(world, fast=fast)
    answer = {"result": {"user": "3"}}
    tabs = [token_tab(world, TOKEN, answer), token_tab(world, TOKEN, answer)]
    other = token_tab(world, "another-token", answer)
    assert http.post(f"user/logout/{TOKEN}") == DONE
    assert [tab.code for tab in (*tabs, other)] == [3500, 3500, None]
    assert http.post("publish", {"channel": "nodejs_user_3", "data": 1}) == {**DONE, "sent": 1}
    late = world.tab()
    late.send("connect", token=TOKEN)
    world.cms.agent.flush()
    assert late.code == 3500
    assert http.post("user/logout/never-seen") == DONE


def test_a_channel_for_a_user(world: World, http: Http) -> None:
    tabs = [world.user("3"), world.user("3")]
    assert http.post("user/channel/add/late_chan/3") == DONE
    assert http.post("publish", {"channel": "late_chan", "data": 1}) == {**DONE, "sent": 2}
    tabs[0].leave()
    again = world.user("3", iat=world.clock.seconds() - 1)
    assert http.post("publish", {"channel": "late_chan", "data": 2}) == {**DONE, "sent": 2}
    assert http.post("user/channel/remove/late_chan/3") == DONE
    assert http.post("publish", {"channel": "late_chan", "data": 3}) == {**DONE, "sent": 0}
    assert again.published("late_chan") == [2]
    assert tabs[1].published("late_chan") == [1, 2]


def test_a_channel_for_everybody_who_is_not_logged_in(world: World, http: Http) -> None:
    assert http.get("user/channel/add/chat/0") == failed("No active sessions for uid.")
    tabs = [world.connected(), world.connected(), world.user("3")]
    assert http.get("user/channel/add/chat/0") == DONE
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 2}
    assert http.get("user/channel/remove/chat/0") == DONE
    assert http.post("publish", {"channel": "chat", "data": 2}) == {**DONE, "sent": 0}
    assert [tab.published("chat") for tab in tabs] == [[1], [1], []]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("add/chat/alice", "Invalid uid."),
        ("add/a-b/alice", "Invalid uid."),
        ("add/chat/-3", "Invalid uid."),
        ("add/chat/%D9%A3", "Invalid uid."),
        ("add/chat/" + "3" * 300, "Invalid uid."),
        ("add/a-b/3", "Invalid channel name."),
        ("add/a%0A/3", "Invalid channel name."),
        ("add/%C3%A9/3", "Invalid channel name."),
        ("add/%ff/3", "Invalid channel name."),
        ("add/" + "a" * 256 + "/3", "Invalid channel name."),
        ("add/chat/99", "No active sessions for uid."),
        ("remove/chat/alice", "Invalid uid."),
        ("remove/a-b/3", "Invalid channel name."),
        ("remove/chat/3", "Non-existent channel name."),
    ],
)
def test_channels_for_whom_there_are_none(world: World, http: Http, path: str, error: str) -> None:
    world.user("3")
    assert http.post(f"user/channel/{path}") == failed(error)


def test_a_channel_is_there_though_its_user_is_not(http: Http) -> None:
    assert http.get("user/channel/add/chat/99") == failed("No active sessions for uid.")
    assert http.get("channel/check/chat") == {**DONE, "result": True}
    assert http.get("user/channel/remove/chat/99") == DONE


def test_a_user_between_two_pages_is_given_a_channel(world: World, http: Http) -> None:
    world.user("3").leave()
    assert http.get("user/channel/add/chat/3") == DONE
    tab = world.user("3", iat=world.clock.seconds() - 1)
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 1}
    assert tab.published("chat") == [1]


def test_a_channel_that_only_a_kept_answer_has_is_taken_all_the_same(
    worlds: Callable[..., World], fast: bool
) -> None:
    """The user changes pages in this moment, so nobody has the channel."""
    world = worlds(callback=True)
    http = Http(world, fast=fast)
    answer = {"result": {"user": "3", "channels": ["private"]}}
    token_tab(world, TOKEN, answer).leave()
    assert http.get("user/channel/remove/private/3") == failed("Non-existent channel name.")
    token_tab(world, TOKEN, answer)
    assert http.post("publish", {"channel": "private", "data": 1}) == {**DONE, "sent": 0}


# --- Channels --------------------------------------------------------------------------------


def test_channels(world: World, http: Http) -> None:
    exists = failed("Channel name 'chat' already exists.")
    assert http.post("channel/remove/chat") == failed("Non-existent channel name.")
    assert http.post("channel/add/chat") == DONE
    assert http.post("channel/add/chat") == exists
    assert http.get("channel/check/chat") == {**DONE, "result": True}
    assert http.post("channel/remove/chat") == DONE
    assert http.get("channel/check/chat") == {**DONE, "result": False}
    world.user("3", channels=["chat"])
    assert http.get("channel/check/chat") == {**DONE, "result": True}
    assert http.post("channel/add/chat") == exists


@pytest.mark.parametrize("name", ["a-b", "a%20b", "%C3%A9", "a%00", "a%0A", "x" * 256, "'"])
def test_names_that_are_none(http: Http, name: str) -> None:
    assert http.post(f"channel/add/{name}") == failed("Invalid channel name.")
    assert http.get(f"channel/check/{name}") == failed("Invalid channel name.")
    assert http.post(f"channel/remove/{name}") == failed("Non-existent channel name.")


def test_a_channel_is_taken_from_everybody_who_has_it(world: World, http: Http) -> None:
    tabs = [world.user("3", channels=["chat", "other"]), world.user("4", channels=["chat"])]
    pages = [page(world, "5")]
    http.get("user/channel/add/chat/5")
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 3}
    assert http.get("channel/remove/chat") == DONE
    assert http.post("publish", {"channel": "chat", "data": 2}) == {**DONE, "sent": 0}
    assert http.post("publish", {"channel": "other", "data": 3}) == {**DONE, "sent": 1}
    assert [tab.published("chat") for tab in tabs] == [[1], [1]]
    assert [message["data"] for message in pages[0].messages] == [1]


def test_a_channel_that_is_taken_from_everybody_during_a_connect(world: World, http: Http) -> None:
    world.engine.hold.add("overlays")
    tab = world.tab()
    tab.send("connect", token=sign(sub="3", channels=["chat"]))
    http.get("channel/add/chat")
    assert http.get("channel/remove/chat") == DONE
    world.engine.hold.clear()
    world.engine.release()
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 0}
    assert tab.published() == []


def test_the_channel_of_broadcasts_is_not_taken_away(world: World, http: Http) -> None:
    tab = world.user("3")
    assert http.get(f"channel/check/{BROADCAST}") == {**DONE, "result": False}
    assert http.get(f"channel/add/{BROADCAST}") == DONE
    assert http.get(f"channel/remove/{BROADCAST}") == DONE
    assert http.post("publish", {"broadcast": True, "data": 1}) == {**DONE, "sent": 1}
    assert tab.published() == [1]


def test_a_channel_that_cannot_be_noted(world: World, http: Http) -> None:
    """What has to be taken is taken all the same."""
    tab = world.user("3", channels=["chat"])
    world.engine.broken = {"channel_add": NotConnected(), "channel_remove": NotConnected()}
    assert http.ask("POST", "channel/add/room").status == 503
    assert http.ask("POST", "channel/remove/chat").status == 503
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 0}
    assert tab.published() == []


def test_names_do_not_grow_without_end(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_CHANNELS", 3)
    for name in ("a", "b", "c"):
        assert http.get(f"channel/add/{name}") == DONE
    http.get("user/channel/add/a/99")  # In use again, though by nobody who is here.
    assert http.get("channel/add/d") == DONE
    there = [http.get(f"channel/check/{name}")["result"] for name in ("a", "b", "c", "d")]
    assert there == [True, False, True, True]


# --- Tokens ----------------------------------------------------------------------------------


def test_a_channel_for_a_token(worlds: Callable[..., World], fast: bool) -> None:
    world = worlds(callback=True)
    http = Http(world, fast=fast)
    answer = {"result": {"user": "3"}}
    tabs = [token_tab(world, TOKEN, answer) for _ in range(2)]
    other = token_tab(world, "another-token", answer)
    assert http.post(f"authtoken/channel/add/chat/{TOKEN}") == DONE
    assert http.post("publish", {"channel": "chat", "data": 1}) == {**DONE, "sent": 2}
    for tab in tabs:
        tab.leave()
    again = token_tab(world, TOKEN)
    assert len(world.cms.asked) == 2  # Of the two tokens; what is kept has the channel now.
    assert http.post("publish", {"channel": "chat", "data": 2}) == {**DONE, "sent": 1}
    assert http.post(f"authtoken/channel/remove/chat/{TOKEN}") == DONE
    assert http.post("publish", {"channel": "chat", "data": 3}) == {**DONE, "sent": 0}
    again.leave()
    token_tab(world, TOKEN)
    assert http.post("publish", {"channel": "chat", "data": 4}) == {**DONE, "sent": 0}
    assert again.published("chat") == [2]
    assert other.published("chat") == []


def test_a_channel_for_a_token_whose_pages_are_all_closed(
    worlds: Callable[..., World], fast: bool
) -> None:
    world = worlds(callback=True)
    http = Http(world, fast=fast)
    token_tab(world, TOKEN).leave()
    assert http.get(f"authtoken/channel/add/chat/{TOKEN}") == DONE
    assert http.get("channel/check/chat") == {**DONE, "result": True}
    tab = token_tab(world, TOKEN)
    http.post("publish", {"channel": "chat", "data": 1})
    assert tab.published("chat") == [1]


def test_a_channel_for_a_signed_token(world: World, http: Http) -> None:
    token = sign(sub="3")
    tab = world.connected(token=token)
    assert http.get(f"authtoken/channel/add/chat/{token}") == DONE
    http.post("publish", {"channel": "chat", "data": 1})
    assert tab.published("chat") == [1]
    assert http.get(f"authtoken/channel/remove/chat/{token}") == DONE
    http.post("publish", {"channel": "chat", "data": 2})
    assert tab.published("chat") == [1]


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_a_token_that_nobody_has(world: World, http: Http, verb: str) -> None:
    """Its removal was once answered with 500."""
    for token in ("never-seen", "%ff", "x" * 9000):
        answer = http.post(f"authtoken/channel/{verb}/chat/{token}")
        assert answer == failed("No active sessions for authToken.")
    assert http.post(f"authtoken/channel/{verb}/a-b/{TOKEN}") == failed("Invalid parameters.")


# --- Presence --------------------------------------------------------------------------------


def notification(uid: str, event: str) -> dict[str, dict[str, str]]:
    return {"presenceNotification": {"uid": uid, "event": event}}


def test_the_presence_list_works(world: World, http: Http) -> None:
    """It was answered with 500, whoever was in it."""
    watcher, other = page(world, "1"), page(world, "2")
    seen = page(world, "3")
    assert http.get("user/presence-list/3/1,%20,0,99") == DONE
    assert watcher.messages == [notification("3", "online")]
    seen.leave()
    world.advance(5)
    assert watcher.messages == [notification("3", "online"), notification("3", "offline")]
    assert other.messages == []


@pytest.mark.parametrize("path", ["3/", "3", "3/,", "3/0"])
def test_an_empty_presence_list_is_nobody(world: World, http: Http, path: str) -> None:
    watcher, seen = page(world, "1"), page(world, "3")
    http.get("user/presence-list/3/1")
    assert http.post(f"user/presence-list/{path}") == DONE
    told = [notification("3", "online"), notification("3", "offline")]
    assert watcher.messages == told
    seen.leave()
    world.advance(5)
    assert watcher.messages == told


def test_presence_lists_of_nobody(http: Http) -> None:
    assert http.get("user/presence-list/99/1,2") == DONE
    assert http.get("user/presence-list/0/1,2") == DONE
    assert http.get("user/presence-list/%00/1,2") == failed("Invalid uid.")
