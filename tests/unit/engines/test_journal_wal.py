"""What SQLite passes over in silence: a file beside the journal that is not as it was written."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.bench import DAY, START, clean_up, new_directory, run
from tests.unit.cms.support import Log
from tests.unit.engines.support import Life
from twisted_push.engines.journal import runs
from twisted_push.engines.journal.wal import Left, look
from twisted_push.errors import EngineRefused
from twisted_push.model import StreamPosition

FILE = "journal.sqlite"
HEADER, FRAME = 32, 24 + 4096
COUNT = 12


class Crashed:
    """A directory as a killed server leaves it, with where its clients stood."""

    def __init__(self, place: Path, before: int, durability: str = "commit") -> None:
        life = Life.begin(durability=durability)
        for _ in range(before):  # So many that the file beside is written from its start again.
            life.publish("b", size=1, ttl=6000.0)
        for number in range(COUNT):
            life.publish("a", b"%d" % number, size=100, ttl=6000.0)
        run(life.engine.revoke_token(b"t", START + DAY))
        self.position = life.since("a").position
        self.quiet = life.since("quiet").position
        shutil.copytree(life.killed(), place, dirs_exist_ok=True)
        self.place = place
        clean_up()

    def copy(self) -> Path:
        """Give a copy that may be damaged."""
        return Path(shutil.copytree(self.place, new_directory(), dirs_exist_ok=True))

    @property
    def frames(self) -> int:
        """How many frames were committed."""
        index = (self.place / f"{FILE}-shm").read_bytes()
        return int(struct.unpack_from("=I", index, 16)[0])

    @property
    def committed(self) -> int:
        """How many bytes were."""
        return HEADER + self.frames * FRAME

    def is_whole(self, life: Life) -> bool:
        """Tell whether nothing is missing; whatever is must be told."""
        whole = [data for _, data in life.kept("a")] == [b"%d" % n for n in range(COUNT)]
        whole = whole and not life.put(b"t", life.grant())
        holds = [life.since("a", self.position).complete, life.since("quiet", self.quiet).complete]
        assert holds == [whole, whole]
        return whole


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> list[Crashed]:
    """One whose file beside was written once, and one with what is left of earlier times."""
    made = [Crashed(tmp_path_factory.mktemp("crashed"), before) for before in (0, 1010)]
    sizes = [wal(each.place).stat().st_size - each.committed for each in made]
    assert sizes[0] == 0
    assert sizes[1] > 0
    return made


@pytest.fixture(params=[0, 1], ids=["first", "again"])
def crashed(crashes: list[Crashed], request: pytest.FixtureRequest) -> Crashed:
    which: int = request.param
    return crashes[which]


def wal(directory: Path) -> Path:
    return directory / f"{FILE}-wal"


def flip(path: Path, offset: int, bits: int = 255) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= bits
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_what_is_as_it_was_left_is_whole(crashed: Crashed, log: Log) -> None:
    for same_boot in (True, False):
        assert look(crashed.place / FILE, same_boot=same_boot) == Left()
    life = Life.begin(str(crashed.copy()))
    assert crashed.is_whole(life)
    assert log.lines == []
    life.stop()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_byte_that_is_another_is_found_or_does_no_harm(
    crashes: list[Crashed], data: st.DataObject
) -> None:
    crashed = data.draw(st.sampled_from(crashes))
    directory = crashed.copy()
    offset = data.draw(
        st.integers(0, min(wal(directory).stat().st_size, 2 * crashed.committed) - 1)
    )
    flip(wal(directory), offset, data.draw(st.integers(1, 255)))
    try:
        life = Life.begin(str(directory))
    except EngineRefused as error:
        assert "missing" in str(error)  # noqa: PT017 - It may also be fine.
        assert offset < crashed.committed
    else:
        assert crashed.is_whole(life)
        assert offset >= crashed.committed
        life.stop()
    finally:
        clean_up()


def test_each_byte_that_is_not_of_a_page_counts(crashes: list[Crashed]) -> None:
    crashed = crashes[0]
    directory = crashed.copy()
    frames = range(1, crashed.frames, max(1, crashed.frames // 3))
    offsets = [*range(HEADER), *(HEADER + n * FRAME + each for n in frames for each in range(24))]
    for offset in offsets:
        flip(wal(directory), offset)
        assert look(directory / FILE, same_boot=True).damage
        flip(wal(directory), offset)
    assert look(directory / FILE, same_boot=True) == Left()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_that_was_cut_off_is_refused_or_told(
    crashes: list[Crashed], data: st.DataObject
) -> None:
    crashed = data.draw(st.sampled_from(crashes))
    directory = crashed.copy()
    size = data.draw(st.integers(0, crashed.committed - 1))
    cut(wal(directory), size)
    try:
        life = Life.begin(str(directory))
    except EngineRefused:
        assert size >= HEADER
    else:
        assert not crashed.is_whole(life)
        life.stop()
    finally:
        clean_up()


def test_what_is_refused_stays_as_it_is_and_is_refused_again(crashed: Crashed) -> None:
    directory = crashed.copy()
    flip(wal(directory), HEADER + 2 * FRAME + 1000)
    before = wal(directory).read_bytes()
    for _ in range(2):
        with pytest.raises(EngineRefused, match="damaged"):
            Life.begin(str(directory))
        assert wal(directory).read_bytes() == before


def without(*endings: str) -> Callable[[Path], None]:
    def remove(directory: Path) -> None:
        for ending in endings:
            (directory / f"{FILE}{ending}").unlink()

    return remove


def emptied(directory: Path) -> None:
    cut(wal(directory), 0)


@pytest.mark.parametrize("damage", [without("-wal"), without("-wal", "-shm"), emptied])
def test_a_file_that_is_missing_is_told(
    crashed: Crashed, damage: Callable[[Path], None], log: Log
) -> None:
    directory = crashed.copy()
    damage(directory)
    life = Life.begin(str(directory))
    assert not crashed.is_whole(life)
    assert len(log.lines) == 1
    assert "missing" in log.lines[0]
    life.stop()


def test_the_machine_may_have_been_started_anew(crashed: Crashed, tmp_path: Path) -> None:
    """The index is not as it was: it is missing, or was never written, or is of an earlier time."""
    for index in (None, b"", bytes(32768), b"junk" * 8192):
        directory = crashed.copy()
        without("-shm")(directory)
        if index is not None:
            (directory / f"{FILE}-shm").write_bytes(index)
        life = Life.begin(str(directory))
        assert crashed.is_whole(life)
        life.stop()


def test_either_copy_in_the_index_will_do(crashed: Crashed) -> None:
    for offset in (0, 17, 47, 48, 48 + 17, 95):
        directory = crashed.copy()
        flip(directory / f"{FILE}-shm", offset)
        assert look(directory / FILE, same_boot=True) == Left()
        flip(wal(directory), HEADER + 50)
        assert look(directory / FILE, same_boot=True).damage


def test_an_index_of_another_time_says_nothing_but_within_one_boot(
    crashed: Crashed, tmp_path: Path
) -> None:
    other = Crashed(tmp_path / "other", 0)
    directory = crashed.copy()
    shutil.copy(other.place / f"{FILE}-shm", directory / f"{FILE}-shm")
    assert look(directory / FILE, same_boot=True).damage
    assert look(directory / FILE, same_boot=False) == Left()


def last_transaction(crashed: Crashed) -> int:
    """Give the number of the frame that the last transaction begins with."""
    content = wal(crashed.place).read_bytes()
    sizes = [
        struct.unpack_from(">I", content, HEADER + n * FRAME + 4)[0] for n in range(crashed.frames)
    ]
    return max(n for n in range(crashed.frames - 1) if sizes[n]) + 1


def test_after_a_power_cut_a_torn_transaction_is_none(crashed: Crashed) -> None:
    first = last_transaction(crashed)
    for number in range(first, crashed.frames):
        directory = crashed.copy()
        without("-shm")(directory)
        flip(wal(directory), HEADER + number * FRAME + 500)
        assert look(directory / FILE, same_boot=False) == Left()
        life = Life.begin(str(directory))
        assert [data for _, data in life.kept("a")] == [b"%d" % n for n in range(COUNT)]
        life.stop()


def test_after_a_power_cut_damage_before_others_is_refused(crashed: Crashed) -> None:
    for number in range(last_transaction(crashed) - 6):
        for offset in (0, 9, 17, 4000):
            directory = crashed.copy()
            without("-shm")(directory)
            flip(wal(directory), HEADER + number * FRAME + offset)
            assert look(directory / FILE, same_boot=False).damage
        clean_up()


def test_where_a_loss_is_allowed_for_damage_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    crashed = Crashed(tmp_path / "crashed", 0, "write")
    directory = crashed.copy()
    flip(wal(directory), HEADER + 3 * FRAME + 500)
    with pytest.raises(EngineRefused):
        Life.begin(str(directory))
    monkeypatch.setattr(runs, "BOOT_ID", tmp_path / "another")
    life = Life.begin(str(directory))
    assert not crashed.is_whole(life)
    assert len(log.lines) == 1
    assert life.since("a", StreamPosition(0, crashed.position.epoch)).complete is False
    life.stop()
