"""A hub that shows what other sites publish: real sites, libraries and clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cent
import jwt
import pytest
import requests

from tests.e2e.server import Dialogue, PushServer, free_port

HERE = Path(__file__).parent
SECRETS = {"shop": "s" * 40, "club": "c" * 40, "hub": "h" * 40}
KEYS = {name: f"the-service-key-of-the-{name}" for name in SECRETS}
OPERATORS = "the-key-of-the-operators"
CONFIG = """
listen = ["tcp:{port}:interface=127.0.0.1"]

[limits]
shutdown_timeout = "0s"

[sites.shop]
hosts = ["127.0.0.1"]
key = "{shop}"
token_secret = "{shop_secret}"
limits = {{ max_requests_per_second = 20 }}

[sites.club]
hosts = ["club.test"]
key = "{club}"
token_secret = "{club_secret}"

[sites.hub]
hosts = ["localhost"]
token_secret = "{hub_secret}"
keys = [
  {{ key = "{hub}" }},
  {{ id = "operators", key = "{operators}", sites = ["*"], scopes = ["publish", "read"] }},
]

[[sites.hub.mirrors]]
sites = ["*"]
prefix = "watchdog"
channel = "log"

[[sites.hub.namespaces]]
prefix = "log"
history_size = 100
recover = true
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    port = free_port()
    secrets = {f"{name}_secret": secret for name, secret in SECRETS.items()}
    text = CONFIG.format(port=port, operators=OPERATORS, **KEYS, **secrets)
    with PushServer(tmp_path_factory.mktemp("hub"), text, port) as running:
        yield running
    for secret in (*KEYS.values(), *SECRETS.values(), OPERATORS):
        assert secret not in running.log


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def token(site: str, *channels: str) -> str:
    claims = {"sub": "42", "iat": int(time.time()), "channels": channels}
    return jwt.encode(claims, SECRETS[site], algorithm="HS256")


def page(node: str, server: PushServer, host: str, site: str, *channels: str) -> Dialogue:
    """Give a page of a site, in the library's own client."""
    url = server.url.replace("127.0.0.1", host)
    arguments = json.dumps({"url": url, "token": token(site, *channels)})
    return Dialogue([node, str(HERE / "js" / "client.mjs"), arguments], HERE)


@pytest.mark.node
def test_one_page_shows_the_log_lines_of_all_sites(
    node: str, server: PushServer, session: requests.Session
) -> None:
    apis = {
        name: cent.Client(f"{server.url}/api", key, session=session) for name, key in KEYS.items()
    }
    with (
        page(node, server, "localhost", "hub", "log") as hub,
        page(node, server, "127.0.0.1", "shop", "watchdog", "log") as shop,
    ):
        for each in (hub, shop):
            each.ask("connect")
            each.wait("connected")
        for name in ("shop", "club"):
            apis[name].publish(
                cent.PublishRequest(channel="watchdog", data={"line": f"login at {name}"})
            )
        lines = [
            hub.wait("publication", channel="log", data={"line": f"login at {name}"})
            for name in ("shop", "club")
        ]
        assert [line["tags"] for line in lines] == [
            {"site": name, "site_channel": "watchdog"} for name in ("shop", "club")
        ]
        assert [line["offset"] for line in lines] == [1, 2]
        own = shop.wait("publication", channel="watchdog")
        assert own["data"] == {"line": "login at shop"}
        apis["hub"].publish(cent.PublishRequest(channel="log", data="of the hub itself"))
        hub.wait("publication", channel="log", data="of the hub itself")
        # The shop has a channel of this name, too: nothing of the hub's came there.
        apis["shop"].publish(cent.PublishRequest(channel="log", data="of the shop"))
        shop.wait("publication", channel="log", data="of the shop")
        assert [each["data"] for each in shop.named("publication")] == [
            {"line": "login at shop"},
            "of the shop",
        ]
        # A page that comes back is given what it missed, of all sites.
        hub.ask("disconnect")
        apis["club"].publish(cent.PublishRequest(channel="watchdog", data="meanwhile"))
        hub.ask("connect")
        missed = hub.wait("publication", channel="log", data="meanwhile")
        assert missed["tags"]["site"] == "club"


def call(server: PushServer, method: str, key: str, **params: Any) -> Any:
    status, answer = server.call(method, params, key=key)
    assert status == 200
    return answer


def test_the_operators_act_on_any_site_and_a_site_on_none(server: PushServer) -> None:
    answer = call(server, "publish", OPERATORS, site="club", channel="broadcast", data="at 10")
    assert answer["result"]["recipients"] == 0
    sites = call(server, "sites", OPERATORS)["result"]["sites"]
    assert set(sites) == {"hub", "shop", "club"}
    answer = call(server, "publish", KEYS["shop"], site="club", channel="broadcast", data="x")
    assert answer["error"]["code"] == 103
    answer = call(server, "disconnect", OPERATORS, site="club", user="42")
    assert "scope" in answer["error"]["message"]


def test_a_key_that_comes_too_often_is_told_so_and_the_others_are_not(server: PushServer) -> None:
    refused = 0
    for _ in range(80):
        answer = call(server, "info", KEYS["shop"])
        refused += answer.get("error", {}).get("code") == 111
    assert refused
    assert "result" in call(server, "info", KEYS["club"])
    assert (
        'api_requests_total{method="info",outcome="limited",site="shop"}'
        in server.get("/metrics")[1]
    )
