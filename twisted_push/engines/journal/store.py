"""The journal's SQLite file. Everything here blocks, and runs in the journal's thread.

A publication's key is the number of its stream (23 bits) and its offset (40 bits), so that those of
one stream lie together in their order; its end is in milliseconds. Everything carries check sums: a
damaged file is refused.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby, repeat
from operator import itemgetter, truediv
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from attrs import evolve, frozen

from twisted_push.engines.journal.files import AS_IS, FILE, Directory
from twisted_push.engines.journal.records import (
    Batch,
    DamagedError,
    FactRow,
    Loaded,
    LoadedStream,
    fact_sum,
    read_fact,
    read_stream,
    stream_body,
)
from twisted_push.errors import EngineUnavailable, OutcomeUnknown, Overloaded
from twisted_push.history import Kept, new_epoch

__all__ = ["Store"]

APPLICATION = 0x74705F6A
"""What tells the file from other SQLite files ("tp_j")."""

SCHEMA = 1
"""The form of the tables. A newer one is refused."""

OFFSET_BITS = 40
OFFSETS = (1 << OFFSET_BITS) - 1

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux: random, and another after each start of the machine."""

LAST = 1e11
"""The latest end of a publication (unix seconds): some thousand years from now."""

PAGE = 4096
WAL_LIMIT = 16 * 1024 * 1024
"""Bytes that the file beside keeps after a burst."""

FREE_PAGES = 256
"""Free pages that are kept for what comes next, and most that are given back in one step."""

RUN = 0
"""The kind of the store's own facts: how the last run ended, and for a moment `ROOM`."""

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


@frozen
class _Run:
    """How the server was run: ``boot`` names the life of the machine's operating system.

    ``life`` names that of the journal: as long as nothing is lost.
    """

    durability: str
    boot: str
    clean: bool
    life: str = ""

    def may_have_lost(self, boot: str) -> bool:
        """Tell whether what was answered in that run may be missing now, in this boot."""
        if self.clean or self.durability == "commit":
            return False
        return self.durability != "write" or not boot or self.boot != boot


_encode = msgspec.msgpack.Encoder().encode
_decode_run = msgspec.msgpack.Decoder(_Run).decode


class Store:
    """One file. ``durability`` and ``max_size``: see `Journal`."""

    def __init__(self, directory: str, durability: str, max_size: int) -> None:
        self._directory = Directory(directory)
        self._run = _Run(durability, _boot(), clean=False)
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
            self._connect()
            return self._load()
        except Exception as error:
            self._abandon()
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> Exception:
        if isinstance(error, EngineUnavailable):
            return error
        if isinstance(error, OSError):
            return self._directory.refusal(error.strerror or type(error).__name__)
        if isinstance(error, sqlite3.Error):
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
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
        """Leave the file; with ``clean`` it has everything. Raises EngineUnavailable."""
        try:
            if clean:
                self._transact(partial(self._note_run, clean=True))
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
        before = _last_run(database)
        if before is None and (streams or facts):
            raise DamagedError("a fact is missing")
        lost = before is not None and before.may_have_lost(self._run.boot)
        kept = before.life if before is not None and not lost else ""
        self._run = evolve(self._run, life=kept or new_epoch())
        if lost:  # Clients may have seen offsets that are not here, and will be given again.
            streams = [evolve(s, row=evolve(s.row, epoch=new_epoch())) for s in streams]
        database.execute("BEGIN IMMEDIATE")
        database.execute(_DROP_ROOM, (RUN,))
        if lost:
            rows = (stream_body(each.number, each.row) for each in streams)
            database.executemany(_PUT_STREAM, rows)
        self._note_run(clean=False)
        database.execute("COMMIT")
        if self._run.durability != "commit":
            database.execute("PRAGMA synchronous = NORMAL")
        return Loaded(self._run.life, streams, facts)

    def _note_run(self, *, clean: bool) -> None:
        body = _encode(evolve(self._run, clean=clean))
        check = fact_sum(RUN, b"", math.inf, body)
        self.database.execute(_PUT_FACT, (RUN, b"", math.inf, body, check))

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


def _last_run(database: sqlite3.Connection) -> _Run | None:
    """Give how the last run ended; None for a new file. Raises DamagedError."""
    query = "SELECT body, sum FROM facts WHERE kind = ? AND key = x''"
    found = database.execute(query, (RUN,)).fetchone()
    if found is None:
        return None
    body, check = found
    if fact_sum(RUN, b"", math.inf, body) != check:
        raise DamagedError("a check sum is wrong")
    return _decode_run(body)


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


def _boot() -> str:
    """Give what changes when the machine starts; "" where the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
