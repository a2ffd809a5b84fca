"""Judges what clients saw against what was published. Pure: no IO, no time.

A view is what one client sees of one channel. It begins at a position, and is unbroken until the
client is told that something may be missing (``recovered`` is not true). Within an unbroken stretch
each offset has to come once, in order, and what has one place has the same data for everybody. It
may only be broken where the channel does not keep what the client missed. So two things remain for
the end: each unbroken stretch reaches the top of the channel, and the top is as many as were
acknowledged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field, frozen

__all__ = ["Final", "Judge", "Position", "View"]

EXAMPLES = 20
"""Most violations that are kept in words; all are counted."""


class Position(NamedTuple):
    """Where a channel stands."""

    offset: int
    epoch: str


class _Place(NamedTuple):
    channel: str
    epoch: str
    offset: int


@frozen
class Final:
    """What the server says of a channel at the end: its position, and what it keeps."""

    position: Position
    kept: Mapping[int, str]


@define(eq=False)
class View:
    """One client's view of one channel. Events come in the order in which the client sees them."""

    client: str
    channel: str
    judge: Judge = field(repr=False)
    position: Position | None = None
    missing: set[int] = field(factory=set)
    was_told: bool = False

    def began(self, position: Position) -> None:
        """The first subscription: from here on nothing may be missing."""
        if self.position is not None:
            self._violates("not recovered", f"began again after {self.position}")
        self.position = position

    def told(self, position: Position) -> None:
        """Told that something may be missing: a new stretch begins."""
        self._forget_gaps()
        self.was_told = True
        self.judge.told(self.position, position, self)
        self.position = position

    def recovered(self, position: Position, publications: Iterable[tuple[int, str]]) -> None:
        """Told that these are all that was missed, and that the channel is there now."""
        before = self.position
        if before is None:
            self._violates("not recovered", "recovered what never began")
            before = position
        self.judge.counts["recoveries"] += 1
        # Before the first publication nothing depends on it.
        if before.offset and position.epoch != before.epoch:
            self._violates("another epoch", f"recovered from {before} to {position}")
        self.position = Position(before.offset, position.epoch)
        for offset, text in publications:
            self.judge.counts["recovered publications"] += 1
            self.saw(offset, text)
        if self.position.offset != position.offset:
            self._violates("lost", f"recovered up to {self.position}, not {position}")
            self.position = position

    def saw(self, offset: int, text: str) -> None:
        """A publication."""
        self.judge.counts["seen"] += 1
        if self.position is None:
            self._violates("early", f"{text} came before the subscription")
            return
        last = self.position.offset
        if offset > last:
            self.missing.update(range(last + 1, offset))
            self.position = self.position._replace(offset=offset)
        elif offset in self.missing:
            self.missing.discard(offset)
            self._violates("out of order", f"{text} at {offset} came after {last}")
        else:
            self._violates("duplicate", f"{text} at {offset} came again, after {last}")
        self.judge.found(self.channel, Position(offset, self.position.epoch), text, seen=True)

    def ended(self, final: Final) -> None:
        """Nothing more comes: what is missing now is lost."""
        self._forget_gaps()
        if self.position != final.position:
            self._violates("lost", f"ends at {self.position}, the channel at {final.position}")

    def _forget_gaps(self) -> None:
        if self.missing:
            gaps = sorted(self.missing)[:5]
            self._violates("lost", f"{len(self.missing)} never came, {gaps} among them")
            self.missing.clear()

    def _violates(self, kind: str, what: str) -> None:
        self.judge.violates(kind, f"{self.client} in {self.channel}: {what}")


class Judge:
    """Is told all that is sent, acknowledged and seen.

    ``keeps`` is whether the server is to lose nothing that it acknowledged. Else it may lose what
    was published before a crash, and has to begin a new epoch then. A client that missed up to
    ``most`` publications has to be given them.
    """

    def __init__(self, *, keeps: bool, most: int) -> None:
        self.keeps = keeps
        self.most = most
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.examples: list[str] = []
        self.views: list[View] = []
        self._sent: dict[str, str] = {}
        self._acknowledged: dict[str, Position] = {}
        self._texts: dict[_Place, str] = {}
        self._places: dict[str, list[_Place]] = defaultdict(list)
        self._seen: set[_Place] = set()

    # --- What happens ------------------------------------------------------------------------

    def view(self, client: str, channel: str) -> View:
        """Give the view of a client that has seen nothing yet."""
        view = View(client, channel, self)
        self.views.append(view)
        return view

    def sent(self, channel: str, text: str) -> None:
        """A publisher is about to send a text for the first time; no two are the same."""
        self.counts["sent"] += 1
        self._sent[text] = channel

    def acknowledged(self, channel: str, text: str, position: Position) -> None:
        """A publisher was answered."""
        self.counts["acknowledged"] += 1
        self._acknowledged[text] = position
        self.found(channel, position, text, seen=False)

    def told(self, before: Position | None, after: Position, view: View) -> None:
        """A client was told that something may be missing."""
        self.counts["told"] += 1
        if before is None:
            return
        what = f"{view.client} in {view.channel}: {before} became {after}"
        if before.epoch != after.epoch:
            self.counts["told of another epoch"] += 1
            if self.keeps:
                self.violates("another epoch", what)
        elif 0 <= after.offset - before.offset <= self.most:
            self.violates("told in vain", what)

    def found(self, channel: str, position: Position, text: str, *, seen: bool) -> None:
        """A text is at a place."""
        place = _Place(channel, position.epoch, position.offset)
        if seen:
            self._seen.add(place)
        known = self._texts.setdefault(place, text)
        if known != text:
            self.violates("different data", f"{known} and {text} are both at {place}")
        elif place not in self._places[text]:
            self._add_place(place, text)

    def _add_place(self, place: _Place, text: str) -> None:
        if self._sent.get(text) != place.channel:
            self.violates("phantom", f"{text} at {place} was never sent")
        others = self._places[text]
        # What a crash took back may be published once more, in the next epoch.
        if any(self.keeps or other.epoch == place.epoch for other in others):
            self.violates("published twice", f"{text} is at {place} and at {others}")
        others.append(place)

    def violates(self, kind: str, what: str) -> None:
        """Something is not as it must be."""
        self.violations[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {what}")

    # --- The end -----------------------------------------------------------------------------

    def end(self, finals: Mapping[str, Final]) -> None:
        """Judge the whole, when publishers and clients are done."""
        acknowledged: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for text, position in self._acknowledged.items():
            channel = self._sent.get(text, "")
            if channel in finals and position.epoch == finals[channel].position.epoch:
                acknowledged[channel][position.offset] = text
            elif self.keeps:
                self.violates("another epoch", f"{text} was acknowledged at {position}")
        for channel, final in finals.items():
            self._end_of(channel, final, acknowledged[channel])
        for view in self.views:
            view.ended(finals[view.channel])
        self.counts["views"] = len(self.views)
        self.counts["views never told"] = sum(not view.was_told for view in self.views)
        self.counts["not acknowledged"] = len(self._sent.keys() - self._acknowledged.keys())
        self.counts["acknowledged and seen by nobody"] = sum(
            self._seen.isdisjoint(self._places[text]) for text in self._acknowledged
        )

    def _end_of(self, channel: str, final: Final, acknowledged: Mapping[int, str]) -> None:
        top, epoch = final.position
        for offset, text in acknowledged.items():
            if offset > top:
                self.violates("lost", f"{text} was acknowledged at {offset}, {channel} has {top}")
        for offset, text in final.kept.items():
            known = self._texts.get(_Place(channel, epoch, offset), text)
            if known != text:
                self.violates("different data", f"{channel} keeps {text} at {offset}, not {known}")
            if self._sent.get(text) != channel:
                self.violates("phantom", f"{channel} keeps {text}, which was never sent")
        if not self.keeps:
            return
        for offset in set(range(1, top + 1)) - acknowledged.keys():
            text = self._texts.get(_Place(channel, epoch, offset), "something")
            if text not in self._acknowledged and self._sent.get(text) == channel:
                self.counts["never acknowledged, but published"] += 1
            else:
                self.violates("phantom", f"{text} at {offset} of {channel} is nobody's")

    def report(self) -> dict[str, Any]:
        """Give the counts and the violations."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "violations": dict(sorted(self.violations.items())),
            "examples": self.examples,
        }
