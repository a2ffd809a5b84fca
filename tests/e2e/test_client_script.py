"""The client scripts in browsers of their own making: tests/e2e/js/*.test.mjs, in Node.js."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "js"
SUITES = sorted(path.name for path in HERE.glob("*.test.mjs"))


@pytest.fixture(scope="module")
def plain_node() -> str:
    """Give the path of Node.js; these tests need no packages."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: the client script is not tested")
    return found


def test_there_are_suites() -> None:
    assert SUITES == [
        "push_channels.test.mjs",
        "push_connect.test.mjs",
        "push_reconnect.test.mjs",
        "push_share.test.mjs",
        "script_connect.test.mjs",
        "script_reconnect.test.mjs",
        "script_socket.test.mjs",
    ]


@pytest.mark.node
@pytest.mark.parametrize("suite", SUITES)
def test_a_client_script(plain_node: str, suite: str) -> None:
    result = subprocess.run(
        [plain_node, "--test", "--test-reporter=tap", suite],
        cwd=HERE,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^# pass (\d+)$", result.stdout, re.MULTILINE)
    # A suite that could not be loaded counts as one test.
    assert passed, result.stdout
    assert int(passed[1]) > 10
