"""The journal's SQLite file. Everything here blocks, and runs in the journal's thread.

A publication's key is the number of its stream (23 bits) and its offset (40 bits), so that those of
one stream lie together in their order; its end is in milliseconds. Everything carries check sums: a
damaged file is refused.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby, repeat
from operator import itemgetter, truediv
from typing import Any
from zlib import crc32

from attrs import evolve

from twisted_push.engines.journal.files import AS_IS, FILE, Directory
from twisted_push.engines.journal.records import (
    Batch,
    DamagedError,
    FactRow,
    Loaded,
    LoadedStream,
    read_fact,
    read_stream,
    stream_body,
)
from twisted_push.engines.journal.runs import (
    RUN,
    Mark,
    Note,
    begin,
    read_note,
    write_note,
)
from twisted_push.engines.journal.wal import Left, look
from twisted_push.errors import EngineUnavailable, OutcomeUnknown, Overloaded
from twisted_push.history import Kept, new_epoch

__all__ = ["Store"]

APPLICATION = 0x74705F6A
"""What tells the file from other SQLite files ("tp_j")."""

SCHEMA = 1
"""The form of the tables. A newer one is refused."""

OFFSET_BITS = 40
OFFSETS = (1 << OFFSET_BITS) - 1

LAST = 1e11
"""The latest end of a publication (unix seconds): some thousand years from now."""

PAGE = 4096
WAL_LIMIT = 16 * 1024 * 1024
"""Bytes that the file beside keeps after a burst."""

FREE_PAGES = 256
"""Free pages that are kept for what comes next, and most that are given back in one step."""

ROOM = 256 * 1024
"""Bytes that a disk that was full must have again: less would be full again at once."""

LOCKED = 1.0
"""Seconds to wait for another process that writes the file, such as a tool of the operator."""

_CREATE = f"""
PRAGMA page_size = {PAGE};
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
CREATE TABLE streams (number INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE publications (
    place INTEGER PRIMARY KEY, until INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE facts (
    kind INTEGER NOT NULL, key BLOB NOT NULL, until REAL NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
COMMIT;
"""


_DELETE_PLACES = "DELETE FROM publications WHERE place >= ? AND place < ?"
_PUT_STREAM = "INSERT OR REPLACE INTO streams VALUES (?, ?, ?)"
_PUT_PUBLICATION = "INSERT OR REPLACE INTO publications VALUES (?, ?, ?, ?)"
_PUT_ROOM = "INSERT OR REPLACE INTO facts VALUES (?, 'room', 0, zeroblob(?), 0)"
_DROP_ROOM = "DELETE FROM facts WHERE kind = ? AND key = 'room'"
_PUT_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)"


class Store:
    """One file. ``durability`` and ``max_size``: see `Journal`."""

    def __init__(self, directory: str, durability: str, max_size: int) -> None:
        self._directory = Directory(directory)
        self._run = begin(durability)
        self._note = Note()
        self._left = Left()
        self._max_pages = max_size // PAGE
        self._database: sqlite3.Connection | None = None

    @property
    def database(self) -> sqlite3.Connection:
        """The open file. Raises OutcomeUnknown if it is not."""
        if self._database is None:
            raise OutcomeUnknown("the file is not open")
        return self._database

    # --- Beginning and end -------------------------------------------------------------------

    def open(self) -> Loaded:
        """Give everything that is in the file. Raises EngineRefused."""
        self._directory.lock()
        try:
            self._directory.create(_CREATE)
            self._look()
            self._connect()
            return self._load()
        except Exception as error:
            self._abandon()
            raise self._refusal(error) from None

    def _look(self) -> None:
        """See what the last run left, before SQLite tidies up. Raises DamagedError."""
        runs, boot = self._directory.mark.runs, self._run.boot
        same_boot = any(boot and run.boot == boot for run in runs)
        self._left = look(self._directory.file, same_boot=same_boot)
        risk = not runs or any(run.risk(boot) for run in runs)
        if self._left.damage and not risk:
            raise DamagedError(self._left.damage)

    def _refusal(self, error: Exception) -> Exception:
        if isinstance(error, EngineUnavailable):
            return error
        if isinstance(error, OSError):
            return self._directory.refusal(error.strerror or type(error).__name__)
        if isinstance(error, sqlite3.Error):
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_IOERR and self._directory.is_full:
                return self._directory.refusal("the disk is full")
            if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return self._directory.refusal(str(error))
        elif not isinstance(error, DamagedError | ValueError | TypeError | OverflowError):
            return error
        # What else Python says of a value that is none would show it.
        why = error if isinstance(error, DamagedError | sqlite3.Error) else "it cannot be read"
        return self._directory.refusal(f"{FILE} is damaged ({why}); {AS_IS}")

    def _connect(self) -> None:
        self._database = database = sqlite3.connect(
            self._directory.file, LOCKED, isolation_level=None, check_same_thread=False
        )
        if _pragma(database, "application_id") != APPLICATION:
            raise self._directory.refusal(f"{FILE} is no journal of twisted_push; {AS_IS}")
        version = _pragma(database, "user_version")
        if version < SCHEMA:
            raise DamagedError(f"its form is {version}")
        if version > SCHEMA:
            raise self._directory.refusal(
                f"a newer version of twisted_push wrote it (its form is {version}, {SCHEMA} is the"
                " newest that this one knows); start that version"
            )
        # Text that is none would be told by an error, with what it is.
        database.text_factory = bytes
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        if self._max_pages:
            database.execute(f"PRAGMA max_page_count = {self._max_pages}")

    def close(self, *, clean: bool) -> None:
        """Leave the file; with ``clean`` it has all that was answered. Raises EngineUnavailable."""
        try:
            if clean:
                self._transact(write_note, self.database, evolve(self._note, clean=True))
        finally:
            self._abandon()

    def _abandon(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self._directory.unlock()

    # --- Reading -----------------------------------------------------------------------------

    def _load(self) -> Loaded:
        database = self.database
        [check] = database.execute("PRAGMA quick_check(1)").fetchone()
        if check != b"ok":
            raise DamagedError("its pages do not fit together")
        streams = list(_streams(database))
        facts = [read_fact(row) for row in _facts(database)]
        last = read_note(database)
        if last is None and (streams or facts):
            raise DamagedError("a fact is missing")
        # What SQLite passed over in the file beside is not to be met again.
        database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        loss = self._begin_run(last)
        if loss:  # Clients may have seen offsets that are not here, and will be given again.
            streams = [evolve(s, row=evolve(s.row, epoch=new_epoch())) for s in streams]
        database.execute("BEGIN IMMEDIATE")
        database.execute(_DROP_ROOM, (RUN,))
        if loss:
            rows = (stream_body(each.number, each.row) for each in streams)
            database.executemany(_PUT_STREAM, rows)
        write_note(database, self._note)
        database.execute("COMMIT")
        self._directory.mark = Mark((self._run,))
        if self._run.durability != "commit":
            database.execute("PRAGMA synchronous = NORMAL")
        return Loaded(self._note.life, streams, facts, loss)

    def _begin_run(self, last: Note | None) -> str:
        """Have the mark allow for the new run, too; give why something may be lost, or ""."""
        mark = self._directory.mark
        loss = mark.loss(last, self._run.boot)
        if not loss and last is not None and not last.clean and self._left.gone:
            loss = f"{FILE}-wal is missing"
        known = last if last is not None and not loss else Note()
        self._note = Note(self._run.id, known.life or new_epoch())
        # If all ends here, the file may have its old note. After a loss that must not do.
        self._directory.mark = Mark((*mark.of(known), self._run))
        return loss

    # --- Writing -----------------------------------------------------------------------------

    def write(self, batch: Batch) -> bool:
        """Write a batch, wholly or not at all; tell whether there is more free room to give back.

        Raises Overloaded (not written) and OutcomeUnknown. A batch that is a probe may have been
        written all the same: there was no room for more.
        """
        self._transact(self._write, batch)
        if batch.probe:
            self._transact(partial(self.database.execute, _PUT_ROOM, (RUN, ROOM)))
            self._transact(partial(self.database.execute, _DROP_ROOM, (RUN,)))
        return batch.tidy and self._give_back()

    def _transact(self, write: Callable[..., object], *given: Any) -> None:
        database = self.database
        try:
            if database.in_transaction:  # Of a thread that ended in its midst.
                database.execute("ROLLBACK")
            database.execute("BEGIN IMMEDIATE")
            write(*given)
        except sqlite3.Error as error:
            _roll_back(database)
            raise Overloaded(str(error)) from None
        try:
            database.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(database)
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise (Overloaded if full else OutcomeUnknown)(str(error)) from None

    def _write(self, batch: Batch) -> None:
        """What goes comes first: its room may be all there is."""
        write = self.database.executemany
        write(_DELETE_PLACES, _places_to_delete(batch))
        write("DELETE FROM streams WHERE number = ?", ((number,) for number in batch.gone))
        write("DELETE FROM facts WHERE kind = ? AND key = ?", batch.dropped)
        write(_PUT_STREAM, (each.row for each in batch.streams if each.row is not None))
        write(_PUT_PUBLICATION, _places_to_put(batch))
        write(_PUT_FACT, batch.facts)

    def _give_back(self) -> bool:
        """Give some free pages back to the disk, so long as many are free."""
        try:
            free = _pragma(self.database, "freelist_count")
            if free <= max(FREE_PAGES, _pragma(self.database, "page_count") // 8):
                return False
            self.database.execute(f"PRAGMA incremental_vacuum({FREE_PAGES})").fetchall()
        except sqlite3.Error:
            return False  # The batch is written; the next one tells what is wrong.
        return True


def _streams(database: sqlite3.Connection) -> Iterator[LoadedStream]:
    """Give the streams, by their numbers. Raises DamagedError."""
    found = database.execute("SELECT number, body, sum FROM streams ORDER BY number")
    rows = {row[0]: read_stream(*row) for row in found}
    kept = dict(_publications(database))
    if not kept.keys() <= rows.keys():
        raise DamagedError("publications are of no stream")
    for number, row in rows.items():
        last, publications = kept.get(number, (row.top, deque()))
        if last < row.top:
            raise DamagedError("publications are missing")
        yield LoadedStream(number, row, last, publications)


_Publications = tuple[int, deque[tuple[float, Kept]]]


def _publications(database: sqlite3.Connection) -> Iterator[tuple[int, _Publications]]:
    """Give the publications by the number of their stream, with the last offset.

    There may be a million: nothing is done here for each of them that is not done in C.
    """
    found = database.execute(
        f"SELECT place >> {OFFSET_BITS}, place & {OFFSETS}, until, body, sum"
        " FROM publications ORDER BY place"
    )
    for number, rows in groupby(found, itemgetter(0)):
        _, offsets, untils, bodies, sums = zip(*rows, strict=True)
        if offsets[-1] - offsets[0] + 1 != len(offsets):
            raise DamagedError("publications are missing")
        if tuple(map(crc32, bodies, untils)) != sums:
            raise DamagedError("a check sum is wrong")
        ends = map(truediv, untils, repeat(1000))
        yield number, (offsets[-1], deque(zip(ends, bodies, strict=True)))


def _facts(database: sqlite3.Connection) -> Iterator[FactRow]:
    return database.execute(
        "SELECT kind, key, until, body, sum FROM facts WHERE kind <> ? ORDER BY until", (RUN,)
    )


def _places_to_delete(batch: Batch) -> Iterator[tuple[int, int]]:
    """Give ranges of publications, from a place to before another."""
    for number in batch.gone:
        yield number << OFFSET_BITS, (number + 1) << OFFSET_BITS
    for each in batch.streams:
        start = each.number << OFFSET_BITS
        if each.below:
            yield start, start + each.below
        if each.above is not None:
            yield start + each.above + 1, start + OFFSETS + 1


def _places_to_put(batch: Batch) -> Iterator[tuple[int, int, bytes, int]]:
    for each in batch.streams:
        start = each.number << OFFSET_BITS
        for offset, until, body in each.publications:
            end = int(min(until, LAST) * 1000)
            yield start + offset, end, body, crc32(body, end)


def _pragma(database: sqlite3.Connection, name: str) -> int:
    [value] = database.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _roll_back(database: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # SQLite may have done it already.
        database.execute("ROLLBACK")
