"""What the log says of a CMS: a line for each change, not for each question or client.

A CMS that wavers is no reason for a flood either: a line of one kind comes at most every
`LINE_EVERY` seconds, and then tells how it is.
"""

from __future__ import annotations

from attrs import define, field
from twisted.logger import Logger

from twisted_push.cms.requests import shown

__all__ = ["LINE_EVERY", "Lines"]

LINE_EVERY = 10.0
"""Least seconds between two lines that say the same of the same."""


@define
class _Said:
    """Whether the log has it that something is so, and since when."""

    so: bool = False
    at: float = float("-inf")


@define
class Lines:
    """Writes for the CMS at ``where``. ``now`` is in seconds; with ``quiet`` nothing is written."""

    log: Logger
    where: str
    quiet: bool = False
    _said: dict[tuple[str, str], _Said] = field(init=False, factory=dict)

    def failed(self, url: str, outcome: str, why: str, now: float) -> None:
        """A question at an address had no usable answer; each kind of failure has its line."""
        if self._turns((url, outcome), True, now):
            line = "no usable answer from the CMS at {url}: {why}"
            self.log.warn(line, url=shown(url), why=why, outcome=outcome)

    def answered(self, url: str) -> None:
        """A question at an address was answered."""
        over = [said for key, said in self._said.items() if key[0] == url and said.so]
        for said in over:
            said.so = False
        if over:
            self.log.info("the CMS at {url} answers again", url=shown(url))

    def circuit(self, url: str, is_open: bool, seconds: float, now: float) -> None:
        """The circuit opened, for so many seconds at first, or closed."""
        if not self._turns((url, "circuit"), is_open, now):
            return
        if is_open:
            self.log.warn(
                "the CMS at {url} is left alone for {seconds} s, then tried with one question",
                url=url,
                seconds=f"{round(seconds, 1):g}",
            )
        else:
            self.log.info("the CMS at {url} is asked as usual again", url=url)

    def full(self, url: str, is_full: bool, waiting: int, now: float) -> None:
        """So many wait that nobody else may, or there is room again."""
        if not self._turns((url, "full"), is_full, now):
            return
        if is_full:
            self.log.warn(
                "{waiting} questions wait for the CMS at {url}: further clients are told to come"
                " back later",
                url=url,
                waiting=waiting,
            )
        else:
            self.log.info("there is room again for questions to the CMS at {url}", url=url)

    def slow(self, url: str, is_slow: bool, limit: int, now: float) -> None:
        """Answers take far longer than they did, or no longer do."""
        if not self._turns((url, "slow"), is_slow, now):
            return
        if is_slow:
            self.log.warn(
                "the CMS at {url} became slow: it is asked {limit} questions at once",
                url=url,
                limit=limit,
            )
        else:
            self.log.info("the CMS at {url} is no longer slow", url=url)

    def _turns(self, key: tuple[str, str], so: bool, now: float) -> bool:
        """Tell whether a line is due, since something is or is no longer so."""
        said = self._said.get(key)
        if said is None:
            if not so or self.quiet:
                return False
            said = self._said[key] = _Said()
        if said.so == so or (so and now < said.at + LINE_EVERY):
            return False
        said.so = so
        if so:
            said.at = now
        return True
