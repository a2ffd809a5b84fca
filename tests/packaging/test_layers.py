"""The architecture, as far as imports can tell: who may import whom, and what stays where.

Modules import only downwards through the layers below, never sideways between the units of one
layer, and never in a circle. A unit is what stands directly in ``twisted_push``: a module, or a
sub-package with all its modules. A unit that is missing from the table is an error, so that the
table stays true.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "twisted_push"
ROOT = Path(__file__).parents[2]

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"model", "errors", "jsontext"}),
    frozenset({"interfaces"}),
    frozenset(
        {
            "config",
            "policy",
            "hub",
            "history",
            "presence",
            "wheel",
            "deadline",
            "logbook",
            "wires",
            "stats",
            "protocols",
            "jsfile",
        },
    ),
    frozenset(
        {
            "session",
            "cms",
            "engines",
            "web",
            "configfile",
            "client",
            "nodejsconfig",
            "fairness",
        }
    ),
    frozenset({"node"}),
    frozenset({"dialects"}),
    frozenset(
        {
            "transports",
            "backend",
            "ops",
            "demo",
            "systemd",
            "sharedport",
            "collector",
            "questions",
            "stopping",
        }
    ),
    frozenset({"assembly"}),
    frozenset({"service", "cli", "bench"}),
)
LAYER_OF = {unit: number for number, units in enumerate(LAYERS) for unit in units}

#: Imports within a layer that are allowed all the same: (importer, imported). The rules of a
#: policy are those of a configuration.
SIDEWAYS = frozenset({("jsontext", "errors"), ("policy", "config")})

#: The layers that do no IO, and what they therefore must not import.
PURE_LAYERS = range(3)
IO_MODULES = ("twisted.web", "autobahn", "treq", "sqlite3", "redis", "hiredis")

#: The only units whose functions may import the global reactor.
REACTOR = "twisted.internet.reactor"
REACTOR_UNITS = frozenset({"service", "cli"})

MAX_LINES = 400

Sources = dict[str, str]
"""The source of each module, by its dotted name; ``….__init__`` for that of a package."""


# --- The rules -------------------------------------------------------------------------------


def imports(source: str) -> Iterator[tuple[str, int, bool]]:
    """Yield each imported dotted name, its line, and whether a function holds the import.

    ``from a import b`` yields ``a.b``: whether ``b`` is a module is for the reader to find out.
    """

    def visit(node: ast.AST, in_function: bool) -> Iterator[tuple[str, int, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, in_function
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            for alias in node.names:
                yield f"{start}.{alias.name}", node.lineno, in_function
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(source), False)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def unit_of(module: str) -> str | None:
    """Return the unit of a dotted name in the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__init__" else None


def layer_problems(sources: Sources) -> Iterator[str]:
    """Yield each import that does not go downwards, and each unit without a layer."""
    for unit in sorted({unit for module in sources if (unit := unit_of(module))}):
        if unit not in LAYER_OF:
            yield f"{PACKAGE}.{unit} has no layer: add it to LAYERS in {Path(__file__).name}"
    for module, source in sources.items():
        unit = unit_of(module)
        for name, line, _ in imports(source):
            where = f"{module}:{line} imports {name}"
            if name.startswith("."):
                yield f"{where}: write the absolute name"
            if unit is None or not within(name, PACKAGE):
                continue
            other = unit_of(name)
            if other is None or other not in LAYER_OF:
                yield f"{where}: that is not a unit of {PACKAGE}"
            elif unit in LAYER_OF and other != unit and (unit, other) not in SIDEWAYS:
                if LAYER_OF[other] == LAYER_OF[unit]:
                    yield f"{where}: sideways, within layer {LAYER_OF[unit]}"
                elif LAYER_OF[other] > LAYER_OF[unit]:
                    yield f"{where}: upwards, from layer {LAYER_OF[unit]} to {LAYER_OF[other]}"


def cycle_problems(sources: Sources) -> Iterator[str]:
    """Yield a circle of modules that import each other, if there is one."""

    def module_named(name: str) -> str | None:
        while name:
            for candidate in (name, f"{name}.__init__"):
                if candidate in sources:
                    return candidate
            name = name.rpartition(".")[0]
        return None

    graph = {
        module: {
            target
            for name, _, _ in imports(source)
            if (target := module_named(name)) and target != module
        }
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "a circle: " + " <- ".join(error.args[1])


def io_problems(sources: Sources) -> Iterator[str]:
    """Yield each import by a pure layer of something that does IO."""
    for module, source in sources.items():
        layer = LAYER_OF.get(unit_of(module) or "")
        if layer is None or layer not in PURE_LAYERS:
            continue
        for name, line, _ in imports(source):
            if any(within(name, io) for io in IO_MODULES):
                yield f"{module}:{line} imports {name}: layer {layer} does no IO"


def reactor_problems(sources: Sources) -> Iterator[str]:
    """Yield each import of the global reactor but those in a function of service and cli."""
    for module, source in sources.items():
        for name, line, in_function in imports(source):
            if within(name, REACTOR) and not (in_function and unit_of(module) in REACTOR_UNITS):
                yield f"{module}:{line} imports the reactor"


def init_problems(sources: Sources) -> Iterator[str]:
    """Yield each package without an __init__, and each statement that does not belong in one.

    What belongs there: a docstring, names of the package's own modules, and ``__all__``.
    """
    packages = {module.rpartition(".")[0] for module in sources}
    for package in sorted(packages):
        if f"{package}.__init__" not in sources:
            yield f"{package} has no __init__.py"
    for module, source in sources.items():
        if not module.endswith(".__init__"):
            continue
        tree = ast.parse(source)
        if ast.get_docstring(tree) is None:
            yield f"{module} has no docstring"
        for node in tree.body[1:]:
            if _is_own_export(node, module.removesuffix(".__init__")):
                continue
            names: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                names = node.targets
            elif isinstance(node, ast.AnnAssign):
                names = [node.target]
            if [ast.unparse(name) for name in names] != ["__all__"]:
                yield f"{module}:{node.lineno} holds more than a docstring and names"


def _is_own_export(node: ast.stmt, package: str) -> bool:
    """Tell whether a statement only offers a name of the package's own modules."""
    return isinstance(node, ast.ImportFrom) and within(node.module or "", package)


def length_problems(sources: Sources) -> Iterator[str]:
    """Yield each module that is too long to be read in one sitting."""
    for module, source in sources.items():
        if (lines := len(source.splitlines())) > MAX_LINES:
            yield f"{module} has {lines} lines; {MAX_LINES} is the most"


RULES = (
    layer_problems,
    cycle_problems,
    io_problems,
    reactor_problems,
    init_problems,
    length_problems,
)


# --- The package keeps them ------------------------------------------------------------------


def read_package() -> Sources:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted((ROOT / PACKAGE).rglob("*.py"))
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Sources], Iterator[str]]) -> None:
    sources = read_package()
    assert f"{PACKAGE}.__init__" in sources
    problems = list(rule(sources))
    assert not problems, "\n" + "\n".join(problems)


# --- The rules find what they should ---------------------------------------------------------

FINE = {
    "twisted_push.__init__": '"""Doc."""\n__all__: list[str] = []\n',
    "twisted_push.errors": "import enum\n",
    "twisted_push.jsontext": "from twisted_push.errors import ProtocolError\n",
    "twisted_push.model": "import attrs\n",
    "twisted_push.hub": "from twisted_push.model import Grant\nfrom twisted_push import errors\n",
    "twisted_push.engines.__init__": '"""Doc."""\n__all__ = ["memory"]\n',
    "twisted_push.engines.memory": "import sqlite3\nfrom twisted_push.engines import base\n",
    "twisted_push.engines.base": "from twisted_push.interfaces import IEngine\n",
    "twisted_push.interfaces": "from twisted_push import model\n",
    "twisted_push.service": (
        "import twisted_push.engines.memory\n"
        "def makeService():\n    from twisted.internet import reactor\n"
    ),
}


def test_a_good_package_has_no_problems() -> None:
    assert [problem for rule in RULES for problem in rule(FINE)] == []


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("model", "import twisted_push.hub", "upwards, from layer 0 to 2"),
        ("model", "from twisted_push import hub", "upwards, from layer 0 to 2"),
        ("model", "def f():\n    from twisted_push.hub import Hub", "upwards, from layer 0 to 2"),
        ("hub", "from twisted_push import config", "sideways, within layer 2"),
        ("errors", "from twisted_push import jsontext", "sideways, within layer 0"),
        ("cms", "from twisted_push.engines.memory import X", "sideways, within layer 3"),
        ("novelty", "", "twisted_push.novelty has no layer"),
        ("hub", "from twisted_push import novelty", "not a unit"),
        ("hub", "import twisted_push", "not a unit"),
        ("hub", "from . import model", "write the absolute name"),
        ("hub", "from .model import Grant", "write the absolute name"),
        ("engines.base", "from twisted_push.engines import memory", "a circle"),
        ("errors", "from twisted_push import jsontext", "a circle"),
        ("hub", "import autobahn.websocket", "layer 2 does no IO"),
        ("hub", "from twisted import web", "layer 2 does no IO"),
        ("hub", "from twisted.web.http import OK", "layer 2 does no IO"),
        ("model", "def f():\n    import sqlite3", "layer 0 does no IO"),
        ("service", "from twisted.internet import reactor", "imports the reactor"),
        ("service", "class A:\n    import twisted.internet.reactor", "imports the reactor"),
        ("node", "def f():\n    from twisted.internet import reactor", "imports the reactor"),
        ("node", "def f():\n    from twisted.internet.reactor import run", "imports the reactor"),
        ("engines.__init__", '"""Doc."""\nimport os\n', "more than a docstring"),
        ("engines.__init__", '"""Doc."""\nVERSION = 1\n', "more than a docstring"),
        ("engines.__init__", "__all__ = []\n", "no docstring"),
        ("backend.api", "", "twisted_push.backend has no __init__.py"),
        ("hub", "x = 1\n" * 401, "has 401 lines"),
    ],
)
def test_a_broken_rule_is_found(module: str, source: str, problem: str) -> None:
    sources = {**FINE, f"{PACKAGE}.{module}": source}
    found = [words for rule in RULES for words in rule(sources)]
    assert any(problem in words for words in found), found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hub", "from twisted.internet.interfaces import IReactorTime"),
        ("cli", "async def main():\n    import twisted.internet.reactor"),
        ("cms", "import treq\nfrom twisted.web.client import Agent"),
        ("engines.__init__", '"""Doc."""\n'),
        ("hub", "x = 1\n" * 400),
    ],
)
def test_a_kept_rule_is_left_alone(module: str, source: str) -> None:
    sources = {**FINE, f"{PACKAGE}.{module}": source}
    assert [problem for rule in RULES for problem in rule(sources)] == []
