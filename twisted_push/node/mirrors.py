"""What of one site is shown on others: the operator says so for a site that watches, such as a hub.

After it was published, a publication goes into a channel of the watching site as well, with the
tags ``site`` and ``site_channel``, which say where it comes from and which the server alone sets.
It is one of that site's own from then on, whose namespaces say whether it is kept, and is not
mirrored once more. Where it cannot be shown, the site that it comes from does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_push.errors import EngineUnavailable, Refused
from twisted_push.model import Publication, Published
from twisted_push.protocols.nodejs import tags_of
from twisted_push.stats import SiteStats

__all__ = ["MAX_UNDER_WAY", "Mirror", "Mirrors"]

MAX_UNDER_WAY = 1_000
"""Publications of one site that are on their way to others; those beyond are not shown there."""

_NOT_SHOWN = frozenset({"broadcast", "channel", "clientSocketId", "site", "site_channel"})
"""Fields of a nodejs message that mean something on its own site alone, or are ours to say."""

_log = Logger()


@frozen
class Mirror:
    """Publications in channels with a ``prefix`` go into ``channel`` of another site.

    ``publish`` is that site's `Backend.publish`, ``watcher`` its name.
    """

    watcher: str
    prefix: str
    channel: str
    publish: Callable[..., Deferred[Published]]


class Mirrors:
    """The mirrors of one site. ``stats`` are its own."""

    def __init__(self, name: str, stats: SiteStats) -> None:
        self._name = name
        self._stats = stats
        self._mirrors: tuple[Mirror, ...] = ()
        self._under_way = 0
        self._failing: set[str] = set()

    def set(self, mirrors: Iterable[Mirror]) -> None:
        """Show publications there, and nowhere else, from now on."""
        self._mirrors = tuple(mirrors)

    def follow(
        self, publishing: Deferred[Published], publication: Publication, *, skip_history: bool
    ) -> Deferred[Published]:
        """Show a publication wherever it is to be shown, when it is published, and new."""
        if not self._mirrors:
            return publishing
        return publishing.addCallback(self._published, publication, skip_history)

    def _published(
        self, published: Published, publication: Publication, skip_history: bool
    ) -> Published:
        if not (published.duplicate or published.outdated):
            for mirror in self._mirrors:
                if publication.channel.startswith(mirror.prefix):
                    self._show(mirror, publication, skip_history)
        return published

    def _show(self, mirror: Mirror, publication: Publication, skip_history: bool) -> None:
        if self._under_way >= MAX_UNDER_WAY:
            self._failed(mirror, "too much is on its way there")
            return
        own = publication.channel
        channel = mirror.channel.replace("{site}", self._name).replace("{channel}", own)
        extra = publication.extra
        if extra is not None:
            extra = {name: text for name, text in extra.items() if name not in _NOT_SHOWN}
        tags = {**tags_of(extra), **(publication.tags or {})}
        tags.update(site=self._name, site_channel=own)
        self._under_way += 1
        showing = mirror.publish(
            channel, publication.data, tags=tags, extra=extra, skip_history=skip_history, shown=True
        )
        showing.addBoth(self._shown, mirror)

    def _shown(self, result: Published | Failure, mirror: Mirror) -> None:
        self._under_way -= 1
        if not isinstance(result, Failure):
            self._stats.mirrored += 1
            if mirror.watcher in self._failing:
                self._failing.remove(mirror.watcher)
                _log.info("{site}: is shown on {to} again", site=self._name, to=mirror.watcher)
        elif result.check(EngineUnavailable, Refused):
            self._failed(mirror, str(result.value) or type(result.value).__name__)
        else:
            _log.failure("{site}: a mirror failed", result, site=self._name)

    def _failed(self, mirror: Mirror, why: str) -> None:
        """Count it; the first of several is a line in the log."""
        self._stats.mirror_failures += 1
        if mirror.watcher not in self._failing:
            self._failing.add(mirror.watcher)
            line = "{site}: a publication is not shown on {to}: {why}"
            _log.warn(line, site=self._name, to=mirror.watcher, why=why)
