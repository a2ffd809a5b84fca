"""The typed errors, one per audience, and the numbers of the client protocol.

::

    PushError                      never raised itself
    ├── ConfigError                the operator: one fault of the configuration, with its path
    ├── ConfigErrors               the operator: all faults of one configuration
    ├── ProtocolError              a codec: this is not the protocol; the client is closed
    ├── Refused                    a client's command or a backend's request was not granted
    ├── Disconnect                 a client is closed, with the code that says whether to return
    ├── CmsUnavailable             the CMS gave no usable answer
    ├── Overtaken                  the CMS gave one that a kick beats
    └── EngineUnavailable          the engine could not do it
        ├── NotConnected           ... and did not
        ├── Overloaded             ... and did not
        ├── OutcomeUnknown         ... or perhaps did
        └── EngineRefused          ... and never will as things are

Codes and their texts: the client protocol (Centrifugal JSON 2), section 4.
"""

from __future__ import annotations

from math import ceil

from attrs import field, frozen

__all__ = [
    "CLOSE_REASONS",
    "ERROR_MESSAGES",
    "CmsUnavailable",
    "ConfigError",
    "ConfigErrors",
    "Disconnect",
    "EngineRefused",
    "EngineUnavailable",
    "NotConnected",
    "OutcomeUnknown",
    "Overloaded",
    "Overtaken",
    "ProtocolError",
    "PushError",
    "Refused",
]

ERROR_MESSAGES = {
    100: "internal server error",
    101: "unauthorized",
    102: "unknown channel",
    103: "permission denied",
    104: "method not found",
    105: "already subscribed",
    106: "limit exceeded",
    107: "bad request",
    108: "not available",
    109: "token expired",
    110: "expired",
    111: "too many requests",
    112: "unrecoverable position",
    113: "concurrent pagination",
}
_TEMPORARY = frozenset({100, 111, 113})

CLOSE_REASONS = {
    3000: "connection closed",
    3001: "shutdown",
    3004: "internal server error",
    3005: "connection expired",
    3006: "subscription expired",
    3008: "slow",
    3009: "write error",
    3010: "insufficient state",
    3011: "force reconnect",
    3012: "no pong",
    3013: "too many requests",
    3014: "state invalidated",
    3500: "invalid token",
    3501: "bad request",
    3502: "stale",
    3503: "force disconnect",
    3504: "connection limit",
    3505: "channel limit",
    3506: "inappropriate protocol",
    3507: "permission denied",
    3508: "not available",
    3509: "too many errors",
}


class PushError(Exception):
    """The base of every error of this package; never raised itself."""


@frozen
class ConfigError(PushError):
    """One fault of the configuration, at a dotted ``path``."""

    path: str
    message: str

    def __str__(self) -> str:
        """Give ``path: message`` for the operator."""
        return f"{self.path}: {self.message}" if self.path else self.message


@frozen
class ConfigErrors(PushError):
    """Every fault of one configuration, reported together."""

    errors: tuple[ConfigError, ...]

    def __str__(self) -> str:
        """Give one line per fault."""
        return "\n".join(map(str, self.errors))


@frozen
class ProtocolError(PushError):
    """Bytes that are not the protocol. ``detail`` is safe to log and to show."""

    detail: str

    def __str__(self) -> str:
        """Give the detail."""
        return self.detail


@frozen
class Refused(PushError):
    """A command or an API request was not granted: a code of `ERROR_MESSAGES`, or the CMS's own.

    ``message`` is shown to the asker; empty means the standard text of the code.
    """

    code: int
    message: str = ""

    @property
    def text(self) -> str:
        """The message to show."""
        return self.message or ERROR_MESSAGES.get(self.code, "refused")

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in _TEMPORARY

    def __str__(self) -> str:
        """Give code and text."""
        return f"{self.code} {self.text}"


@frozen
class Disconnect(PushError):
    """Close this client: a code of `CLOSE_REASONS`, or the CMS's own from 4000 to 4999."""

    code: int
    reason: str = field(default="")

    @property
    def text(self) -> str:
        """The reason to send."""
        return self.reason or CLOSE_REASONS.get(self.code, "connection closed")

    @property
    def reconnect(self) -> bool:
        """Whether a client that is closed with this code comes back by itself."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)

    def __str__(self) -> str:
        """Give code and reason."""
        return f"{self.code} {self.text}"


@frozen
class CmsUnavailable(PushError):
    """The CMS gave no usable answer, or was not asked. ``why`` is for the log, without secrets.

    ``retry_after``: the seconds after which it may be asked again, if that is known. ``busy``: it
    was not asked because too many wait for it already. ``alive``: it did answer, if with nonsense;
    ``final``: it answered that it does not take this, and never will (a status 4xx).
    """

    why: str
    retry_after: float | None = None
    busy: bool = False
    alive: bool = False
    final: bool = False

    @property
    def advice(self) -> str:
        """What clients are told, and some understand; empty where nothing is known."""
        if self.retry_after is None:
            return ""
        return f"try again in {max(1, ceil(self.retry_after))} s"

    @property
    def refusal(self) -> Refused:
        """The error that a command of a client gets: a temporary one."""
        return Refused(111 if self.busy else 100, self.advice)

    @property
    def ending(self) -> Disconnect:
        """How a client is closed that cannot be let in now: it comes back by itself."""
        return Disconnect(3013 if self.busy else 3004, self.advice)

    def __str__(self) -> str:
        """Give the cause."""
        return self.why


@frozen
class Overtaken(PushError):
    """A kick of ``user`` came while the CMS was being asked: its answer lets nobody in.

    ``asked_at`` (unix seconds) is the time of the question.
    """

    user: str
    asked_at: float

    def __str__(self) -> str:
        """Give the cause."""
        return "a kick came meanwhile"


class EngineUnavailable(PushError):
    """The engine could not do what was asked."""


class NotConnected(EngineUnavailable):
    """Not done: the engine has no connection to its store."""


class Overloaded(EngineUnavailable):
    """Not done: too much is waiting for the engine."""


class OutcomeUnknown(EngineUnavailable):
    """Perhaps done: the answer was lost."""


class EngineRefused(EngineUnavailable):
    """Not done: the engine's store said no."""
