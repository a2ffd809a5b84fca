"""Several things that one request asks for: begun together, told in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed

from twisted_push.errors import EngineUnavailable, OutcomeUnknown, Refused
from twisted_push.fairness import Pace
from twisted_push.jsontext import JsonError

__all__ = ["TOGETHER", "Begun", "Result", "as_it_is", "in_groups", "unavailable"]

TOGETHER = 50
"""Most publishes that are begun before the first is answered, so that the engine has them at once.

Few enough that those of one request do not fill what it lets wait.
"""

Result = Mapping[str, object]

_T = TypeVar("_T")
Begun = tuple[Deferred[Any], Callable[[Any], Result]]
"""What is under way, and how what comes of it is told."""

_OWN_FAULTS = (JsonError, Refused, EngineUnavailable)
"""What may go wrong with one and leaves the others as they are."""


def as_it_is(result: Result) -> Result:
    """Tell what can be told without a change."""
    return result


def unavailable(error: EngineUnavailable) -> Result:
    """Tell that the engine could not do it, and whether it may have done it all the same."""
    executed = "unknown" if isinstance(error, OutcomeUnknown) else "no"
    fault = {"code": 100, "message": "the engine is not available"}
    return {"error": fault, "executed": executed}


async def in_groups(
    begin: Callable[[_T], Begun],
    items: Iterable[_T],
    most: int,
    pace: Pace,
    together: Callable[[], AbstractContextManager[None]],
) -> list[Result]:
    """Do something for all items, in their order, ``most`` at a time; give what is to be told.

    What ``begin`` does goes out ``together``. One that fails, fails alone.
    """
    results: list[Result] = []
    left = iter(items)
    while True:
        with together():
            group = [_begun(begin, item) for item in islice(left, most)]
        if not group:
            return results
        for doing, tell in group:
            try:
                results.append(tell(await doing))
            except _OWN_FAULTS as error:
                results.append(_fault(error))
        await pace.keep()


def _begun(begin: Callable[[_T], Begun], item: _T) -> Begun:
    try:
        return begin(item)
    except _OWN_FAULTS as error:
        return succeed(_fault(error)), as_it_is


def _fault(error: Exception) -> Result:
    if isinstance(error, EngineUnavailable):
        return unavailable(error)
    if not isinstance(error, Refused):
        error = Refused(107, f"bad request: {error}")
    return {"error": {"code": error.code, "message": error.text}}
