"""What stands between everybody who has a question and the CMS.

At most so many questions at once, of all kinds together; of each kind (`Entrance`) so many as do
not slow it down (`Limiter`), the others wait (`Turns`). Where the CMS fails, or says that it wants
to be left alone, it is left alone with questions of that kind (`Breaker`). Meanwhile those who will
not wait so long, and those for whom there is no room, are told after how many seconds to come back:
spread, so that they do not come together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_push.cms.breaker import Circuit
from twisted_push.cms.entrance import Entrance, Turn
from twisted_push.cms.lines import Lines
from twisted_push.cms.requests import Question
from twisted_push.cms.turns import Places
from twisted_push.errors import CmsUnavailable

__all__ = ["PATIENCE", "Shield"]

PATIENCE = 3.0
"""Seconds for which a client may be kept waiting for a CMS that is left alone.

The client libraries give up a command after 5 seconds.
"""


class Shield:
    """Guards one CMS. ``most`` is how many questions it may be asked at once, at the very most.

    ``max_waiting`` is how many of a kind may wait: those that clients put as often as they like
    leave room for those who want to be let in. Kinds are words of ours: there are a few. Each
    `Turn` is to be given back, by one of `answered`, `failed` and `abandoned`.
    """

    def __init__(
        self,
        most: int,
        max_waiting: int,
        clock: IReactorTime,
        lines: Lines,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._places = Places(most)
        self._max_waiting = max_waiting
        self._clock = clock
        self._lines = lines
        self._jitter = jitter
        self._entrances: dict[str, Entrance] = {}

    def __iter__(self) -> Iterator[tuple[str, Entrance]]:
        """Give each kind that was asked about, with its entrance."""
        return iter(tuple(self._entrances.items()))

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return sum(entrance.waiting for entrance in self._entrances.values())

    def circuit(self, kind: str) -> Circuit:
        """Whether questions of a kind go through."""
        entrance = self._entrances.get(kind)
        return Circuit.CLOSED if entrance is None else entrance.circuit

    def enter(self, question: Question, patience: float) -> Deferred[Turn]:
        """Give a Deferred that fires when the question may be put.

        It fails with `CmsUnavailable` if there is no room, or if the CMS is left alone for as long
        as ``patience`` (seconds) or longer. Whoever cancels it is forgotten.
        """
        entrance = self._entrances.get(question.kind)
        if entrance is None:
            entrance = self._entrances[question.kind] = Entrance(
                question,
                places=self._places,
                max_waiting=self._max_waiting,
                clock=self._clock,
                lines=self._lines,
                jitter=self._jitter,
            )
        return entrance.enter(question, patience)

    def answered(self, turn: Turn) -> None:
        """Give a turn back: the CMS gave a usable answer, which may be a refusal."""
        self._of(turn).answered(turn)

    def failed(
        self, turn: Turn, *, slow: bool = False, alive: bool = False, pause: float = 0.0
    ) -> float | None:
        """Give a turn back: there was no usable answer.

        ``slow``: because the CMS has too much to do; ``alive``: it answered something. ``pause``
        are the seconds for which it wants to be left alone. Give the seconds after which whoever
        asked is to come back; None if nothing is known.
        """
        return self._of(turn).failed(turn, slow=slow, alive=alive, pause=pause)

    def abandoned(self, turn: Turn) -> None:
        """Give a turn back: nothing can be said of the CMS."""
        self._of(turn).abandoned(turn)

    def close(self, error: CmsUnavailable) -> None:
        """Send everybody home who waits."""
        for entrance in self._entrances.values():
            entrance.close(error)

    def _of(self, turn: Turn) -> Entrance:
        return self._entrances[turn.question.kind]
