"""What the parts of one node have in common."""

from __future__ import annotations

import math
import os
from importlib.metadata import PackageNotFoundError, version
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_push.cms.gate import Gate
from twisted_push.errors import EngineUnavailable
from twisted_push.fairness import Scheduler, Share
from twisted_push.hub import Hub
from twisted_push.interfaces import IEngine
from twisted_push.logbook import Logbook
from twisted_push.policy import Policy
from twisted_push.session import Session
from twisted_push.stats import SiteStats
from twisted_push.wires import Wires

__all__ = ["TOMBSTONE", "Context", "software_version"]

_log = Logger()

TOMBSTONE = 86400.0
"""Seconds for which a token that was logged out is known as such; its CMS refuses it, too.

A signed token that nobody else refuses is known until its own end.
"""


def software_version() -> str:
    """Give the version of this package; "unknown" where it is not installed."""
    try:
        return version("twisted-push")
    except PackageNotFoundError:
        return "unknown"


@define(eq=False)
class Context:
    """One site at work. ``policy`` changes with a reload; the rest stays.

    ``share`` is the site's share of the time: by default all of it. ``uid`` names this node for as
    long as the process lives.
    """

    name: str
    policy: Policy
    engine: IEngine
    gate: Gate
    clock: IReactorTime
    stats: SiteStats
    share: Share = field()
    wires: Wires = field(factory=lambda: Wires(os.write))
    hub: Hub[Session] = field(init=False, factory=Hub)
    book: Logbook = field(init=False)
    uid: str = field(init=False, factory=lambda: str(uuid4()))
    version: str = field(init=False, factory=software_version)
    started_at: float = field(init=False)

    @share.default
    def _all_of_it(self) -> Share:
        return Scheduler(self.clock).share()

    @book.default
    def _new_book(self) -> Logbook:
        return Logbook(self.clock)

    @started_at.default
    def _started_now(self) -> float:
        return self.clock.seconds()

    def until_forgotten(self) -> float:
        """Give how long a change of a user's rights must be known: signed tokens may live long."""
        return math.inf if self.gate.tokens is not None else self.clock.seconds() + TOMBSTONE

    def watch(self, doing: Deferred[None]) -> None:
        """Let a call of the engine that nobody waits for fail with a line in the log."""
        doing.addErrback(self._engine_failed)

    def engine_failed(self, error: object) -> None:
        """Have the log say that a call of the engine failed, whoever wanted it."""
        kind = f"{self.name}: the engine failed"
        line = "{site}: the engine failed: {why}"
        why = str(error) or type(error).__name__
        self.book.tell(_log, "warn", kind, line, site=self.name, why=why)

    def _engine_failed(self, failure: Failure) -> None:
        failure.trap(EngineUnavailable)
        self.engine_failed(failure.value)
