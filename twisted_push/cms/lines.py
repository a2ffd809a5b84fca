"""What the log says of a CMS: a line for each change, not for each question or client.

A CMS that wavers is no reason for a flood either: see `Logbook`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from attrs import define, field
from twisted.logger import Logger

from twisted_push.cms.requests import shown
from twisted_push.logbook import Logbook

__all__ = ["Lines"]


@define
class Lines:
    """Writes of one CMS; with ``quiet`` nothing is written."""

    _log: Logger
    _book: Logbook
    _quiet: bool = False
    _failing: dict[str, set[str]] = field(init=False, factory=dict)

    def failed(self, url: str, outcome: str, why: str) -> None:
        """A question at an address had no usable answer; each kind of failure has its line."""
        self._failing.setdefault(url, set()).add(outcome)

        def write() -> None:
            line = "no usable answer from the CMS at {url}: {why}"
            self._log.warn(line, url=shown(url), why=why, outcome=outcome)

        self._begins((url, outcome), write)

    def answered(self, url: str) -> None:
        """A question at an address was answered."""
        outcomes = self._failing.pop(url, ())
        self._book.ends(
            [(url, outcome) for outcome in outcomes],
            lambda: self._log.info("the CMS at {url} answers again", url=shown(url)),
        )

    def left_alone(self, url: str, left_alone_for: Callable[[], float]) -> None:
        """The circuit opened, for so many seconds as are left when that is written."""

        def write() -> None:
            self._log.warn(
                "the CMS at {url} is left alone for {seconds} s, then tried with one question",
                url=url,
                seconds=f"{round(left_alone_for(), 1):g}",
            )

        self._begins((url, "circuit"), write)

    def asked_again(self, url: str) -> None:
        """The circuit closed."""
        self._book.ends(
            ((url, "circuit"),),
            lambda: self._log.info("the CMS at {url} is asked as usual again", url=url),
        )

    def full(self, url: str, waiting: int) -> None:
        """So many wait that nobody else may."""

        def write() -> None:
            self._log.warn(
                "{waiting} questions wait for the CMS at {url}: further clients are told to come"
                " back later",
                waiting=waiting,
                url=url,
            )

        self._begins((url, "full"), write)

    def room(self, url: str) -> None:
        """There is room again for those who wait."""
        self._book.ends(
            ((url, "full"),),
            lambda: self._log.info(
                "there is room again for questions to the CMS at {url}", url=url
            ),
        )

    def slow(self, url: str, limit: int) -> None:
        """Answers take far longer than they did."""

        def write() -> None:
            self._log.warn(
                "the CMS at {url} became slow: it is asked {limit} questions at once",
                url=url,
                limit=limit,
            )

        self._begins((url, "slow"), write)

    def fast(self, url: str) -> None:
        """Answers no longer take so long."""
        self._book.ends(
            ((url, "slow"),),
            lambda: self._log.info("the CMS at {url} is no longer slow", url=url),
        )

    def close(self) -> None:
        """End: nothing more is written later."""
        self._book.close()

    def _begins(self, what: Hashable, write: Callable[[], None]) -> None:
        if not self._quiet:
            self._book.begins(what, write)
