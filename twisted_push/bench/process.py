"""Processes: on which core they run, what they have used, how they talk and how they end."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

__all__ = ["LOAD_CORE", "SERVER_CORE", "BenchError", "Child", "cpu", "memory", "settle", "waited"]

_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE = _cores[0]
"""For what is measured."""
LOAD_CORE = _cores[-1]
"""For the rest. (With one core: the same.)"""

PATIENCE = 60.0
"""Seconds after which what was to happen counts as not happening."""

_ROOT = Path(__file__).resolve().parents[2]
"""Where this package is, for children that import it."""

_STOP_TIMEOUT = 10.0
_CPUCLOCK_SCHED = 2


class BenchError(Exception):
    """Something did not go as it must; there is nothing to measure."""


def cpu(pid: int) -> int:
    """Give the CPU time that all threads of a process have used, user and system, in ns.

    Raises BenchError if there is no such process.
    """
    # What clock_getcpuclockid(3) gives: the clock behind /proc/<pid>/stat, but exact.
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        raise BenchError(f"there is no process {pid}") from None


def memory(pid: int) -> int:
    """Give the resident memory of a process, and what of it was swapped out, in KiB.

    Raises BenchError if that cannot be read.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError as error:
        raise BenchError(f"the memory of process {pid}: {error.strerror}") from None
    return sum(map(int, re.findall(r"(?m)^(?:Rss|Swap): +(\d+) kB", text)))


def waited(pid: int) -> int:
    """Give how long a process had work and no processor, in ns; 0 where that is not known.

    Of its first thread, which is the one that serves. Source: the kernel's sched-stats.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0


def settle(pid: int, timeout: float = 20.0) -> None:
    """Wait until a process does next to nothing; raise BenchError if that takes too long."""
    deadline = time.monotonic() + timeout
    before = cpu(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = cpu(pid)
        if now - before < 1_000_000:
            return
        before = now
    raise BenchError(f"process {pid} is still busy after {timeout:g} s")


class Child:
    """A process of ours, pinned to a core if one is given; a context manager that ends it.

    With ``talks``, its standard output is for us; else it goes where its errors go, to a file
    whose end is shown if the process fails.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int | None = None,
        *,
        talks: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it.
        self._heard = b""
        self._process = subprocess.Popen(
            command,
            env={**_inherited(), **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
        )
        self.pid = self._process.pid
        if core is not None:
            # It has one thread yet; later ones inherit the core.
            os.sched_setaffinity(self.pid, {core})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, gently if it lets us."""
        process = self._process
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, self._log):
            if stream is not None:
                stream.close()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self, timeout: float = PATIENCE) -> Any:
        """Read a line of its standard output, which is JSON; raise BenchError if none comes."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise BenchError(f"no answer within {timeout:g} s")
            read = os.read(output, 65536)
            if not read:
                raise self._ended()
            self._heard += read
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def ask(self, line: str, timeout: float = PATIENCE) -> Any:
        """Tell a line and hear the answer."""
        self.tell(line)
        return self.hear(timeout)

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if self._process.poll() is not None:
            raise self._ended()

    def _ended(self) -> BenchError:
        self._process.wait(_STOP_TIMEOUT)
        return BenchError(f"a process ended early: {self.last_words()}")

    def last_words(self) -> str:
        """Give the end of its log."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2000))
        return self._log.read().decode(errors="replace").strip() or "(it said nothing)"

    def cpu(self) -> int:
        """Give the CPU time that it has used, in ns."""
        return cpu(self.pid)

    def memory(self) -> int:
        """Give its resident memory, in KiB."""
        return memory(self.pid)

    def settle(self) -> None:
        """Wait until it does next to nothing."""
        settle(self.pid)


def _inherited() -> dict[str, str]:
    """Give our environment, without what is meant for a server of the user's own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("TWISTED_PUSH_")
    }
    return {**kept, "PYTHONPATH": str(_ROOT)}
