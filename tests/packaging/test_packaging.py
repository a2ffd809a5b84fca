"""What is built from the tree works once it is installed: wheel, sdist and editable.

Each is installed into a fresh environment, with its dependencies from the package index, and twistd
is asked for the plugin there: in the working tree it is always found.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
PLUGIN = "twisted/plugins/twisted_push_plugin.py"

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

ASK_FOR_PLUGINS = """
import json
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(json.dumps([[p.tapname, p.module] for p in getPlugins(IServiceMaker)]))
"""

ASK_FOR_FILES = """
import json
from importlib.resources import files

def walk(folder, prefix):
    for child in folder.iterdir():
        name = prefix + "/" + child.name
        if child.is_dir():
            yield from walk(child, name)
        elif not name.endswith((".pyc", ".pyo")):
            yield name

print(json.dumps(sorted(walk(files("twisted_push"), "twisted_push"))))
"""

ASK_FOR_REACTOR = """
import json, sys
import twisted.plugins.twisted_push_plugin
print(json.dumps([m for m in sys.modules if m in ("twisted.internet.reactor", "twisted_push")]))
"""


def attempt(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command away from the working tree and its settings."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "TWISTED_PUSH_", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed; return what it printed."""
    result = attempt(*command, cwd=cwd)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean copy of the tree: what git tracks, and what it would if asked to add all."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone, to tell the tree's files from generated ones")
    # A clone may belong to another user than the one who tests it.
    command = f"{git} -c safe.directory=* ls-files -z --cached --others --exclude-standard"
    listed = subprocess.run(
        command.split(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    copy = tmp_path_factory.mktemp("packaging") / "tree"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # Git also lists what was deleted and not yet committed.
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def package_files(tree: Path) -> list[str]:
    """Return the files that have to be in the package, as the tree has them."""
    return sorted(
        str(path.relative_to(tree))
        for path in (tree / "twisted_push").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    )


@frozen
class Built:
    """Where the built archives are."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tree: Path) -> Built:
    """Build the sdist from the tree, and the wheel from the sdist."""
    out = tree.parent / "dist"
    source = tree.parent / "source"
    shutil.copytree(tree, source)  # setuptools leaves things behind.
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=tree.parent)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Built(sdist=sdist, wheel=wheel)


@frozen
class Installed:
    """An environment with the package in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def ask(self, source: str) -> list[str] | list[list[str]]:
        """Run a program that prints JSON; return the value."""
        answer = json.loads(run(self.python, "-c", source, cwd=self.folder))
        assert isinstance(answer, list)
        return answer

    def script(self, name: str, *arguments: str) -> str:
        """Run an installed program; return what it printed."""
        return run(self.folder / "bin" / name, *arguments, cwd=self.folder)

    def forget_plugins(self, tree: Path) -> None:
        """Remove the caches of Twisted's plugin system."""
        for folder in (self.folder, tree):
            for cache in folder.rglob("dropin.cache"):
                cache.unlink()


@pytest.fixture(scope="module", params=["wheel", "sdist", "editable"])
def installed(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """Install the package in one of the three ways."""
    if request.param == "editable":
        what: list[str | Path] = ["--editable", tree]
    else:
        what = [getattr(request.getfixturevalue("built"), request.param)]
    folder = tmp_path_factory.mktemp(request.param) / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-input", *what, cwd=folder)
    run(*pip, "check", cwd=folder)
    return Installed(folder)


# --- The tree --------------------------------------------------------------------------------


def test_twisteds_namespace_is_left_open() -> None:
    # With an __init__.py here, `import twisted.internet` would fail in this folder.
    assert not (ROOT / "twisted" / "__init__.py").exists()
    assert not (ROOT / "twisted" / "plugins" / "__init__.py").exists()


def test_the_plugin_file_holds_the_service_maker_and_nothing_else() -> None:
    docstring, *statements = ast.parse((ROOT / PLUGIN).read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert [type(statement) for statement in statements] == [ast.ImportFrom, ast.Assign]
    assert ast.unparse(statements[0]) == "from twisted.application.service import ServiceMaker"
    assert ast.unparse(statements[1]).startswith("push = ServiceMaker('push', 'twisted_push.")


# --- What is built ---------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_the_plugin(tree: Path, built: Built) -> None:
    names = sorted(
        name
        for name in zipfile.ZipFile(built.wheel).namelist()
        if ".dist-info/" not in name and not name.endswith("/")
    )
    assert names == sorted([*package_files(tree), PLUGIN])
    assert "twisted_push/py.typed" in names


def test_the_sdist_can_be_tested_and_deployed(tree: Path, built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and path.name != ".gitignore" and ".github" not in path.parts
    }
    assert not wanted - names
    assert not [name for name in names if name.endswith(("dropin.cache", ".pyc"))]
    assert not [name for name in names if "node_modules" in name]


# --- What is installed -----------------------------------------------------------------------


def test_the_plugin_is_found(installed: Installed) -> None:
    plugins = installed.ask(ASK_FOR_PLUGINS)
    assert [plugin for plugin in plugins if plugin[0] == "push"] == [
        ["push", "twisted_push.service"]
    ]


def test_everything_is_installed(installed: Installed, tree: Path) -> None:
    assert installed.ask(ASK_FOR_FILES) == package_files(tree)


def test_the_plugin_imports_neither_the_reactor_nor_the_server(installed: Installed) -> None:
    assert installed.ask(ASK_FOR_REACTOR) == []


def test_twistd_lists_push(installed: Installed) -> None:
    listed = [line.split()[:1] for line in installed.script("twistd", "--help").splitlines()]
    assert ["push"] in listed


@pytest.mark.parametrize("command", [["--help"], ["push", "--help"]], ids=" ".join)
def test_twistd_can_choose_the_reactor_with_a_cold_plugin_cache(
    installed: Installed, tree: Path, command: list[str]
) -> None:
    # A plugin that imports the reactor fails here, and only until the cache has been written.
    installed.forget_plugins(tree)
    assert "push" in installed.script("twistd", "--reactor=asyncio", *command)


def test_the_command_is_installed(installed: Installed) -> None:
    assert "serve" in installed.script("twisted-push", "--help")


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "set TWISTED_PUSH_CONFIG"),
        ({"TWISTED_PUSH_CONFIG": "/nowhere/push.toml"}, "/nowhere/push.toml"),
    ],
    ids=["no variable", "no file"],
)
def test_the_tac_file_says_what_it_lacks(
    installed: Installed, tree: Path, variables: dict[str, str], complaint: str
) -> None:
    twistd = installed.folder / "bin" / "twistd"
    result = attempt(
        twistd, "--nodaemon", "--pidfile=", "-y", tree / "push.tac", cwd=tree.parent, **variables
    )
    assert result.returncode == 1, result.stdout
    assert complaint in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
