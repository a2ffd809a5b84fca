"""The browser client as the server serves it and as npm would have it: made of one source."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
STATIC = ROOT / "twisted_push" / "static"
MOST = 8000
"""Bytes that the script may have, compressed."""


@pytest.fixture(scope="module")
def tools() -> Path:
    """Give the folder with what builds the client; skip where that is not installed."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: the client is not built")
    for package in ("terser", "typescript"):
        if not (CLIENT / "node_modules" / package).is_dir():
            pytest.skip(f"{package} is missing: run `npm install` in client")
    return CLIENT


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["push.js", "push.mjs"])
def test_what_is_served_is_small(name: str) -> None:
    script = (STATIC / name).read_bytes()
    assert len(gzip.compress(script)) < MOST
    assert script.isascii()


def test_the_versions_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    package = json.loads((CLIENT / "package.json").read_text("utf-8"))
    assert package["version"] == project["version"]
    assert f'"{package["version"]}"' in (STATIC / "push.js").read_text("ascii")


@pytest.mark.node
def test_what_is_served_is_made_of_the_source(tools: Path) -> None:
    run("node", "build.mjs", "--check", cwd=tools)


@pytest.mark.node
def test_the_package_can_be_used(tools: Path, tmp_path: Path) -> None:
    """Pack it, unpack it as npm does, import it and check a program against its types."""
    run("npm", "pack", "--pack-destination", str(tmp_path), cwd=tools)
    [archive] = tmp_path.glob("twisted-push-*.tgz")
    with tarfile.open(archive) as packed:
        names = sorted(name.removeprefix("package/") for name in packed.getnames())
        assert names == [
            "LICENSE", "README.md", "package.json", "push.d.ts", "push.js", "push.mjs",
        ]  # fmt: skip
        packed.extractall(tmp_path / "node_modules", filter="data")
    (tmp_path / "node_modules" / "package").rename(tmp_path / "node_modules" / "twisted-push")
    module = 'import push, { connect } from "twisted-push"; console.log(push.connect === connect);'
    assert run("node", "--input-type=module", "-e", module, cwd=tmp_path) == "true\n"
    for name in ("example.ts", "example-script.ts"):
        shutil.copy(CLIENT / name, tmp_path)
    compiler = str(tools / "node_modules" / "typescript" / "bin" / "tsc")
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "esnext"]
    options += ["--moduleResolution", "bundler"]
    run("node", compiler, *options, "example.ts", "example-script.ts", cwd=tmp_path)
