"""What the log is told of what changes often: little, and the truth.

Whoever can have a line written as often as they like can fill a disk, or hide what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from math import inf

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["LINE_EVERY", "Logbook"]

LINE_EVERY = 10.0
"""Least seconds between two lines that say the same of the same."""

Write = Callable[[], None]
"""Writes one line."""


@define(eq=False)
class _State:
    """Whether the log has it that something is so, when that was written, and when it will be."""

    said: bool = False
    at: float = -inf
    later: IDelayedCall | None = None


@define(eq=False)
class Logbook:
    """Decides when a line is written. What lines are about are names from a closed set."""

    _clock: IReactorTime
    _states: dict[Hashable, _State] = field(init=False, factory=dict)
    _closed: bool = field(init=False, default=False)

    def begins(self, what: Hashable, write: Write) -> None:
        """Something is so: have that written, unless the log has it.

        It may have been so a moment ago, and not so meanwhile: then the line comes `LINE_EVERY`
        seconds after the last one, if it is so still.
        """
        state = self._states.setdefault(what, _State())
        if state.said or state.later is not None or self._closed:
            return
        wait = state.at + LINE_EVERY - self._clock.seconds()
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

    def close(self) -> None:
        """End: there is no line that is still to come."""
        self._closed = True
        for state in self._states.values():
            self._put_off(state)

    def _say(self, state: _State, write: Write) -> None:
        state.later, state.said, state.at = None, True, self._clock.seconds()
        write()

    def _put_off(self, state: _State) -> None:
        if state.later is not None:
            state.later.cancel()
            state.later = None
