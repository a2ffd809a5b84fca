"""The README's first publication, as a reader would type it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, ROOT, PushServer, bound, environment

BEGIN, END = "<!-- test: first-publish -->", "<!-- end -->"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|localhost):8080\b")


def blocks() -> list[str]:
    """Give the commands of the README that are marked for this test."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count(BEGIN) == 1, f"README.md has no {BEGIN}"
    marked = text.partition(BEGIN)[2].partition(END)[0]
    found = BLOCK.findall(marked)
    assert found, "no ```sh block is marked"
    return [str(block) for block in found]


def test_first_publish(server: PushServer) -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the README's commands are not run")
    script = ADDRESS.sub(f"127.0.0.1:{server.port}", "".join(blocks()))
    with RawClient(server) as client:
        client.connect()
        finished = subprocess.run(
            bound(["bash", "-euo", "pipefail", "-c", script]),
            cwd=server.folder,  # Where push.toml is.
            env=environment(
                TWISTED_PUSH_URL=server.url,
                TWISTED_PUSH_KEY=KEY,
                KEY=KEY,
                NO_PROXY="127.0.0.1,localhost",
                no_proxy="127.0.0.1,localhost",
            ),
            capture_output=True,
            encoding="utf-8",
            timeout=30,
            check=False,
        )
        assert finished.returncode == 0, f"{script}\n{finished.stderr}"
        assert '"result"' in finished.stdout, f"{script}\n{finished.stdout}\n{finished.stderr}"
        # Everybody is in the channel of the example, or the reader sees nothing happen.
        push = client.message(timeout=5)["push"]
        assert push["pub"]["data"]
