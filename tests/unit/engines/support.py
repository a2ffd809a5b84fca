"""Engines whose journal is a directory that tests can copy, damage and look into."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.contract.bench import START, Bench, journal, new_directory, run, settle, start
from twisted_push.engines.journal.records import Batch
from twisted_push.engines.journal.store import Store
from twisted_push.engines.memory import MemoryEngine
from twisted_push.errors import OutcomeUnknown, Overloaded
from twisted_push.model import Publication, Published, PublishOptions

__all__ = ["Life", "failing_writes", "left_behind", "outcome"]


@contextmanager
def failing_writes(fault: str) -> Iterator[None]:
    """Have no batch be written, or none be known to be."""
    write = Store.write

    def fail(store: Store, batch: Batch) -> bool:
        if fault == "not done":
            raise Overloaded(fault)
        if fault == "unknown, done":
            write(store, batch)
        raise OutcomeUnknown(fault)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "write", fail)
        yield
        settle()


def left_behind(directory: str) -> str:
    """Give a directory as a process that is killed now leaves it behind."""
    settle()
    copy = new_directory()
    shutil.copytree(directory, copy, dirs_exist_ok=True)
    return copy


class Life(Bench):
    """An engine from its start to its end. ``crashed`` gives the one that comes after a crash."""

    directory: str

    @classmethod
    def begin(
        cls,
        directory: str | None = None,
        *,
        durability: str = "write",
        clock: Clock | None = None,
        max_size: int = 0,
    ) -> Life:
        """Start an engine on a directory. Raises EngineRefused."""
        directory = directory or new_directory()
        if clock is None:
            clock = Clock()
            clock.advance(START)
        kept = journal(directory, durability, max_size)
        bench = start(lambda clock: MemoryEngine(clock, kept), clock)
        life = cls(bench.clock, bench.engine, bench.events)
        life.directory, life.durability = directory, durability
        return life

    durability: str

    def stop(self) -> None:
        run(self.engine.stop())
        assert self.clock.getDelayedCalls() == []

    def again(self, durability: str | None = None) -> Life:
        """Stop, and start anew."""
        self.stop()
        return Life.begin(
            self.directory, durability=durability or self.durability, clock=self.clock
        )

    def crashed(self, durability: str | None = None) -> Life:
        """Start anew from what a killed process leaves behind: its files as they are."""
        left = self.killed()
        return Life.begin(left, durability=durability or self.durability, clock=self.clock)

    def killed(self) -> str:
        """End, and give a directory as a killed process leaves it behind."""
        copy = left_behind(self.directory)
        self.stop()
        return copy

    def begun(self, directory: str) -> Life:
        """Start anew on another directory."""
        return Life.begin(directory, durability=self.durability, clock=self.clock)

    @property
    def file(self) -> Path:
        return Path(self.directory) / "journal.sqlite"

    def open_file(self) -> sqlite3.Connection:
        """Look into the file as another process would."""
        return sqlite3.connect(self.file, isolation_level=None)

    def count(self, table: str) -> int:
        """Give the number of a table's rows in the file."""
        settle()
        database = self.open_file()
        [number] = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        database.close()
        return int(number)

    def publishing(
        self, channel: str, data: bytes = b"1", size: int = 10, ttl: float = 600.0
    ) -> Deferred[Published]:
        """Publish, and do not wait."""
        return self.engine.publish(Publication(channel, data), PublishOptions(size, ttl))

    def kept(self, channel: str) -> list[tuple[int, bytes]]:
        """Give the history of a channel: offsets and data."""
        found = self.history(channel).publications
        return [(p.position.offset if p.position else 0, p.data) for p in found]


def outcome(deferred: Deferred[Any]) -> list[object]:
    """Give a list that will have the outcome."""
    found: list[object] = []
    deferred.addBoth(found.append)
    return found
