"""The programs in C, made when they are needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from twisted_push.bench.process import BenchError

__all__ = ["compiler", "program"]

_SOURCES = Path(__file__).parent / "c"


def compiler() -> str | None:
    """Give the C compiler; None without one."""
    return shutil.which("cc")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    # It goes when this process ends.
    return tempfile.TemporaryDirectory(prefix="benchmark-c-")


@cache
def program(name: str) -> str:
    """Compile ``c/<name>.c`` and give the program; raise BenchError if that cannot be."""
    cc = compiler()
    if cc is None:
        raise BenchError("there is no C compiler (cc)")
    out = str(Path(_folder().name, name))
    command = [cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", out, str(_SOURCES / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{name}.c cannot be compiled: {done.stderr}")
    return out
