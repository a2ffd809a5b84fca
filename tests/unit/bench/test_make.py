"""``make bench > figures.json`` writes JSON, whatever else it has to say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_its_output_is_that_of_the_benchmarks_alone(tmp_path: Path) -> None:
    """In an environment that is not set up yet."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho '{}'\n", "utf-8")
    python.chmod(0o755)
    # As a shell has it, not as a part of a `make` that runs the tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "bench", f"VENV={tmp_path}", "SETUP=echo installing"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{}\n"
    assert "installing" in done.stderr
