"""What the CMS does to connections, by the API and by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.e2e.raw_client import RawClient
from tests.e2e.server import (
    KEY,
    SERVE,
    PushServer,
    bound,
    environment,
    eventually,
    jwt_for,
    log_is_quiet,
)


def test_logout_of_a_token(server: PushServer, bystander: RawClient) -> None:
    with RawClient(server) as client, RawClient(server) as tab, RawClient(server) as other:
        client.connect("logout-token")
        tab.connect("logout-token")
        other.connect("alice-second-token")

        server.api("logout", token="logout-token")

        # Every tab is closed for good, and the CMS is not even asked again.
        assert client.closing()[0] == 3500
        assert tab.closing()[0] == 3500
        assert "ping" in other.command("ping")
    with RawClient(server) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": "logout-token"}}))
        assert client.closing()[0] == 3500


def test_logout_of_a_user(server: PushServer) -> None:
    token = jwt_for("leaver", iat=int(time.time()) - 5)
    with RawClient(server) as client:
        client.connect(token)
        server.api("logout", user="leaver")
        assert client.closing()[0] == 3500
    with RawClient(server) as client:
        client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert client.closing()[0] == 3500


def test_nothing_is_delivered_after_the_answer_to_a_kick(server: PushServer) -> None:
    with RawClient(server) as client:
        client.connect("kicked-token")
        for number in range(50):
            server.publish("news", number)
        server.api("disconnect", user="kicked")
        server.publish("news", "secret")
        lines: list[str] = []
        assert client.closing(seen=lines)[0] == 3503
        assert '"data":49' in "".join(lines)
        assert "secret" not in "".join(lines)
    # A kick is no logout: who is let in by the CMS may come back.
    with RawClient(server) as client:
        client.connect("kicked-token")


def test_users_connections_and_channels(server: PushServer) -> None:
    with RawClient(server) as first, RawClient(server) as second:
        ids = {first.connect(jwt_for("eve"))["client"], second.connect(jwt_for("eve"))["client"]}
        assert server.api("users")["users"]["eve"] == {"num_clients": 2}
        listed = [c for c in server.api("connections")["connections"] if c["user"] == "eve"]
        assert {each["client"] for each in listed} == ids
        assert {each["transport"] for each in listed} == {"websocket"}
        assert all(each["channels"] == ["broadcast"] for each in listed)
        assert all(abs(each["connected_since"] - time.time()) < 60 for each in listed)
    eventually("eve is gone", lambda: "eve" not in server.api("users")["users"])


def test_a_channel_of_every_user(server: PushServer) -> None:
    """A subscription by the API outlives a page change."""
    token = jwt_for("frank")
    with RawClient(server) as client:
        client.connect(token)
        server.api("subscribe", user="frank", channel="open:frank")
    with RawClient(server) as client:
        assert "open:frank" in client.connect(token)["subs"]
        server.api("unsubscribe", user="frank", channel="open:frank")
    with RawClient(server) as client:
        assert "open:frank" not in client.connect(token)["subs"]


def command_line(server: PushServer, *arguments: str, key: str = KEY) -> tuple[int, str]:
    """Run a ``twisted-push`` command; give its return code and what it said."""
    finished = subprocess.run(
        bound([sys.executable, "-c", SERVE, *arguments]),
        env=environment(TWISTED_PUSH_URL=server.url, TWISTED_PUSH_KEY=key, no_proxy="*"),
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    said = finished.stdout + finished.stderr
    assert "Traceback" not in said, said
    return finished.returncode, said


def test_command_line(server: PushServer) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        client.connect("bob-token")

        code, said = command_line(server, "publish", "news", '{"n": 1.10}')
        assert (code, "published to news, to 1 client here" in said) == (0, True)
        assert client.publication("news")["data"] == {"n": 1.1}
        assert command_line(server, "broadcast", "Tea time")[0] == 0
        assert client.publication("broadcast")["data"] == {"subject": "Message", "body": "Tea time"}
        for command in ("users", "connections"):
            code, said = command_line(server, command)
            assert (code, "bob" in said) == (0, True)
        code, said = command_line(server, "channels")
        assert (code, "news" in said) == (0, True)
        code, said = command_line(server, "info", "--json")
        assert (code, json.loads(said)["nodes"][0]["num_clients"] > 0) == (0, True)
        assert command_line(server, "kick", "bob")[0] == 0
        assert client.closing()[0] == 3503


def test_command_line_with_a_wrong_key(server: PushServer) -> None:
    code, said = command_line(server, "users", key="a-key-that-nobody-has-given")
    assert code == 1
    assert len(said.splitlines()) == 1
