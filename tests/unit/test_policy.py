"""The rules: keys and scopes, hosts and origins, channels and who may do what in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.config import KeyConfig, Limits, Namespace, SiteConfig
from twisted_push.errors import Refused
from twisted_push.model import ChannelGrant, Grant
from twisted_push.policy import MAX_CHANNEL_LENGTH, Policy, host_name, key_digest

KEY = "a key of thirty-two characters .."
OTHER = "another key of many characters .."
PUBLISHING: Any = frozenset(["publish"])


def policy(**site: Any) -> Policy:
    return Policy(SiteConfig(**site), Limits())


def spaces(*namespaces: Namespace) -> Policy:
    return policy(namespaces=namespaces)


# --- Keys ------------------------------------------------------------------------------------


@pytest.fixture
def keys() -> Policy:
    return policy(
        keys=(
            KeyConfig(id="first", key=KEY),
            KeyConfig(id="second", key=OTHER, scopes=PUBLISHING),
        )
    )


def test_each_key_is_known_by_its_id_and_scopes(keys: Policy) -> None:
    first, second = keys.service_key(key_digest(KEY)), keys.service_key(key_digest(OTHER))
    assert first is not None
    assert second is not None
    assert (first.id, set(first.scopes)) == ("first", {"publish", "read", "manage"})
    assert (second.id, set(second.scopes)) == ("second", {"publish"})


@pytest.mark.parametrize(
    "presented",
    [
        "",
        " ",
        KEY[:-1],
        KEY + "x",
        KEY + " ",
        KEY + "\0",
        KEY.upper(),
        " " + KEY,
        KEY + ", " + KEY,
        KEY + "\u00e9",
        "\u00e9" * 32,
        "\U0001f600",
        "\udcff" * 4,
        KEY.replace("a", "\uff41"),
    ],
)
def test_anything_else_is_no_key(keys: Policy, presented: str) -> None:
    assert keys.service_key(key_digest(presented)) is None


def test_a_site_without_keys_lets_nobody_in() -> None:
    for presented in ("", KEY):
        assert policy().service_key(key_digest(presented)) is None


@given(st.binary(max_size=64))
def test_whatever_a_header_holds_is_no_key(value: bytes) -> None:
    found = policy(keys=(KeyConfig(key=KEY),)).service_key(key_digest(value.decode("latin-1")))
    assert (found is not None) is (value == KEY.encode())


def test_keys_do_not_show(keys: Policy) -> None:
    found = keys.service_key(key_digest(KEY))
    assert found is not None
    for shown in (repr(keys), repr(found)):
        assert KEY not in shown
        assert repr(found.digest) not in shown


def test_a_scope_is_needed(keys: Policy) -> None:
    first, second = keys.service_key(key_digest(KEY)), keys.service_key(key_digest(OTHER))
    assert first is not None
    assert second is not None
    for scope in ("publish", "read", "manage"):
        keys.check_scope(first, scope)
    keys.check_scope(second, "publish")
    for scope in ("read", "manage", "", "PUBLISH", "publis"):
        with pytest.raises(Refused) as error:
            keys.check_scope(second, scope)
        assert error.value.code == 103


# --- The door --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("www.example.org", True),
        ("WWW.Example.ORG", True),
        ("www.example.org:8080", True),
        ("www.example.org.", True),
        ("www.example.org.:8080", True),
        ("[2001:db8::1]", True),
        ("[2001:db8::1]:443", True),
        ("[2001:DB8::1]:443", True),
        ("example.org", False),
        ("xwww.example.org", False),
        ("www.example.org.evil.test", False),
        ("www.example.org:x", False),
        ("www.example.org@evil.test", False),
        ("[2001:db8::2]", False),
        ("2001:db8::1", False),
        ("", False),
        (":80", False),
        (".", False),
        ("www.example.org, www.example.org", False),
    ],
)
def test_hosts(host: str, served: bool) -> None:
    assert (host_name(host) in {"www.example.org", "[2001:db8::1]"}) is served


SAME = "www.example.org"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, SAME, True),
        ("https://www.example.org", SAME, True),
        ("http://www.example.org", SAME, True),
        ("HTTPS://WWW.EXAMPLE.ORG", SAME, True),
        ("https://www.example.org", "WWW.example.org", True),
        ("https://www.example.org:8443", "www.example.org:8443", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://www.example.org:8443", SAME, True),
        ("https://www.example.org", "www.example.org:8443", True),
        ("http://[::1]", "[::1]:8080", True),
        ("http://[::1]:8080", "[::2]:8080", False),
        ("https://www.example.org:x", SAME, False),
        ("https://evil.test:80", SAME, False),
        ("https://:8443", ":8443", False),
        ("https://example.org", SAME, False),
        ("https://evil.www.example.org", SAME, False),
        ("https://www.example.org.evil.test", SAME, False),
        ("https://evil.test", SAME, False),
        ("https://www.example.org/", SAME, False),
        ("https://user@www.example.org", SAME, False),
        ("https://evil.test, https://www.example.org", SAME, False),
        ("null", SAME, False),
        ("null", "null", False),
        ("", SAME, False),
        ("", "", False),
        ("*", SAME, False),
        ("www.example.org", SAME, False),
        ("//www.example.org", SAME, False),
        ("file://www.example.org", SAME, False),
        ("chrome-extension://www.example.org", SAME, False),
        ("https://evil.test", "", False),
        ("https://", "", False),
    ],
)
def test_without_allowed_origins_only_pages_of_the_same_host(
    origin: str | None, host: str, allowed: bool
) -> None:
    assert policy().allows_origin(origin, host) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://www.example.org", True),
        ("https://WWW.example.org", True),
        ("https://app.example.org:8443", True),
        ("https://app.example.org", False),
        ("http://www.example.org", False),
        ("https://push.example.org", False),
        ("null", False),
        ("*", False),
        ("", False),
    ],
)
def test_with_allowed_origins_exactly_those(origin: str | None, allowed: bool) -> None:
    rules = policy(allowed_origins=("https://www.example.org", "https://app.example.org:8443"))
    assert rules.allows_origin(origin, "push.example.org") is allowed


@pytest.mark.parametrize("origin", [None, "null", "", "https://evil.test", "file://", "x"])
def test_a_star_allows_all(origin: str | None) -> None:
    assert policy(allowed_origins=("*",)).allows_origin(origin, SAME)


# --- Channel names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channel",
    [
        "a",
        " ",
        "chat:\u00e4\u00f6\u00fc",
        "\U0001f600",
        "__proto__",
        "$private",
        "a\u00a0b",
        "a" * MAX_CHANNEL_LENGTH,
        "\u00e9" * 127 + "a",
        "\u20ac" * 85,
        "\U0001f600" * 63 + "abc",
    ],
)
def test_names_that_a_channel_may_have(channel: str) -> None:
    policy().check_channel(channel)


@pytest.mark.parametrize(
    "channel",
    [
        "",
        "a" * (MAX_CHANNEL_LENGTH + 1),
        "\u00e9" * 128,
        "\u20ac" * 85 + "a",
        "\U0001f600" * 64,
        "a" * 1_000_000,
        *(f"a{chr(code)}b" for code in (*range(0x20), *range(0x7F, 0xA0))),
        "a\n",
        "\n",
        "a\u2028",
        "a\u2029b",
        "\ud800",
        "a\udfffb",
        "\ud83d\ude00",  # A pair of lone halves is no character either.
    ],
)
def test_names_that_no_channel_has(channel: str) -> None:
    with pytest.raises(Refused) as error:
        policy().check_channel(channel)
    assert error.value.code == 107
    assert len(error.value.text) < 100


@given(st.text(max_size=300))
def test_any_text_is_a_name_of_one_line_and_bounded_or_refused(channel: str) -> None:
    try:
        policy().check_channel(channel)
    except Refused:
        return
    assert 0 < len(channel.encode("utf-8")) <= MAX_CHANNEL_LENGTH
    assert channel.splitlines() == [channel]


def test_how_many_channels_a_client_may_have() -> None:
    rules = Policy(SiteConfig(), Limits(max_channels_per_client=2))
    rules.check_channel_count(0)
    rules.check_channel_count(1)
    for count in (2, 3):
        with pytest.raises(Refused) as error:
            rules.check_channel_count(count)
        assert error.value.code == 106


# --- Namespaces ------------------------------------------------------------------------------


def test_the_first_namespace_that_fits_rules() -> None:
    rules = spaces(
        Namespace(prefix="chat:vip:", history_size=1),
        Namespace(prefix="chat:", history_size=2),
        Namespace(prefix="chat:staff:", history_size=3),
    )
    assert rules.namespace("chat:vip:1").history_size == 1
    assert rules.namespace("chat:vip").history_size == 2
    assert rules.namespace("chat:").history_size == 2
    assert rules.namespace("chat:staff:1").history_size == 2  # By order, not by length.
    assert rules.namespace("chat") == Namespace()
    assert rules.namespace("Chat:vip:1") == Namespace()
    assert rules.namespace("xchat:") == Namespace()


def test_an_empty_prefix_rules_the_rest() -> None:
    rules = spaces(Namespace(prefix="a:", history_size=1), Namespace(prefix="", history_size=2))
    assert rules.namespace("a:b").history_size == 1
    assert rules.namespace("b").history_size == 2


@pytest.mark.parametrize("how", ["anyone", "token", "cms"])
def test_who_may_subscribe(how: str) -> None:
    rules = spaces(Namespace(prefix="a:", client_subscribe=how))
    assert rules.subscribes_by("a:b") == how
    with pytest.raises(Refused) as error:
        rules.subscribes_by("b")
    assert error.value.code == 103


def test_who_may_not_subscribe() -> None:
    with pytest.raises(Refused) as error:
        spaces(Namespace(prefix="a:", client_subscribe="deny")).subscribes_by("a:b")
    assert error.value.code == 103


@pytest.mark.parametrize(
    ("how", "subscribed", "may"),
    [
        ("deny", False, False),
        ("deny", True, False),
        ("cms", False, True),
        ("cms", True, True),
        ("subscriber", False, False),
        ("subscriber", True, True),
        ("anyone", False, True),
        ("anyone", True, True),
    ],
)
def test_who_may_publish(how: str, subscribed: bool, may: bool) -> None:
    rules = spaces(Namespace(prefix="a:", client_publish=how))
    if may:
        assert rules.publishes_by("a:b", subscribed=subscribed) == how
    else:
        with pytest.raises(Refused) as error:
            rules.publishes_by("a:b", subscribed=subscribed)
        assert error.value.code == 103
    with pytest.raises(Refused):
        rules.publishes_by("b", subscribed=subscribed)


@pytest.mark.parametrize("subscribed", [False, True])
@pytest.mark.parametrize("client_presence", [False, True])
@pytest.mark.parametrize("presence", [False, True])
def test_who_may_see_who_is_there(presence: bool, client_presence: bool, subscribed: bool) -> None:
    rules = spaces(Namespace(prefix="a:", presence=presence, client_presence=client_presence))
    if presence and client_presence and subscribed:
        rules.check_client_presence("a:b", subscribed=True)
        return
    with pytest.raises(Refused) as error:
        rules.check_client_presence("a:b", subscribed=subscribed)
    assert error.value.code == (103 if presence else 108)


@pytest.mark.parametrize("subscribed", [False, True])
@pytest.mark.parametrize("client_history", [False, True])
@pytest.mark.parametrize("size", [0, 5])
def test_who_may_ask_for_history(size: int, client_history: bool, subscribed: bool) -> None:
    rules = spaces(Namespace(prefix="a:", history_size=size, client_history=client_history))
    if size and client_history and subscribed:
        rules.check_client_history("a:b", subscribed=True)
        return
    with pytest.raises(Refused) as error:
        rules.check_client_history("a:b", subscribed=subscribed)
    assert error.value.code == (103 if size else 108)


def test_which_channels_have_history() -> None:
    rules = spaces(Namespace(prefix="a:", history_size=5))
    rules.check_history("a:b")
    with pytest.raises(Refused) as error:
        rules.check_history("b:c")
    assert error.value.code == 108


# --- Granted channels ------------------------------------------------------------------------


def test_everybody_is_in_the_broadcast_channel() -> None:
    assert policy().granted_channels(Grant("", 0.0)) == {"broadcast": ChannelGrant()}
    rules = policy(broadcast_channel="all")
    assert rules.granted_channels(Grant("u", 0.0)) == {"all": ChannelGrant()}


def test_a_user_gets_a_channel_of_its_own_and_the_anonymous_none() -> None:
    rules = policy(user_channel="user:{user}:{user}")
    assert set(rules.granted_channels(Grant("7", 0.0))) == {"broadcast", "user:7:7"}
    assert set(rules.granted_channels(Grant("", 0.0))) == {"broadcast"}
    assert set(rules.granted_channels(Grant("{user}", 0.0))) == {
        "broadcast",
        "user:{user}:{user}",
    }


def test_what_the_cms_says_of_a_channel_counts() -> None:
    mine, all_of_us = ChannelGrant(b"1", b"2"), ChannelGrant(b"3")
    rules = policy(user_channel="user:{user}")
    grant = Grant("7", 0.0, {"a": mine, "broadcast": all_of_us, "user:7": mine})
    assert rules.granted_channels(grant) == {"a": mine, "broadcast": all_of_us, "user:7": mine}
    assert set(grant.channels) == {"a", "broadcast", "user:7"}
