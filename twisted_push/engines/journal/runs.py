"""The runs of a journal, and whether the file has what the last one answered.

A run's id is in the file, and in a mark beside it. A file of another run is a copy: what was
answered since it was made is missing, and clients have seen offsets that will be given again.
"""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import msgspec
from attrs import field, frozen

from twisted_push.engines.journal.records import DamagedError, fact_sum
from twisted_push.history import new_epoch

__all__ = ["BOOT_ID", "RUN", "Mark", "Note", "Run", "begin", "read_note", "write_note"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux: random, and another after each start of the machine."""

RUN = 0
"""The kind of the store's own facts: the note of the last run, and for a moment room."""


@frozen
class Run:
    """How the server is run: ``boot`` names the life of the machine's operating system."""

    durability: str
    boot: str
    id: str = field(factory=new_epoch)

    def risk(self, boot: str) -> str:
        """Tell why something may be missing in this boot, if it did not end well; "" if not."""
        if self.durability == "commit":
            return ""
        if self.durability != "write":
            return "the server did not end in good order"
        if not boot or self.boot != boot:
            return "the machine was started anew, or does not tell whether it was"
        return ""


@frozen
class Note:
    """What the file says of the last run. ``life`` names the journal's, until something is lost."""

    run: str = ""
    life: str = ""
    clean: bool = False


@frozen
class Mark:
    """What lies beside the file: the run that it is of. While a run begins they may be two."""

    runs: tuple[Run, ...] = ()

    @classmethod
    def read(cls, text: bytes) -> Mark:
        """Give what was written; a mark without runs for what is none."""
        try:
            return _read_mark(text)
        except (msgspec.DecodeError, UnicodeError):
            return cls()

    @property
    def text(self) -> bytes:
        """What is written."""
        return _write_mark(self)

    def of(self, note: Note) -> tuple[Run, ...]:
        """Give the run whose note it is, if it is there."""
        return tuple(run for run in self.runs if run.id == note.run)

    def loss(self, note: Note | None, boot: str) -> str:
        """Tell why something may be missing that was answered; "" if nothing can be.

        None is the note of a file that nobody used yet.
        """
        if note is None and not self.runs:
            return ""
        for run in self.of(note or Note()):
            return "" if note and note.clean else run.risk(boot)
        return "the file is not that of the last run here"


_write_mark = msgspec.json.Encoder().encode
_read_mark = msgspec.json.Decoder(Mark).decode
_write_note = msgspec.msgpack.Encoder().encode
_read_note = msgspec.msgpack.Decoder(Note).decode


def begin(durability: str) -> Run:
    """Give a new run."""
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        boot = ""
    return Run(durability, boot)


def read_note(database: sqlite3.Connection) -> Note | None:
    """Give the note of the last run; None for a new file. Raises DamagedError."""
    query = "SELECT body, sum FROM facts WHERE kind = ? AND key = x''"
    found = database.execute(query, (RUN,)).fetchone()
    if found is None:
        return None
    body, check = found
    if fact_sum(RUN, b"", math.inf, body) != check:
        raise DamagedError("a check sum is wrong")
    return _read_note(body)


def write_note(database: sqlite3.Connection, note: Note) -> None:
    """Put a note in the place of the last one, in a transaction."""
    body = _write_note(note)
    row = (RUN, b"", math.inf, body, fact_sum(RUN, b"", math.inf, body))
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", row)
