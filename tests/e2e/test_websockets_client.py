"""A raw protocol client: good input byte for byte, and bad input, each with its close code.

Whatever one client sends, another one notices nothing, and the log gets one line at most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.cms import StubCms
from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.server import PushServer, http, log_is_quiet, make_server

DEEP = "[" * 10_000 + "]" * 10_000


@pytest.fixture
def harmless(server: PushServer, bystander: RawClient) -> Iterator[None]:
    """Check that what the test does harms nobody and says little."""
    with log_is_quiet(server):
        yield
        check_untouched(bystander, server)


@pytest.fixture
def client(harmless: None, server: PushServer) -> Iterator[RawClient]:
    """Give a client that is not connected (in the sense of the protocol) yet."""
    with RawClient(server) as raw:
        yield raw


# -- Good input -------------------------------------------------------------------------------


def test_the_connect_result(client: RawClient) -> None:
    result = client.connect()
    assert set(result["subs"]) == {"news", "broadcast"}
    assert result["subs"]["news"]["recoverable"] is True
    assert result["subs"]["news"]["epoch"]
    assert result["ping"] == 25
    assert result["pong"] is True
    assert result["client"]
    assert result["version"]


def test_several_commands_in_one_frame_and_their_order(client: RawClient) -> None:
    commands = [
        {"id": 1, "connect": {"token": "alice-token"}},
        {"id": 2, "subscribe": {"channel": "open:order"}},
        {"id": 3, "publish": {"channel": "open:order", "data": 1}},
        {"id": 4, "unsubscribe": {"channel": "open:order"}},
        {"id": 5, "ping": {}},
    ]
    client.send("\n".join(map(json.dumps, commands)))
    ids: list[int] = []
    while not ids or ids[-1] != 5:
        message = client.message()
        assert "error" not in message
        ids += [message["id"]] if "id" in message else []
    assert ids == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "data",
    [
        "123456789012345678901234567890",
        "1.10",
        "1e5",
        "-0.0",
        '{"z":1,"a":2,"m":{"b":1,"a":2}}',
        r'"gr\u00fc\u00dfe \ud83c\udf0d \/ \n"',
        '"grüße 🌍"',
        '{"a":1,"a":2}',
        "[1.0,1,10000000000000000000000.0]",
        '"\u2028"',
        "null",
    ],
)
def test_data_is_passed_on_byte_for_byte(client: RawClient, server: PushServer, data: str) -> None:
    client.connect()
    assert "subscribe" in client.command("subscribe", channel="open:bytes")

    status, _ = server.call("publish", f'{{"channel":"news","data":{data}}}'.encode())
    assert status == 200
    assert f'"data":{data}' in client.line()

    client.send(f'{{"id":9,"publish":{{"channel":"open:bytes","data":{data}}}}}')
    lines = [client.line(), client.line()]
    assert any(f'"data":{data}' in line for line in lines), lines


def test_line_breaks_in_data_do_not_split_a_frame(client: RawClient, server: PushServer) -> None:
    client.connect()
    status, _ = server.call("publish", b'{"channel":"news","data":{"a":\n1,\r\n"b":2}}')
    assert status == 200
    assert client.publication("news")["data"] == {"a": 1, "b": 2}


# -- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        "garbage",
        "",
        "[]",
        "17",
        '"text"',
        "null",
        '{"id":1,"connect":',
        '{"id":1,"connect":{"token":NaN}}',
        '{"id":1,"connect":{"token":"alice-token","data":Infinity}}',
        '{"id":1,"subscribe":{"channel":"chat:1"}}',
        '{"id":1,"ping":{}}',
        '{"send":{"data":1}}',
        '{"id":1}',
        DEEP,
        '{"id":1,"connect":{"token":"alice-token","data":' + DEEP + "}}",
    ],
    ids=lambda frame: frame[:60] or "(empty)",
)
def test_bad_input_before_connect(client: RawClient, frame: str) -> None:
    client.send(frame)
    assert client.closing()[0] == 3501


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":0,"connect":{"token":"alice-token"}}',
        '{"id":-1,"connect":{"token":"alice-token"}}',
        '{"id":"1","connect":{"token":"alice-token"}}',
        '{"id":1.5,"connect":{"token":"alice-token"}}',
        '{"id":1,"connect":[]}',
        '{"id":1,"connect":{"token":17}}',
        '{"id":1,"connect":{"token":"\\ud800"}}',
    ],
)
def test_connect_of_a_wrong_shape(client: RawClient, frame: str) -> None:
    client.send(frame)
    assert client.failure() in (107, 3500, 3501)


@pytest.mark.parametrize(
    "frame",
    [
        "garbage",
        "[]",
        '{"id":7,"subscribe":{"channel":17}}',
        '{"id":7,"subscribe":"chat:1"}',
        '{"id":7,"publish":{"channel":"open:1","data":NaN}}',
        '{"id":7,"publish":{"channel":"open:1","data":"\\ud800"}}',
        '{"id":7,"publish":{"channel":"open:1","data":' + DEEP + "}}",
    ],
    ids=lambda frame: frame[:60],
)
def test_bad_input_after_connect(client: RawClient, frame: str) -> None:
    """It is either an error of that command or the end, by what of it can be read."""
    client.connect()
    client.send(frame)
    assert client.failure() in (107, 3501)


def test_unknown_method(client: RawClient) -> None:
    client.connect()
    reply = client.command("levitate", height=2)
    assert reply["error"]["code"] == 104
    assert "ping" in client.command("ping")


def test_frame_over_the_limit(client: RawClient) -> None:
    client.connect()
    client.send(json.dumps({"id": 2, "rpc": {"method": "x", "data": "x" * 70_000}}))
    assert client.closing()[0] == 1009


def test_fragments_over_the_limit(client: RawClient) -> None:
    client.socket.send("x" * 1000 for _ in range(100))
    assert client.closing()[0] == 1009


def test_binary_frame(client: RawClient) -> None:
    client.send(b'{"id":1,"connect":{"token":"alice-token"}}')
    assert client.closing()[0] == 3506


def test_text_that_is_not_utf8(client: RawClient) -> None:
    client.socket.send(b'{"id":1,"connect":{"token":"\xff"}}', text=True)
    assert client.closing()[0] in (1007, 3501)


def test_second_connect(client: RawClient) -> None:
    client.connect()
    client.send('{"id":2,"connect":{"token":"bob-token"}}')
    assert client.failure() in (107, 3501)


@pytest.mark.parametrize(
    "channel", ["", "chat:\x00", "chat:\n", "chat:\x7f", "chat:" + "x" * 251, "chat:" + "ü" * 126]
)
@pytest.mark.parametrize("method", ["subscribe", "publish", "presence", "presence_stats"])
def test_bad_channel_name(client: RawClient, method: str, channel: str) -> None:
    client.connect()
    params = {"channel": channel, **({"data": 1} if method == "publish" else {})}
    reply = client.command(method, **params)
    assert reply["error"]["code"] == 107
    assert "ping" in client.command("ping")


def test_channel_name_of_255_bytes(client: RawClient) -> None:
    client.connect()
    assert "subscribe" in client.command("subscribe", channel="chat:" + "x" * 250)


def test_channel_that_one_is_in_already(client: RawClient) -> None:
    client.connect()
    assert client.command("subscribe", channel="news")["error"]["code"] == 105


def test_huge_token_by_default(client: RawClient) -> None:
    client.send(json.dumps({"id": 1, "connect": {"token": "x" * 2**20}}))
    assert client.closing()[0] == 1009


def test_token_with_control_characters(client: RawClient) -> None:
    client.send(json.dumps({"id": 1, "connect": {"token": "alice\r\nX-Injected: yes"}}))
    assert client.closing()[0] == 3500


def test_unknown_path(harmless: None, server: PushServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        RawClient(server, path="/connection/nothing")
    assert caught.value.response.status_code == 404


@pytest.mark.parametrize("origin", ["https://evil.example.org", "null", "http://www.example.org"])
def test_wrong_origin(harmless: None, server: PushServer, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        RawClient(server, origin=origin)
    assert caught.value.response.status_code == 403


def test_right_origin(harmless: None, server: PushServer) -> None:
    with RawClient(server, origin="https://www.example.org") as client:
        client.connect()


def test_same_origin_is_right_where_none_is_named(cms: StubCms, tmp_path: Path) -> None:
    with make_server(tmp_path, callback=cms.url, site={"allowed_origins": []}) as server:
        with RawClient(server, origin=server.url) as client:
            client.connect()
        with RawClient(server, origin=f"http://127.0.0.1:{server.port + 1}") as client:
            client.connect()  # A CMS has its push server at another port.
        for origin in ("https://www.example.org", "http://127.0.0.2"):
            with pytest.raises(InvalidStatus):
                RawClient(server, origin=origin)


def test_clients_that_go_without_a_word(harmless: None, server: PushServer) -> None:
    for connected in (True, False):
        client = RawClient(server)
        if connected:
            client.connect()
        client.socket.socket.close()
        client.close()


def test_the_echo_for_conformance_suites(harmless: None, server: PushServer) -> None:
    with RawClient(server, path="/debug/echo") as client:
        for payload in ("text", b"\x00\xff", "", "x" * 10_000):
            client.send(payload)
            assert client.socket.recv(timeout=5) == payload


# -- With other settings ----------------------------------------------------------------------

WithLimits = Callable[..., PushServer]


@pytest.fixture
def with_limits(cms: StubCms, tmp_path: Path) -> Iterator[WithLimits]:
    """Give a function that starts a server with other limits."""
    servers: list[PushServer] = []

    def start(**limits: object) -> PushServer:
        servers.append(make_server(tmp_path, callback=cms.url, limits=limits).start())
        return servers[-1]

    yield start
    for each in servers:
        each.stop()


def test_huge_token_with_a_raised_limit(with_limits: WithLimits) -> None:
    server = with_limits(max_message_size="2MiB")
    with RawClient(server) as bystander, RawClient(server) as client:
        bystander.connect()
        with log_is_quiet(server):
            client.send(json.dumps({"id": 1, "connect": {"token": "x" * 2**20}}))
            assert client.closing()[0] == 3500
        check_untouched(bystander, server)


def test_stale_and_silent_clients(with_limits: WithLimits) -> None:
    server = with_limits(stale_close_delay="1s", ping_interval="1s", pong_timeout="2s")
    with (
        RawClient(server) as stale,
        RawClient(server, answer_pings=False) as silent,
        RawClient(server) as lively,
    ):
        assert lively.connect()["ping"] == 1
        silent.connect()
        with log_is_quiet(server, lines=2):
            # It answers pings meanwhile, and the others are closed.
            with pytest.raises(TimeoutError):
                lively.message(timeout=5)
            assert stale.closing(timeout=2)[0] == 3502
            assert silent.closing(timeout=2)[0] == 3012
        assert "ping" in lively.command("ping")


def test_too_many_connections(with_limits: WithLimits) -> None:
    server = with_limits(max_connections=2)
    with RawClient(server) as first, RawClient(server) as second:
        first.connect()
        second.connect("bob-token")
        with log_is_quiet(server):
            assert _refusal(server) in (3504, 3508, 1013, 429, 503)
        check_untouched(first, server)
        check_untouched(second, server)


def _refusal(server: PushServer) -> int:
    """Give the HTTP status or the close code with which one more client is sent away."""
    try:
        with RawClient(server) as client:
            return client.failure()
    except InvalidStatus as refused:
        return refused.response.status_code


# -- HTTP -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"[]", b"{}", b'{"channel":"news"}', b'{"channel":17,"data":1}', b"\xff"],
)
def test_bad_api_requests(harmless: None, server: PushServer, body: bytes) -> None:
    status, answer = server.call("publish", body)
    assert status in (200, 400)
    assert answer["error"]["code"] == 107


def test_api_request_that_is_too_large(harmless: None, server: PushServer) -> None:
    body = b'{"channel":"news","data":"' + b"x" * (2 * 2**20) + b'"}'
    # The server may hang up before all of it is sent: then nobody answers.
    assert server.call("publish", body)[0] in (413, 0)


def test_unknown_api_method(harmless: None, server: PushServer) -> None:
    status, answer = server.call("levitate", {})
    assert status in (200, 404)
    assert answer["error"]["code"] == 104


@pytest.mark.parametrize("method", ["publish", "levitate"])
def test_api_with_a_wrong_key(harmless: None, server: PushServer, method: str) -> None:
    assert server.call(method, {"channel": "news", "data": 1}, key="x")[0] == 401


def test_health_ready_and_metrics(harmless: None, server: PushServer) -> None:
    assert server.get("/health")[0] == 200
    assert server.get("/ready")[0] == 200
    status, text = server.get("/metrics")
    assert status == 200
    assert "# TYPE " in text


@pytest.mark.parametrize("path", ["/api/publish", "/connection/websocket"])
def test_plain_get_where_it_is_not_served(harmless: None, server: PushServer, path: str) -> None:
    status, body = http("GET", server.url + path)
    assert 400 <= status < 500
    assert "Traceback" not in body
