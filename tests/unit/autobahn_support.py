"""Which names of Autobahn the code leans on, and which of them it documents."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

from autobahn.websocket.interfaces import IWebSocketChannelStreamingApi

DOCUMENTED = frozenset(dir(IWebSocketChannelStreamingApi))

_OWN = {"self", "super()", "WebSocketServerProtocol"}


def leans_on(*modules: ModuleType) -> set[str]:
    """Give the names that classes define, and those that they want of themselves or a parent."""
    nodes = [node for each in modules for node in ast.walk(ast.parse(inspect.getsource(each)))]
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    wanted = (node for node in nodes if isinstance(node, ast.Attribute))
    return defined | {node.attr for node in wanted if ast.unparse(node.value) in _OWN}
