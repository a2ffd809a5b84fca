"""Signed tokens: the CMS signs who a client is, and is not asked (client protocol, section 7).

JWTs with HS256 and the site's secret. PyJWT checks the signature; the claims are read here, with
the time of the server's own clock. ``aud`` and ``iss`` are not looked at: the secret is of one
site. A token for one channel (claim ``channel``) does not open a connection.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import TypeVar

import jwt
from attrs import field, frozen
from jwt.algorithms import HMACAlgorithm
from msgspec import Struct
from twisted.internet.interfaces import IReactorTime

from twisted_push.cms.answers import ChannelOptions, channel_grants, json_text
from twisted_push.errors import ConfigError, Disconnect, Refused
from twisted_push.jsontext import JsonError, Raw, decoder
from twisted_push.model import Grant

__all__ = ["LEEWAY", "SubscriptionToken", "TokenVerifier", "looks_like_jwt"]

LEEWAY = 10.0
"""Seconds that ``nbf`` and ``iat`` may lie ahead: the CMS's clock is not exactly ours."""

_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)


class _Header(Struct, frozen=True):
    alg: str


class _Claims(Struct, frozen=True, kw_only=True):
    sub: str = ""
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    info: Raw = Raw()
    meta: Raw = Raw()


class _ConnectionClaims(_Claims, frozen=True, kw_only=True):
    channels: list[str] | None = None
    subs: dict[str, ChannelOptions] | None = None
    channel: str | None = None
    presence_to: list[str] | None = None


class _SubscriptionClaims(_Claims, frozen=True, kw_only=True):
    channel: str


_C = TypeVar("_C", bound=_Claims)
_decode_header: Callable[[bytes], _Header] = decoder(_Header)
_decode_connection: Callable[[bytes], _ConnectionClaims] = decoder(_ConnectionClaims)
_decode_subscription: Callable[[bytes], _SubscriptionClaims] = decoder(_SubscriptionClaims)


@frozen
class SubscriptionToken:
    """What a token for one channel says. ``expires_at`` is unix seconds, ``info`` JSON text."""

    channel: str
    user: str
    expires_at: float | None = None
    info: bytes | None = None


def looks_like_jwt(token: str) -> bool:
    """Tell whether a token is a JWT by its form: three parts, the first a header."""
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        return False
    head = shape[1]
    try:
        _decode_header(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (JsonError, ValueError):
        return False
    return True


class _Bad(Exception):
    """A token that is forged, not valid yet, or says what no token may say."""


class _Expired(Exception):
    """A good token whose time is over."""


class _Hs256(HMACAlgorithm):
    """HS256 with a key that was looked at once, when the server started.

    PyJWT tries at each token whether the key is a certificate, and warns of a short one.
    """

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode("utf-8") if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:
        return None


@frozen
class TokenVerifier:
    """Reads the tokens that are signed with ``secret``, at the time of ``clock``.

    An empty secret, or one that is a public key or a certificate, raises `ConfigError`.
    """

    secret: str = field(repr=False)
    clock: IReactorTime
    _signatures: jwt.PyJWS = field(init=False, repr=False)

    @_signatures.default
    def _make_signatures(self) -> jwt.PyJWS:
        signatures = jwt.PyJWS(algorithms=["HS256"])
        try:
            signatures.get_algorithm_by_name("HS256").prepare_key(self.secret)
        except jwt.InvalidKeyError as error:
            raise ConfigError("token_secret", str(error)) from None
        signatures.unregister_algorithm("HS256")
        signatures.register_algorithm("HS256", _Hs256())
        return signatures

    def verify_connection(self, token: str) -> Grant:
        """Give the grant that a token carries.

        Raises `Refused` (109) for one that expired, `Disconnect` (3500) for a bad one.
        """
        try:
            claims = self._claims(token, _decode_connection)
        except _Expired:
            raise Refused(109) from None
        except _Bad:
            raise Disconnect(3500) from None
        if claims.channel is not None:
            raise Disconnect(3500)
        return Grant(
            user=claims.sub,
            issued_at=claims.iat or 0.0,
            channels=channel_grants(claims.channels, claims.subs),
            presence_to=None if claims.presence_to is None else frozenset(claims.presence_to),
            info=json_text(claims.info),
            expires_at=claims.exp,
            client_refresh=True,
            raw=json_text(claims.meta),
        )

    def verify_subscription(self, token: str) -> SubscriptionToken:
        """Give what a token for one channel says; whether it is this client's is not asked here.

        Raises `Refused`: 109 for one that expired, 103 for a bad one.
        """
        try:
            claims = self._claims(token, _decode_subscription)
        except _Expired:
            raise Refused(109) from None
        except _Bad:
            raise Refused(103) from None
        return SubscriptionToken(claims.channel, claims.sub, claims.exp, json_text(claims.info))

    def _claims(self, token: str, decode: Callable[[bytes], _C]) -> _C:
        """Give the claims of a token that is signed and whose time is now."""
        try:
            payload: bytes = self._signatures.decode(token, self.secret, algorithms=["HS256"])
            claims = decode(payload)
        except (jwt.PyJWTError, JsonError, ValueError):
            raise _Bad from None
        now = self.clock.seconds()
        if claims.exp is not None and claims.exp <= now:
            raise _Expired
        for begin in (claims.nbf, claims.iat):
            if begin is not None and begin > now + LEEWAY:
                raise _Bad
        return claims
