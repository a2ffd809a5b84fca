"""What the CMS does to clients that are on their way: what it takes then stays taken.

A client arrives from its connect until it is told of it, or from a refresh until its new token is
accepted: somebody is being asked who it is. Its grant may be renewed while it is here. And it
wishes for a channel while the CMS or the engine is being asked. In none of these cases can it be
found where clients are looked up; so a kick, a logout or a removal that is answered meanwhile is
noted here, and looked at in the turn of the answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from attrs import define, field, frozen

from twisted_push.errors import Disconnect, Overtaken
from twisted_push.node.targets import Client, Named, Target, keys_of
from twisted_push.session import Session

__all__ = ["Arrival", "Arrivals", "Wish"]


@frozen
class _Stranger:
    """A client of which it is not known who it is, from the note with the number ``began`` on."""

    session: Session
    began: int


@define(eq=False)
class _Question:
    """Who is on the way by one token: they may share an answer, be it as old as the first of them.

    It is as old as the note with the number ``began``.
    """

    began: int
    arrivals: int = 0


@define(eq=False)
class Arrival:
    """One client on its way. ``taken`` are the channels that the CMS took from it meanwhile."""

    session: Session
    question: _Question
    taken: set[str] = field(factory=set)


@define(eq=False)
class Wish:
    """A channel that a client is about to get; ``taken`` once the CMS took it from it."""

    channel: str
    taken: bool = False


@frozen
class _Note:
    """Who is to be sent away (a `Disconnect`), or from whom a channel (its name) is taken.

    It beats what the CMS said up to ``at`` (unix seconds).
    """

    number: int
    target: Target
    what: Disconnect | str
    at: float


class Arrivals:
    """The clients of one site that are on their way, and the channels that are.

    Strangers are those of which it is not known who they are, whether or not anybody is being
    asked. A note is kept while one of them is here, or a question is open, that was so when it was
    made.
    """

    def __init__(self) -> None:
        self._strangers: dict[str, _Stranger] = {}  # The oldest first.
        self._arrivals: dict[Session, Arrival] = {}
        self._questions: dict[Hashable, _Question] = {}  # The oldest first.
        self._wishes: dict[Session, list[Wish]] = {}
        self._notes: deque[_Note] = deque()
        self._by_key: dict[Hashable, deque[_Note]] = {}
        self._number = 0

    # --- Clients -----------------------------------------------------------------------------

    def came(self, session: Session) -> None:
        """Take notice of a stranger."""
        self._strangers[session.client] = _Stranger(session, self._number)

    def left(self, session: Session) -> None:
        """Take notice that a client is over, or no stranger any more."""
        if self._strangers.pop(session.client, None) is not None:
            self._forget()

    def strangers_of(self, target: Target) -> list[Session]:
        """Give the strangers that are meant by their id or their session's secret."""
        if target.client:
            stranger = self._strangers.get(target.client)
            found = [] if stranger is None else [stranger]
        else:
            found = list(self._strangers.values()) if target.session else []
        return [each.session for each in found if target.means(each.session)]

    @contextmanager
    def arriving(self, session: Session, token: str) -> Iterator[Arrival]:
        """Have a client be on its way by a token, "" for none; it is so once at a time."""
        key: Hashable = token or session
        question = self._questions.setdefault(key, _Question(self._number))
        question.arrivals += 1
        self._arrivals[session] = arrival = Arrival(session, question)
        try:
            yield arrival
        finally:
            del self._arrivals[session]
            question.arrivals -= 1
            if not question.arrivals:
                del self._questions[key]
                self._forget()

    @contextmanager
    def renewing(self, key: Hashable) -> Iterator[Callable[[Session, float], set[str]]]:
        """Have a grant be renewed.

        What it gives tells, in the turn of the answer, which channels the CMS took from a client
        meanwhile, up to the time of what it says.
        """
        question = self._questions["renewal", key] = _Question(self._number)
        try:
            yield lambda session, issued_at: self._taken(session, question.began, issued_at)
        finally:
            del self._questions["renewal", key]
            self._forget()

    def _taken(self, session: Session, began: int, issued_at: float) -> set[str]:
        notes = self._notes_on(session, began, issued_at)
        return {note.what for note in notes if isinstance(note.what, str)}

    def _notes_on(self, client: Client, began: int, issued_at: float) -> Iterator[_Note]:
        """Give what was noted of a client since, and beats what the CMS said at a time."""
        for key in keys_of(client):
            for note in self._by_key.get(key, ()):
                if note.number > began and note.at >= issued_at and note.target.means(client):
                    yield note

    def _began(self, arrival: Arrival) -> int:
        """Give the number of the note up to which nothing can be meant for a client on its way."""
        stranger = self._strangers.get(arrival.session.client)
        began = arrival.question.began
        return began if stranger is None else min(began, stranger.began)

    def check_kick(self, arrival: Arrival, kick: Overtaken, token_digest: bytes | None) -> None:
        """Look who a kick meant that came while the CMS was being asked about a client.

        Raises Disconnect if it meant the client; else it was spared, or came later than the kick.
        """
        session = arrival.session
        client = Named(session.client, kick.user, session.secret, token_digest)
        for note in self._notes_on(client, self._began(arrival), kick.asked_at):
            if isinstance(note.what, Disconnect):
                raise note.what

    def admit(self, arrival: Arrival, issued_at: float) -> None:
        """Take notice that it is known who a client is, by what the CMS said at ``issued_at``.

        Raises Disconnect if it was sent away meanwhile.
        """
        session = arrival.session
        for note in self._notes_on(session, self._began(arrival), issued_at):
            if isinstance(note.what, Disconnect):
                raise note.what
            arrival.taken.add(note.what)
        self.left(session)

    def note(self, target: Target, what: Disconnect | str, at: float) -> None:
        """Note what is done to clients of which it is not known yet who they are.

        They are closed with a `Disconnect`, or a channel (its name) is taken from them, unless the
        CMS let them in after ``at`` (unix seconds).
        """
        if self._questions or self._strangers:
            self._number += 1
            note = _Note(self._number, target, what, at)
            self._notes.append(note)
            self._by_key.setdefault(target.key, deque()).append(note)

    # --- Channels ----------------------------------------------------------------------------

    @contextmanager
    def wishing(self, session: Session, channel: str) -> Iterator[Wish]:
        """Have a client be about to get a channel."""
        wish = Wish(channel)
        self._wishes.setdefault(session, []).append(wish)
        try:
            yield wish
        finally:
            wishes = self._wishes[session]
            wishes.remove(wish)
            if not wishes:
                del self._wishes[session]

    def take(self, session: Session, channel: str) -> None:
        """Take a channel from a client that is known: it is not given what it is about to get."""
        arrival = self._arrivals.get(session)
        if arrival is not None:
            arrival.taken.add(channel)
        for wish in self._wishes.get(session, ()):
            wish.taken = wish.taken or wish.channel == channel

    def _forget(self) -> None:
        """Forget what is older than all strangers and all open questions."""
        began = self._number
        for stranger in self._strangers.values():
            began = stranger.began
            break
        for question in self._questions.values():
            began = min(began, question.began)
            break
        while self._notes and self._notes[0].number <= began:
            key = self._notes.popleft().target.key
            of_key = self._by_key[key]
            of_key.popleft()
            if not of_key:
                del self._by_key[key]
