"""Facts that wait to be written: the last word on each."""

from __future__ import annotations

from itertools import islice

from twisted_push.engines.facts import Kind
from twisted_push.engines.journal.records import Batch, FactKey, FactRow, fact_key, fact_row
from twisted_push.errors import EngineUnavailable, OutcomeUnknown

__all__ = ["FactNotes"]

HOUSEKEEPING = 1_000
"""Most facts over their time that one batch takes out: somebody may wait for it."""


class FactNotes:
    """Takes down facts (`facts.Notes`) and gives them to the next batch (`journal.Contributor`)."""

    def __init__(self) -> None:
        self._noted: dict[FactKey, FactRow | None] = {}
        self._over: dict[FactKey, None] = {}
        self._taken: dict[FactKey, FactRow | None] = {}
        self._taken_over: list[FactKey] = []

    def put(self, kind: Kind, key: object, value: object, until: float) -> None:
        row = fact_row(kind, key, value, until)
        self._over.pop(row[:2], None)
        self._noted[row[:2]] = row

    def drop(self, kind: Kind, key: object, *, over: bool = False) -> None:
        found = fact_key(kind, key)
        if over:
            self._noted.pop(found, None)
            self._over[found] = None
        else:
            self._noted[found] = None

    def plan(self, batch: Batch, kind: Kind, key: object, value: object, until: float) -> None:
        """Have a batch write a fact that holds only if the batch does."""
        row = fact_row(kind, key, value, until)
        self._over.pop(row[:2], None)
        self._noted.pop(row[:2], None)
        batch.facts.append(row)

    # --- The batch ---------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        return bool(self._noted or self._over)

    def take(self, batch: Batch) -> None:
        self._taken, self._noted = self._noted, {}
        for key, row in self._taken.items():
            if row is None:
                batch.dropped.append(key)
            else:
                batch.facts.append(row)
        self._taken_over = list(islice(self._over, HOUSEKEEPING))
        for key in self._taken_over:
            del self._over[key]
        batch.dropped += self._taken_over

    def done(self) -> None:
        self._taken = {}
        self._taken_over = []

    def failed(self, error: EngineUnavailable) -> None:
        self._noted = {**self._taken, **self._noted}
        for key in self._noted.keys() & self._over.keys():
            del self._noted[key]
        for key in self._taken_over:
            if key not in self._noted:
                self._over[key] = None
        self.done()

    def late(self, error: OutcomeUnknown) -> None:
        pass
