"""The journal's files: refused at the start when they cannot be used, never begun empty."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.bench import DAY, START, new_directory, run
from tests.unit.engines.support import Life
from twisted_push.engines.journal.store import Store
from twisted_push.errors import EngineRefused
from twisted_push.model import Grant

ROOT = Path(__file__).parents[3]


def refusal(directory: str | Path) -> str:
    """Start on a directory, which must be refused; give the line for the operator."""
    with pytest.raises(EngineRefused) as caught:
        Life.begin(str(directory))
    line = str(caught.value)
    assert "\n" not in line
    assert str(directory) in line
    return line


@pytest.fixture
def used() -> Life:
    """An engine that has ended, with something in its files."""
    life = Life.begin()
    for number in range(30):
        life.publish("a", b"%d" % number, size=20, ttl=600.0)
    life.stop()
    return life


# --- Refused ---------------------------------------------------------------------------------


def test_a_newer_file_is_refused_and_stays_as_it_is(used: Life) -> None:
    database = used.open_file()
    database.execute("PRAGMA user_version = 2")
    database.close()
    before = used.file.read_bytes()
    assert "newer version" in refusal(used.directory)
    assert used.file.read_bytes() == before


def test_another_sqlite_file_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "journal.sqlite")
    database.execute("CREATE TABLE other (a)")
    database.close()
    assert "no journal" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    refusal(tmp_path)
    assert (tmp_path / "journal.sqlite").read_bytes() == content


def test_a_file_whose_main_part_is_missing_is_refused(used: Life) -> None:
    used.file.unlink()
    used.file.with_name("journal.sqlite-wal").write_bytes(b"the rest of it")
    assert "missing" in refusal(used.directory)


def test_a_file_that_was_cut_off_is_refused(used: Life) -> None:
    whole = used.file.read_bytes()
    for size in (100, 4096, len(whole) - 4096, len(whole) - 1):
        used.file.write_bytes(whole[:size])
        assert "damaged" in refusal(used.directory)


def test_what_is_left_of_a_file_that_was_never_finished_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite.new").write_bytes(b"half")
    life = Life.begin(str(tmp_path))
    life.publish("a", size=10)
    life.stop()
    assert not (tmp_path / "journal.sqlite.new").exists()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    refusal(tmp_path / "state")
    refusal(tmp_path / "state" / "below")


NOBODY = 65534


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Path]:
    """Give a directory, and be somebody who may not write everywhere."""
    place = Path(new_directory())  # Others may not enter pytest's own.
    if os.geteuid() != 0:
        yield place
        return
    os.chown(place, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield place
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["", "journal.lock"])
def test_what_cannot_be_written_is_refused(nobody: Path, name: str) -> None:
    life = Life.begin(str(nobody))
    life.publish("a", size=10)
    life.stop()
    path = nobody / name
    path.chmod(0o500 if path.is_dir() else 0o000)
    try:
        refusal(nobody)
    finally:
        path.chmod(0o700)
    life = Life.begin(str(nobody))
    assert len(life.kept("a")) == 1
    life.stop()


def test_a_place_where_no_directory_can_be_made(nobody: Path) -> None:
    nobody.chmod(0o500)
    try:
        assert "ermission denied" in refusal(nobody / "state")
    finally:
        nobody.chmod(0o700)


@pytest.mark.parametrize(("free", "why"), [(40_000, "disk is full"), (10**9, "disk I/O error")])
def test_a_full_disk_is_called_so(
    used: Life, free: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says something else where it cannot make what it needs beside the file."""

    def connect(self: Store) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    monkeypatch.setattr(Store, "_connect", connect)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert why in refusal(used.directory)


def test_a_damaged_file_is_not_shown_to_the_operator(used: Life) -> None:
    database = used.open_file()
    for text in ("Geheim", "\\ud800Geheim"):
        database.execute("UPDATE publications SET body = CAST(? AS TEXT)", (text,))
    database.execute("UPDATE publications SET body = CAST(x'ff47656865696d' AS TEXT)")
    database.close()
    line = refusal(used.directory)
    assert "damaged" in line
    assert "eheim" not in line


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM publications WHERE place & 255 = 20",
        "DELETE FROM streams",
        "UPDATE publications SET until = until + 1",
        "UPDATE publications SET until = 'soon'",
        "UPDATE publications SET place = place + 1 WHERE place & 255 = 30",
        "UPDATE publications SET body = x'00'",
        "UPDATE publications SET sum = sum + 1",
        "UPDATE streams SET number = number + 1",
        "UPDATE streams SET body = x'00', sum = 3523407757",
        "UPDATE streams SET body = 17",
        "UPDATE facts SET until = 1e18",
        "UPDATE facts SET key = x'c40175' WHERE kind = 1",
        "DELETE FROM facts WHERE kind = 0",
        "UPDATE facts SET kind = 77 WHERE kind = 1",
        "UPDATE facts SET body = x'00'",
        "DROP TABLE facts",
        "PRAGMA user_version = 0",
    ],
)
def test_what_nobody_wrote_is_refused(damage: str) -> None:
    life = Life.begin()
    for number in range(30):
        life.publish("a", b"%d" % number, size=20, ttl=600.0)
    life.put(b"t", life.grant())
    life.stop()
    database = life.open_file()
    database.execute(damage)
    database.close()
    refusal(life.directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has something of everything: see `test_any_damage_is_found_or_does_no_harm`."""
    life = Life.begin(str(tmp_path_factory.mktemp("whole")), durability="commit")
    for number in range(150):
        life.publish(f"c{number % 9}", b"%d" % number * 20, size=12, ttl=6000.0)
    for number in range(40):
        life.put(b"token %d" % number, Grant(f"u{number}", START))
        life.put_out("k", size=0, idempotency_key=f"{number}")
    run(life.engine.revoke_user("gone", START + DAY))
    life.remove("c3")
    life.stop()
    return life.file


@given(
    place=st.floats(0.0, 1.0, exclude_max=True),
    junk=st.one_of(st.binary(min_size=1, max_size=64), st.just(bytes(4096))),
)
@settings(max_examples=400, deadline=None)
def test_any_damage_is_found_or_does_no_harm(whole: Path, place: float, junk: bytes) -> None:
    """Bytes that nobody uses may be anything."""
    directory = Path(new_directory())
    content = bytearray(whole.read_bytes())
    offset = int(place * len(content))
    content[offset : offset + len(junk)] = junk[: len(content) - offset]
    (directory / "journal.sqlite").write_bytes(content)
    try:
        life = Life.begin(str(directory))
    except EngineRefused as error:
        assert "\n" not in str(error)  # noqa: PT017 - It may also be fine.
        return
    for number in range(9):
        expected = [b"%d" % n * 20 for n in range(150) if n % 9 == number][-12:]
        assert [data for _, data in life.kept(f"c{number}")] == ([] if number == 3 else expected)
    for number in range(40):
        assert life.get(b"token %d" % number) == Grant(f"u{number}", START)
        assert life.put_out("k", size=0, idempotency_key=f"{number}").duplicate
    assert not life.put(b"t", Grant("gone", START))
    life.stop()


# --- Processes -------------------------------------------------------------------------------

CHILD = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from tests.fakes import FakeEvents
from twisted_push.engines.journal import Journal
from twisted_push.engines.memory import MemoryEngine
from twisted_push.model import Publication, PublishOptions

async def work():
    engine = MemoryEngine(reactor, Journal(sys.argv[1], sys.argv[2], reactor))
    await engine.start(FakeEvents())
    print("started", flush=True)
    count = 0

    async def publish(name):
        nonlocal count
        while True:
            count += 1
            number = count
            published = await engine.publish(
                Publication(name, b"%d" % number), PublishOptions(100_000, 3600.0)
            )
            position = published.position
            print(name, position.offset, position.epoch, number, flush=True)

    for number in range(8):
        Deferred.fromCoroutine(publish(f"c{number % 3}"))

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()))
reactor.run()
"""


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that publishes into a journal and prints what was answered."""
    children: list[subprocess.Popen[str]] = []

    def begin(directory: str, durability: str = "commit") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, directory, durability],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    yield begin
    for process in children:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_second_process_is_refused_and_the_first_goes_on(
    child: Callable[..., subprocess.Popen[str]],
) -> None:
    directory = new_directory()
    process = child(directory)
    assert "another process" in refusal(directory)
    assert process.stdout is not None
    assert process.poll() is None
    assert process.stdout.readline().startswith("c")


def test_a_second_engine_of_one_process_is_refused() -> None:
    life = Life.begin()
    assert "another process" in refusal(life.directory)
    life.publish("a", size=10)
    life.stop()


@pytest.mark.parametrize("durability", ["commit", "write"])
@pytest.mark.parametrize("lines", [1, 40, 300])
def test_what_was_answered_outlives_a_kill(
    child: Callable[..., subprocess.Popen[str]], durability: str, lines: int
) -> None:
    directory = new_directory()
    process = child(directory, durability)
    assert process.stdout is not None
    answered = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered += [line for line in process.stdout if re.fullmatch(r"c\d \d+ \S+ \d+\n", line)]
    life = Life.begin(directory, durability=durability)
    histories = {name: life.history(name) for name in ("c0", "c1", "c2")}
    for line in answered:
        name, offset, epoch, _ = line.split()
        position = histories[name].position
        assert position.epoch == epoch
        assert position.offset >= int(offset)
    for found in histories.values():  # None is missing, none is there twice.
        offsets = [p.position.offset for p in found.publications if p.position is not None]
        assert offsets == list(range(1, found.position.offset + 1))
    written = {p.data for found in histories.values() for p in found.publications}
    assert {line.split()[3].encode() for line in answered} <= written
    life.stop()


LIMITED = """
import resource, signal, sys
from twisted.internet.task import Clock
from tests.contract.bench import run, settle
from tests.unit.engines.support import Life
from twisted_push.errors import EngineUnavailable

life = Life.begin(sys.argv[1], durability=sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
answered = 0
for _ in range(10_000):
    try:
        life.publish(f"c{answered % 5}", b"1" * 500, size=1000, ttl=600.0)
    except EngineUnavailable as error:
        print(type(error).__name__, error)
        break
    answered += 1
life.later(3.0)
assert life.events.told[0] == ("state", False), life.events.told
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
life.later(3.0)
assert life.events.told[-1] == ("state", True), life.events.told
for _ in range(20):
    life.publish(f"c{answered % 5}", b"1" * 500, size=1000, ttl=600.0)
    answered += 1
before = [life.kept(f"c{n}") for n in range(5)]
assert sum(map(len, before)) == answered, (answered, [len(b) for b in before])
life = life.crashed()
assert [life.kept(f"c{n}") for n in range(5)] == before
life.stop()
print("good", answered)
"""


@pytest.mark.parametrize("durability", ["commit", "write"])
def test_a_disk_that_fails_a_write_and_then_works_again(durability: str) -> None:
    """The system refuses to make files larger, which SQLite takes for a broken disk."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, new_directory(), durability],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good" in done.stdout
