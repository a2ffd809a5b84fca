"""Whether SQLite's files still have all that was committed, when nobody closed them.

SQLite commits into a file beside (``-wal``). When it opens that again, it takes no notice of what
does not fit together there, nor of anything behind: so a transaction looks in whose midst the power
failed. But damage to what was committed looks the same. Two things tell:

- The index (``-shm``) has how far commits went. Processes share it as memory, so it outlives each
  of them, but not the machine: then it may be of any time.
- A transaction is begun when the one before is committed. One that comes behind what does not fit
  shows that this was.

Source: https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from attrs import frozen

__all__ = ["Left", "look"]

_VERSION = 3007000
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""How a file begins, and the order of the bytes in the words that are summed up."""

_HEADER = struct.Struct(">6I2I")
_FRAME = struct.Struct(">2I8s2I")
_INDEX = struct.Struct("=4I2I2I8s2I")

_Sum = tuple[int, int]


@frozen
class Left:
    """What is left of the last run. ``damage`` says why not all that was committed is there.

    ``gone``: there is no file beside. It is only removed when the database is closed.
    """

    damage: str = ""
    gone: bool = False


@frozen
class _Index:
    frames: int
    sum: _Sum
    salts: bytes


@frozen
class _Frame:
    """``fits`` is whether it follows on all before, ``linked`` whether on the one before."""

    sum: _Sum
    commits: bool
    fits: bool
    linked: bool


def look(file: Path, *, same_boot: bool) -> Left:
    """Look at what is beside a database, before it is opened.

    ``same_boot``: the machine has been running all the time since it was used.
    """
    wal = file.with_name(file.name + "-wal")
    if not wal.exists() or wal.stat().st_size < _HEADER.size:
        return Left(gone=True)
    index = _read_index(file.with_name(file.name + "-shm"))
    salts, frames = _read(wal)
    if index is not None and index.frames and (same_boot or index.salts == salts):
        sums = [each.sum for each in frames if each.fits]
        there = index.salts == salts and sums[index.frames - 1 : index.frames] == [index.sum]
        return Left("" if there else "committed transactions are missing beside it")
    return Left(_behind(frames))


def _behind(frames: list[_Frame]) -> str:
    for before, frame in pairwise(frames):
        if before.commits and frame.linked and not frame.fits:
            return "transactions beside it do not fit together"
    return ""


def _read_index(shm: Path) -> _Index | None:
    """Read the index: it begins with two copies of what counts, one of which is whole."""
    try:
        with shm.open("rb") as file:
            content = file.read(2 * _INDEX.size)
    except FileNotFoundError:
        return None
    for start in range(0, len(content) - _INDEX.size + 1, _INDEX.size):
        copy = content[start : start + _INDEX.size]
        version, _, _, _, frames, _, sum0, sum1, salts, *check = _INDEX.unpack(copy)
        if version == _VERSION and _add("=", copy[:40], (0, 0)) == tuple(check):
            return _Index(frames, (sum0, sum1), salts)
    return None


def _read(wal: Path) -> tuple[bytes, list[_Frame]]:
    """Give what frames must have in them to be of the present, and the frames that have it.

    No frames if the beginning of the file is not whole.
    """
    with wal.open("rb") as file:
        header = file.read(_HEADER.size).ljust(_HEADER.size, b"\0")
        magic, _, page, _, _, _, *check = _HEADER.unpack(header)
        order = _MAGIC.get(magic, "=")
        total = _add(order, header[:24], (0, 0))
        if magic not in _MAGIC or total != tuple(check):
            return b"", []
        salts = header[16:24]
        pieces = iter(lambda: file.read(_FRAME.size + page), b"")
        whole = (each for each in pieces if len(each) == _FRAME.size + page)
        return salts, list(_frames(order, salts, total, whole))


def _frames(order: str, salts: bytes, total: _Sum, pieces: Iterator[bytes]) -> Iterator[_Frame]:
    before: _Sum | None = total
    fits = True
    for piece in pieces:
        _, size, found, *check = _FRAME.unpack_from(piece)
        stored = check[0], check[1]
        linked = before is not None and found == salts
        if linked and before is not None:
            total = _add(order, piece[_FRAME.size :], _add(order, piece[:8], before))
            linked = total == stored
        fits = fits and linked
        before = stored if found == salts else None
        if found == salts:
            yield _Frame(stored, bool(size), fits, linked)


def _add(order: str, content: bytes, total: _Sum) -> _Sum:
    """Add to SQLite's check sum, word by word."""
    one, two = total
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
