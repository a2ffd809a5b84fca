"""What may be delivered after the CMS took a right away, and what must be.

Time is counted in things that happened (`Timeline`). A cut is a kick, a logout or a taken channel:
from ``begun``, when the CMS asked, to ``answered``. A right that is older than the beginning of an
answered cut is void. How old a right is:

- of a page that the CMS let in: as old as the question that it answered, whoever asked that first,
  and however long the answer was on its way or kept; or as old as the one by which it was renewed;
- of a page with a signed token: for a kick as old as the page's connect, for the rest as old as
  the token, which is older than everything;
- of a channel that a page asks for by itself, or brings a content token for: as old as its asking,
  when that was taken up;
- of a channel that the CMS gives: as old as the answer to that request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf

from attrs import define, field

from tests.revocation.site import NativePage, Page, Told

__all__ = ["Cut", "Gift", "Judge", "Violation"]


class Violation(AssertionError):
    """Something was delivered that must not be, or was not that must be."""


@define(eq=False)
class Cut:
    """What the CMS took: from the pages that ``means`` tells, a ``channel`` or all (None).

    ``entry``: it counts when a page came, not how old its token is. ``final``: no right is new
    enough. ``of_token``: it takes what the token gives, and not what was given to its user.
    """

    name: str
    means: Callable[[Page], bool]
    begun: int
    channel: str | None = None
    entry: bool = False
    final: bool = False
    of_token: bool = False
    answered: int | None = None


@define(eq=False)
class Gift:
    """A channel that the CMS gave, at the latest when it was answered."""

    means: Callable[[Page], bool]
    channel: str
    at: float = inf


@define(eq=False)
class _Dossier:
    """What is known of one page."""

    entry: float = 0
    issued: int = -1
    connected_at: int | None = None
    granted: set[str] = field(factory=set)
    asked: dict[str, dict[float, float]] = field(factory=dict)

    def renewed(self, page: Page) -> None:
        """Take notice that the CMS was asked again, if it was, and what it said."""
        channels = page.session.grant.channels if page.session.grant is not None else ()
        for name in channels:
            if name.startswith("q:"):
                self.issued = max(self.issued, int(name[2:]))
                self.granted |= set(channels)


class Judge:
    """Looks at everything that any page is sent."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._gifts: list[Gift] = []
        self._pages: dict[Page, _Dossier] = {}

    # --- What happens ------------------------------------------------------------------------

    def came(self, page: Page, at: float) -> None:
        """Take notice that a page sends its connect."""
        self._pages[page] = _Dossier(entry=at)

    def connected_at(self, page: Page) -> int | None:
        """Give when a page was told that it is connected."""
        return self._pages[page].connected_at

    def asks(self, page: Page, channel: str, at: float, number: int = 0) -> None:
        """Take notice that a page asks for a channel, by its command of this number."""
        self._pages[page].asked.setdefault(channel, {})[number or -at] = at

    def gives(self, means: Callable[[Page], bool], channel: str) -> Gift:
        """Take notice that the CMS gives a channel."""
        self._gifts.append(gift := Gift(means, channel))
        return gift

    def sent(self, page: Page, told: Told) -> None:
        """Judge what a page was sent."""
        dossier = self._pages.get(page)
        if dossier is None:
            return
        if told.kind == "connect":
            self._connected(dossier, told)
        elif told.kind == "refresh":
            page.token = told.what["token"]
            page.tokens.add(page.token)
            page.refreshing -= 1
        elif told.kind == "error":
            method, number = told.what
            page.refreshing -= method == "refresh"
            for asked in dossier.asked.values():
                asked.pop(number, None)
        if dossier.connected_at is None:
            return
        dossier.renewed(page)
        self.counts["frames"] += 1
        self.counts["publications"] += len(told.numbers)
        for cut in self.cuts:
            if cut.answered is not None and cut.answered < told.at and cut.means(page):
                self._check(cut, page, dossier, told)

    def _connected(self, dossier: _Dossier, told: Told) -> None:
        self.counts["let in"] += 1
        dossier.connected_at = told.at
        dossier.granted = {*told.what, "broadcast"}
        question = next((name for name in told.what if name.startswith("q:")), None)
        if question is not None:
            dossier.entry = dossier.issued = int(question[2:])

    # --- Judging -----------------------------------------------------------------------------

    def _check(self, cut: Cut, page: Page, dossier: _Dossier, told: Told) -> None:
        right: float
        if cut.channel is None:
            right = dossier.entry if cut.entry else dossier.issued
        elif cut.channel in told.channels and told.kind in ("channel", "connect"):
            right = self._right(page, dossier, cut)
        else:
            return
        if cut.final or right <= cut.begun:
            self.violations.append(
                f"at {told.at} a page of {page.token!r} was sent {told.kind} of {told.channels}"
                f" ({told.what!r}), though {cut.name} begun at {cut.begun} was answered at"
                f" {cut.answered}; its right is of {right}"
            )

    def _right(self, page: Page, dossier: _Dossier, cut: Cut) -> float:
        """Give how old the newest right of a page to the channel of a cut is."""
        channel = cut.channel or ""
        gifts = [gift for gift in self._gifts if gift.channel == channel and gift.means(page)]
        rights: list[float] = [inf if cut.of_token else gift.at for gift in gifts]
        rights += dossier.asked.get(channel, {}).values()
        if channel in dossier.granted:
            rights.append(dossier.issued)
        return max(rights, default=-1)

    # --- What must be delivered --------------------------------------------------------------

    def check_view(self, page: Page, final: dict[str, int], before: int) -> None:
        """See that a page got the last publication of each channel that it believes to have.

        Those were made after ``before``.
        """
        if not page.open or page.connect_reply is None:
            return
        view: set[str] = {"broadcast"}
        got: set[int] = set()
        for told in page.told:
            got.update(told.numbers)
            if not isinstance(page, NativePage):
                continue
            if told.kind == "connect" and told.at < before:
                view |= told.what
            elif told.kind == "ended":
                view -= told.channels
            elif told.what == "subscribe" and told.at < before:
                view |= told.channels
        for channel in view & set(final):
            self.counts["views"] += 1
            if final[channel] not in got:
                self.violations.append(
                    f"a page of {page.token!r} believes to have {channel}, and was not sent its"
                    " last publication"
                )
