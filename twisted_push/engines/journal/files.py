"""The directory of a journal: one process at a time, files for its user alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

from twisted_push.engines.journal.runs import Mark
from twisted_push.errors import EngineRefused

__all__ = ["Directory"]

FILE = "journal.sqlite"
LOCK = "journal.lock"
MARK = "journal.run"

START_ROOM = 64 * 1024
"""Bytes without which SQLite cannot open a file: it makes another one beside, of half that size."""

AS_IS = "move the directory away to start without it, or bring back a copy"


class Directory:
    """A directory that is locked by this process, with the journal's file in it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock: int | None = None

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self._path / FILE

    @property
    def is_full(self) -> bool:
        """Whether there is no room on the disk for what a start needs."""
        return shutil.disk_usage(self._path).free < START_ROOM

    def refusal(self, why: str) -> EngineRefused:
        """Give the error with a line for the operator."""
        line = " ".join(why.split())
        return EngineRefused(f"the journal in {self._path} cannot be used: {line}")

    def lock(self) -> None:
        """Make the directory if need be, and lock it. Raises EngineRefused."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self.refusal(error.strerror or "no such directory") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise self.refusal("another process uses it") from None
        self._lock = lock

    def unlock(self) -> None:
        """Leave the directory to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def mark(self) -> Mark:
        """What lies beside the file for those that come after."""
        try:
            return Mark.read((self._path / MARK).read_bytes())
        except FileNotFoundError:
            return Mark()

    @mark.setter
    def mark(self, mark: Mark) -> None:
        new = self._path / f"{MARK}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(mark.text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._path / MARK)
        self._sync()

    def create(self, script: str) -> None:
        """Make the file by an SQL script, unless there is one; wholly or not at all.

        Raises EngineRefused, OSError, sqlite3.Error.
        """
        if self.file.exists():
            if not self.file.stat().st_size:
                raise self.refusal(f"{FILE} is damaged (it is empty); {AS_IS}")
            self.file.chmod(0o600)
            return
        if self._beside("-wal").exists():
            raise self.refusal(f"{FILE} is missing, but what belongs to it is there; {AS_IS}")
        new = self._path / f"{FILE}.new"
        for stale in (new, self._path / f"{FILE}.new-journal"):
            stale.unlink(missing_ok=True)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        database = sqlite3.connect(new, isolation_level=None)
        try:
            database.executescript(script)
        finally:
            database.close()
        new.rename(self.file)
        self._sync()

    def _beside(self, ending: str) -> Path:
        return self.file.with_name(FILE + ending)

    def _sync(self) -> None:
        """Have the names of the files on the disk, too."""
        directory = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
