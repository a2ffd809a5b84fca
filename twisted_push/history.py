"""The stream of one channel: its latest publications and where it stands.

Facts of offsets and epochs: the client protocol (Centrifugal JSON 2), section 3.
"""

from __future__ import annotations

from collections import deque
from secrets import token_urlsafe

from attrs import define, evolve, field

from twisted_push.model import Publication, Recovered, StreamPosition

__all__ = ["Stream"]


def _new_epoch() -> str:
    return token_urlsafe(6)


@define
class Stream:
    """Publications with offsets that count from 1 within one epoch.

    The position outlives the publications: an empty stream still proves that nothing was missed.
    """

    epoch: str = field(factory=_new_epoch)
    top: int = 0
    _kept: deque[tuple[float, Publication]] = field(init=False, factory=deque)

    @property
    def position(self) -> StreamPosition:
        """Where the stream stands."""
        return StreamPosition(self.top, self.epoch)

    def append(self, publication: Publication, size: int, ttl: float, now: float) -> Publication:
        """Add a publication and give it with its position; keep ``size`` for ``ttl`` seconds."""
        self.top += 1
        placed = evolve(publication, position=self.position)
        self._kept.append((now + ttl, placed))
        while len(self._kept) > size:
            self._kept.popleft()
        return placed

    def trim(self, now: float) -> None:
        """Drop what is over its time."""
        while self._kept and self._kept[0][0] <= now:
            self._kept.popleft()

    def since(self, position: StreamPosition | None, limit: int, now: float) -> Recovered:
        """Give all that came after ``position``, or nothing if that cannot be all.

        None asks only where the stream stands, which is always complete.
        """
        if position is None:
            return Recovered((), self.position, complete=True)
        self.trim(now)
        missing = self.top - position.offset
        provable = position.epoch == self.epoch and 0 <= missing <= min(limit, len(self._kept))
        if not provable:
            return Recovered((), self.position, complete=False)
        found = [placed for _, placed in self._kept][len(self._kept) - missing :]
        return Recovered(tuple(found), self.position, complete=True)
