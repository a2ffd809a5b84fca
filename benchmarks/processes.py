"""The processes that take part: on which core they run, what they have used, how they end."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

__all__ = ["LOAD_CORE", "SERVER_CORE", "BenchmarkError", "Child", "prepare"]

ROOT = Path(__file__).resolve().parents[1]

_cores = sorted(os.sched_getaffinity(0))
SERVER_CORE = _cores[0]
"""For what is measured: the server, or the floor that it is compared with."""
LOAD_CORE = _cores[-1]
"""For the rest: this process, which makes the load, and the CMS. (With one core: the same.)"""

_STOP_TIMEOUT = 10.0
_CPUCLOCK_SCHED = 2


class BenchmarkError(Exception):
    """Something did not go as it must; there is nothing to measure."""


def prepare(time_limit: int) -> None:
    """Make this process fit to drive the load, for at most ``time_limit`` seconds."""
    os.sched_setaffinity(0, {LOAD_CORE})
    # Children inherit this.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def end(number: int, _: FrameType | None) -> None:
        # As an exception, so that every process that was started is stopped.
        if number == signal.SIGALRM:
            raise BenchmarkError(f"not done after {time_limit} s")
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(time_limit)


class Child:
    """A Python process of ours, pinned to a core; a context manager that ends it.

    With ``talks``, its standard output is for us; else it goes where its errors go, to a file
    whose end is shown if the process fails.
    """

    def __init__(self, arguments: Sequence[str], core: int, *, talks: bool = True) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TWISTED_PUSH_", "PYTHONPATH"))
        }
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it.
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tempfile.gettempdir(),
            env={**inherited, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
        )
        # It has one thread yet; later ones inherit the core.
        os.sched_setaffinity(self._process.pid, {core})

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

    def tell(self, line: bytes) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def listen(self) -> int:
        """Read a line of its standard output, which is a number."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"a process ended early: {self.last_words()}")
        return int(line)

    def check(self) -> None:
        """Raise `BenchmarkError` if it has ended."""
        if self._process.poll() is not None:
            raise BenchmarkError(f"a process ended early: {self.last_words()}")

    def last_words(self) -> str:
        """Give the end of its log."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2000))
        return self._log.read().decode(errors="replace").strip() or "(it said nothing)"

    def cpu(self) -> int:
        """Give the CPU time that all its threads have used, user and system, in nanoseconds."""
        # What clock_getcpuclockid(3) gives: the clock behind /proc/<pid>/stat, but exact.
        return time.clock_gettime_ns((~self._process.pid << 3) | _CPUCLOCK_SCHED)

    def memory(self) -> int:
        """Give its resident memory, and what of it was swapped out, in KiB."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text(encoding="ascii")
        return sum(map(int, re.findall(r"(?m)^(?:Rss|Swap): +(\d+) kB", text)))

    def settle(self, timeout: float = 20.0) -> None:
        """Wait until it does next to nothing."""
        deadline = time.monotonic() + timeout
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.cpu()
            if now - before < 1_000_000:
                return
            before = now
        raise BenchmarkError(f"still busy after {timeout:g} s")
