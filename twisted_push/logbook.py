"""What the log is told of what changes often, or happens to many: little, and the truth.

Whoever can have a line written as often as they like can fill a disk, or hide what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from math import inf

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

__all__ = ["FEW", "LINE_EVERY", "Logbook"]

LINE_EVERY = 10.0
"""Least seconds between two lines that say the same of the same."""

FEW = 5
"""Lines of one kind that are written at once; those that follow are counted."""

Write = Callable[[], None]
"""Writes one line."""


@define(eq=False)
class _State:
    """Whether the log has it that something is so, when that was written, and when it will be."""

    said: bool = False
    at: float = -inf
    later: IDelayedCall | None = None


@define(eq=False)
class _Crowd:
    """What happens to many: how many had a line, and how many are yet to be told of together."""

    more: Callable[[int], None]
    written: int = 0
    untold: int = 0
    later: IDelayedCall | None = None


@define(eq=False)
class Logbook:
    """Decides when a line is written. What lines are about are names from a closed set.

    ``every`` are the least seconds between two lines that say the same of the same.
    """

    _clock: IReactorTime
    _every: float = LINE_EVERY
    _states: dict[Hashable, _State] = field(init=False, factory=dict)
    _crowds: dict[Hashable, _Crowd] = field(init=False, factory=dict)
    _closed: bool = field(init=False, default=False)

    def begins(self, what: Hashable, write: Write) -> None:
        """Something is so: have that written, unless the log has it.

        It may have been so a moment ago, and not so meanwhile: then the line comes when the last
        one is old enough, if it is so still.
        """
        state = self._states.setdefault(what, _State())
        if state.said or state.later is not None or self._closed:
            return
        wait = state.at + self._every - self._clock.seconds()
        if wait <= 0:
            self._say(state, write)
        else:
            state.later = self._clock.callLater(wait, self._say, state, write)

    def ends(self, these: Iterable[Hashable], write: Write) -> None:
        """These are no longer so: have that written, if the log has it otherwise of one of them."""
        states = [self._states[each] for each in these if each in self._states]
        said = any(state.said for state in states)
        for state in states:
            state.said = False
            self._put_off(state)
        if said:
            write()

    def few(self, kind: Hashable, more: Callable[[int], None], first: int = FEW) -> bool:
        """Tell whether something that happens to many has a line; else it is counted.

        The ``first`` of a kind have one. How many there were besides is written by ``more``, again
        and again while there are any.
        """
        crowd = self._crowds.get(kind)
        if crowd is None:
            crowd = self._crowds[kind] = _Crowd(more)
            self._tell_later(kind, crowd)
        if crowd.written < first:
            crowd.written += 1
            return True
        crowd.untold += 1
        return False

    def tell(self, log: Logger, level: str, kind: str, line: str, **fields: object) -> None:
        """Write what happened to somebody if it is one of few; at level debug in any case.

        ``kind`` is what the line that has the number of the others says of them.
        """

        def more(count: int) -> None:
            text = "{count} more of these in {seconds:g} s: {kind}"
            log.emit(wanted, text, count=count, seconds=self._every, kind=kind)

        wanted = LogLevel.levelWithName(level)
        log.emit(wanted if self.few(kind, more) else LogLevel.debug, line, **fields)

    def close(self) -> None:
        """End: what is still to come is written now if it is a number, else it is not."""
        self._closed = True
        for state in self._states.values():
            self._put_off(state)
        for kind, crowd in tuple(self._crowds.items()):
            self._put_off(crowd)
            self._tell(kind, crowd)

    def _say(self, state: _State, write: Write) -> None:
        state.later, state.said, state.at = None, True, self._clock.seconds()
        write()

    def _tell_later(self, kind: Hashable, crowd: _Crowd) -> None:
        if not self._closed:
            crowd.later = self._clock.callLater(self._every, self._tell, kind, crowd)

    def _tell(self, kind: Hashable, crowd: _Crowd) -> None:
        untold, crowd.untold, crowd.later = crowd.untold, 0, None
        if not untold:
            del self._crowds[kind]
            return
        self._tell_later(kind, crowd)
        crowd.more(untold)

    @staticmethod
    def _put_off(line: _State | _Crowd) -> None:
        if line.later is not None:
            line.later.cancel()
            line.later = None
