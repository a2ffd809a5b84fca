from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cms.support import NOW, clock_at
from twisted_push.cms.jwt import LEEWAY, SubscriptionToken, TokenVerifier, looks_like_jwt
from twisted_push.errors import ConfigError, Disconnect, Refused
from twisted_push.model import ChannelGrant, Grant

SECRET = "a-secret-of-the-site-" * 4
verifier = TokenVerifier(SECRET, clock_at())


def sign(claims: object, secret: str = SECRET, alg: str = "HS256", **header: Any) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jwt.PyJWS().encode(payload, secret, algorithm=alg, headers=header or None)


def part(text: bytes) -> str:
    return urlsafe_b64encode(text).rstrip(b"=").decode()


def joined(*parts: bytes | str) -> str:
    """Join parts to a token; bytes are encoded first."""
    return ".".join(part(one) if isinstance(one, bytes) else one for one in parts)


def says(token: str, subscription: bool = False) -> str:
    try:
        if subscription:
            verifier.verify_subscription(token)
        else:
            verifier.verify_connection(token)
    except (Refused, Disconnect) as error:
        return f"{type(error).__name__} {error}"
    return ""


EXPIRED = "Refused 109 token expired"
BAD = "Disconnect 3500 invalid token"


def test_all_claims() -> None:
    token = sign(
        b'{"sub": "42", "exp": 1800003600, "iat": 1799999990.5, "nbf": 1799999990,'
        b' "info": {"n": 1.10}, "channels": ["news"], "subs": {"chat": {"info": {"a": 1},'
        b' "data": [1], "override": {}}}, "meta": {"m": 1}, "presence_to": ["7"], "aud": "x",'
        b' "iss": 7, "jti": []}'
    )
    assert verifier.verify_connection(token) == Grant(
        user="42",
        issued_at=1799999990.5,
        channels={"news": ChannelGrant(), "chat": ChannelGrant(b'{"a": 1}', b"[1]")},
        presence_to=frozenset({"7"}),
        info=b'{"n": 1.10}',
        expires_at=1800003600,
        client_refresh=True,
        raw=b'{"m": 1}',
    )


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"exp": None, "info": None, "subs": None}])
def test_who_is_not_named_is_anonymous(claims: dict[str, Any]) -> None:
    """The CMS signed it. Without ``iat`` any logout of the user beats it."""
    grant = Grant(user="", issued_at=0.0, client_refresh=True)
    assert verifier.verify_connection(sign(claims)) == grant


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": NOW + 1}, ""),
        ({"exp": NOW}, EXPIRED),
        ({"exp": NOW - 1}, EXPIRED),
        ({"exp": -1}, EXPIRED),
        ({"exp": 0}, EXPIRED),
        ({"nbf": NOW + LEEWAY}, ""),
        ({"nbf": NOW + LEEWAY + 1}, BAD),
        ({"iat": NOW + LEEWAY}, ""),
        ({"iat": NOW + LEEWAY + 1}, BAD),
        ({"iat": NOW, "exp": NOW - 1, "nbf": NOW + 100}, EXPIRED),
        ({"sub": 42}, BAD),
        ({"sub": None}, BAD),
        ({"sub": ["42"]}, BAD),
        ({"exp": "soon"}, BAD),
        ({"exp": True}, BAD),
        (b'{"exp": 1e999}', BAD),
        ({"iat": "now"}, BAD),
        ({"channels": "news"}, BAD),
        ({"channels": [1]}, BAD),
        ({"presence_to": "7"}, BAD),
        ({"subs": {"a": 1}}, BAD),
        ({"sub": "42", "channel": "news"}, BAD),
        (["sub"], BAD),
        (b"null", BAD),
        (b"", BAD),
        (b"{", BAD),
        (b'{"sub": "\xff"}', BAD),
        (b'{"sub": "\\ud800"}', BAD),
        (b'{"info": ' + b"[" * 1000 + b"]" * 1000 + b"}", BAD),
    ],
    ids=str,
)
def test_claims(claims: object, said: str) -> None:
    assert says(sign(claims)) == said


GOOD = sign({"sub": "42"})
HEAD, BODY, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        sign({"sub": "42"}, SECRET + "x"),
        sign({"sub": "42"}, alg="HS512"),
        sign({"sub": "42"}, alg="HS384"),
        joined(b'{"alg":"none"}', BODY, ""),
        joined(b'{"alg":"none"}', BODY, SIGNATURE),
        joined(b'{"alg":"None"}', BODY, ""),
        joined(b'{"alg":"RS256"}', BODY, SIGNATURE),
        joined(b'{"alg":["HS256"]}', BODY, SIGNATURE),
        joined(b'{"typ":"JWT"}', BODY, SIGNATURE),
        joined(b"[" * 3000, BODY, SIGNATURE),
        joined(HEAD, b'{"sub":"1"}', SIGNATURE),
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{BODY}",
        f"{HEAD}..{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}.",
        f"{HEAD}.{BODY}.{SIGNATURE[:-1]}",
        f"{HEAD}.{BODY}.{SIGNATURE}é",
        sign({"sub": "42"}, crit=["b64"], b64=False),
        "",
        ".",
        "..",
        "opaque",
    ],
)
def test_forged_tokens(token: str) -> None:
    assert says(token) == BAD
    assert says(token, subscription=True) == "Refused 103 permission denied"


def test_a_key_id_and_other_headers_are_of_no_meaning() -> None:
    assert says(sign({"sub": "42"}, kid="../../key", jku="http://evil.test/", typ="at+jwt")) == ""


def test_a_subscription_token() -> None:
    token = sign({"sub": "42", "channel": "chat:1", "exp": NOW + 60, "info": {"a": 1}})
    assert verifier.verify_subscription(token) == SubscriptionToken(
        "chat:1", "42", NOW + 60, b'{"a": 1}'
    )
    assert verifier.verify_subscription(sign({"channel": "chat:1"})) == SubscriptionToken(
        "chat:1", ""
    )


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"channel": "a", "exp": NOW}, EXPIRED),
        ({"channel": "a", "nbf": NOW + 100}, "Refused 103 permission denied"),
        ({"sub": "42"}, "Refused 103 permission denied"),
        ({"sub": "42", "channels": ["a"]}, "Refused 103 permission denied"),
        ({"channel": None}, "Refused 103 permission denied"),
        ({"channel": 7}, "Refused 103 permission denied"),
        ({"channel": "a", "sub": 42}, "Refused 103 permission denied"),
    ],
    ids=str,
)
def test_bad_subscription_tokens(claims: object, said: str) -> None:
    assert says(sign(claims), subscription=True) == said


def test_tokens_of_pyjwt_itself() -> None:
    assert says(jwt.encode({"sub": "42", "exp": NOW + 1}, SECRET, algorithm="HS256")) == ""


def test_the_time_is_the_clock_s() -> None:
    clock = clock_at(100.0)
    one = TokenVerifier(SECRET, clock)
    token = sign({"sub": "42", "exp": 101})
    assert one.verify_connection(token).user == "42"
    clock.advance(1)
    with pytest.raises(Refused):
        one.verify_connection(token)


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(verifier)


@pytest.mark.parametrize(
    "secret", ["", "-----BEGIN PUBLIC KEY-----\nMFk\n-----END PUBLIC KEY-----\n", "ssh-rsa AAAA"]
)
def test_a_secret_that_is_none_is_a_fault_of_the_configuration(secret: str) -> None:
    with pytest.raises(ConfigError, match="token_secret"):
        TokenVerifier(secret, clock_at())


def test_a_short_secret_is_a_matter_of_the_configuration() -> None:
    """It says how short one may be; no token is checked with a warning."""
    one = TokenVerifier("short", clock_at())
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = sign({"sub": "42"}, "short")
    assert one.verify_connection(token).user == "42"


@pytest.mark.parametrize(
    ("token", "looks"),
    [
        (GOOD, True),
        (joined(b'{"alg":"none"}', BODY, ""), True),
        (joined(b'{ "typ": "JWT", "alg": "RS256" }', "a", "b"), True),
        ("", False),
        ("2f29f07c3cdabfe464232f244e2ab32b", False),
        ("a.b.c", False),
        ("opaque.with.dots", False),
        ("e30.e30.e30", False),
        (joined(b'{"alg":1}', "a", "b"), False),
        (joined(b'["alg"]', "a", "b"), False),
        (joined(b'{"alg":"HS256"}' + b" " * 4000, "a", "b"), True),
        (joined(b"[" * 3000, "a", "b"), False),
        (GOOD + ".", False),
        (GOOD + "\n", False),
        (" " + GOOD, False),
        (f"{HEAD}.{BODY}", False),
    ],
)
def test_what_looks_like_a_jwt(token: str, looks: bool) -> None:
    assert looks_like_jwt(token) is looks


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_any_text_is_refused(token: str) -> None:
    looks_like_jwt(token)
    assert says(token) == BAD


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "sub",
                "exp",
                "iat",
                "nbf",
                "info",
                "channels",
                "subs",
                "channel",
                "meta",
                "presence_to",
            ]
        ),
        json_values,
    )
)
def test_any_signed_claims_are_a_grant_or_a_refusal(claims: dict[str, Any]) -> None:
    token = sign(claims)
    assert says(token) in ("", BAD, EXPIRED)
    assert says(token, subscription=True) in ("", "Refused 103 permission denied", EXPIRED)
