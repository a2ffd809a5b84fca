"""A journal that is not as its last run left it: whoever was told more than it has, is told so."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.bench import DAY, START, new_directory, run, settle
from tests.unit.cms.support import Log
from tests.unit.engines.support import Life
from twisted_push.engines.journal import runs, store
from twisted_push.engines.journal.files import Directory
from twisted_push.engines.journal.runs import Mark, Run
from twisted_push.model import StreamPosition

FILE = "journal.sqlite"


@pytest.fixture(params=["commit", "write", "none"])
def life(request: pytest.FixtureRequest) -> Life:
    return published(Life.begin(durability=request.param), 3)


def published(life: Life, count: int) -> Life:
    for number in range(count):
        life.publish("a", b"%d" % number, size=100, ttl=6000.0)
    settle()
    return life


def places(life: Life) -> list[StreamPosition]:
    """Give where a channel with publications stands, and one without."""
    return [life.since(channel).position for channel in ("a", "quiet")]


def hold(life: Life, positions: list[StreamPosition]) -> list[bool]:
    channels = ("a", "quiet")
    return [life.since(*each).complete for each in zip(channels, positions, strict=True)]


def backup(life: Life) -> Path:
    """Make a copy in the way that the manual says."""
    copy = Path(new_directory()) / "copy.sqlite"
    database, target = life.open_file(), sqlite3.connect(copy)
    database.backup(target)
    target.close()
    database.close()
    return copy


def bring_back(copy: Path, directory: str) -> str:
    for ending in ("-wal", "-shm"):
        (Path(directory) / f"{FILE}{ending}").unlink(missing_ok=True)
    shutil.copy(copy, Path(directory) / FILE)
    return directory


# --- Copies ----------------------------------------------------------------------------------


def running(life: Life) -> tuple[Path, Life]:
    return backup(life), published(life, 3)


def ended(life: Life) -> tuple[Path, Life]:
    life.stop()
    copy = Path(new_directory()) / "copy.sqlite"
    shutil.copy(life.file, copy)
    return copy, published(life.begun(life.directory), 3)


def run_before(life: Life) -> tuple[Path, Life]:
    copy = backup(life)
    return copy, published(life.again(), 3)


@pytest.mark.parametrize("make", [running, ended, run_before])
@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize("place", ["the same", "another"])
def test_a_copy_that_is_brought_back_begins_anew(
    life: Life, make: Callable[[Life], tuple[Path, Life]], end: str, place: str, log: Log
) -> None:
    copy, life = make(life)
    before = places(life)
    directory = life.directory
    if end == "killed":
        directory = life.killed()
    else:
        life.stop()
    log.events.clear()
    life = life.begun(bring_back(copy, directory if place == "the same" else new_directory()))
    assert [data for _, data in life.kept("a")] == [b"0", b"1", b"2"]
    published(life, 9)
    assert hold(life, before) == [False, False]
    [line] = [each for each in log.lines if "may be missing" in each]
    assert life.directory in line
    after = places(life)
    life = life.again()
    assert places(life) == after
    assert len(log.lines) == 1
    life.stop()


def test_a_directory_may_be_moved(life: Life, log: Log) -> None:
    before = places(life)
    life.stop()
    life = life.begun(shutil.copytree(life.directory, new_directory(), dirs_exist_ok=True))
    assert hold(life, before) == [True, True]
    assert log.lines == []
    life.stop()


def test_a_file_that_is_missing_is_missed(life: Life, log: Log) -> None:
    before = places(life)
    life.stop()
    life.file.unlink()
    life = life.begun(life.directory)
    assert hold(life, before) == [False, False]
    assert len(log.lines) == 1
    life.stop()


def test_a_new_journal_has_lost_nothing(life: Life, log: Log) -> None:
    life.again().stop()
    assert log.lines == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"runs": [1]}', b'{"runs": []}'])
def test_a_mark_that_is_damaged_proves_nothing(life: Life, text: bytes) -> None:
    before = places(life)
    life.stop()
    (Path(life.directory) / "journal.run").write_bytes(text)
    life = life.begun(life.directory)
    assert hold(life, before) == [False, False]
    life.stop()


# --- A start that ends in its midst ----------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


STEPS = ["first mark", "note", "second mark"]


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bool], None]]:
    """Have a start end before or after it has done a step."""
    plan: dict[str, Any] = {"step": "", "done": False, "marks": 0}
    write_note = runs.write_note
    mark: Any = Directory.mark

    def at(step: str, do: Callable[[], None]) -> None:
        here = step == plan["step"]
        if not here or plan["done"]:
            do()
        if here:
            raise Killed

    def set_mark(directory: Directory, value: Mark) -> None:
        plan["marks"] += 1
        at(STEPS[0] if plan["marks"] == 1 else STEPS[2], lambda: mark.fset(directory, value))

    def note(database: sqlite3.Connection, value: runs.Note) -> None:
        at("note", lambda: write_note(database, value))

    def prepare(step: str, done: bool) -> None:
        plan.update(step=step, done=done, marks=0)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_note", note)
        patched.setattr(Directory, "mark", property(mark.fget, set_mark))
        yield prepare


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lost", [False, True])
def test_a_start_that_is_killed_changes_nothing(
    dying: Callable[[str, bool], None], lost: bool, step: str, done: bool, times: int
) -> None:
    life = published(Life.begin(), 3)
    copy = backup(life)
    published(life, 3)
    before = places(life)
    directory = life.directory
    life.stop()
    if lost:
        bring_back(copy, directory)
    for _ in range(times):
        dying(step, done)
        began = store.Store(directory, "write", 0)
        with pytest.raises(Killed):
            began.open()
        left = new_directory()
        shutil.copytree(directory, left, dirs_exist_ok=True)
        began.close(clean=False)
        directory = left
    dying("", False)
    life = life.begun(directory)
    assert hold(life, before) == [not lost, not lost]
    assert len(Directory(directory).mark.runs) == 1
    life.stop()


def test_what_the_mark_says_of_a_run() -> None:
    run = Run("write", "boot", "id")
    mark = Mark((Run("none", "boot", "other"), run))
    assert Mark.read(mark.text) == mark
    assert not mark.loss(runs.Note("id"), "boot")
    assert mark.loss(runs.Note("id"), "later")
    assert mark.loss(runs.Note("id"), "")
    assert mark.loss(runs.Note("other"), "boot")
    assert not mark.loss(runs.Note("other", clean=True), "")
    assert mark.loss(runs.Note("third", clean=True), "boot")
    assert mark.loss(None, "boot")
    assert not Mark().loss(None, "boot")


def test_logouts_that_a_copy_has_hold() -> None:
    life = Life.begin()
    run(life.engine.revoke_token(b"t", START + DAY))
    copy = backup(life)
    life.stop()
    life = life.begun(bring_back(copy, life.directory))
    assert not life.put(b"t", life.grant())
    life.stop()
