"""The epochs of channels in which nothing was published yet: they prove that by themselves.

So nothing need be kept of such a channel, and a stranger who asks for very many has the server keep
nothing.
"""

from __future__ import annotations

from attrs import field, frozen

from twisted_push.history import new_epoch

__all__ = ["QUIET_PERIOD", "Quiet"]

QUIET_PERIOD = 8 * 3600.0
"""Seconds for which a channel without publications is in one epoch. It is good in the next, too.

Twice that is less than the time for which a stream is kept after its last publication. So of what
is asked about with a good epoch, nothing was forgotten since that was given. The rest is for a
clock that is set back.
"""


@frozen
class Quiet:
    """Epochs of one life of an engine, which has this ``name``; each says when it was given."""

    name: str = field(factory=new_epoch)

    def epoch(self, now: float) -> str:
        """Give the epoch of a channel that nobody published into."""
        return f"{self.name}.{_period(now):x}"

    def is_good(self, epoch: str, now: float) -> bool:
        """Tell whether it was given lately: a stream that is there began after that."""
        name, _, period = epoch.partition(".")
        try:
            return name == self.name and abs(_period(now) - int(period, 16)) <= 1
        except ValueError:
            return False


def _period(now: float) -> int:
    return int(now // QUIET_PERIOD)
