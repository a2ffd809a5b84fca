"""Settings from the environment: ``TWISTED_PUSH_SITES__DEFAULT__KEY`` overrides the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted_push.config.walk import EnvironmentText, Faults

__all__ = ["PREFIX", "RESERVED", "fold", "overlay"]

PREFIX = "TWISTED_PUSH_"
RESERVED = frozenset(
    {"TWISTED_PUSH_CONFIG", "TWISTED_PUSH_KEY", "TWISTED_PUSH_TOKEN", "TWISTED_PUSH_URL"}
)
"""Variables of the command line and of `twisted_push.bench`, which are no settings."""

# Kubernetes gives every pod variables for each service of its namespace. A service that is named
# twisted-push (or twisted-push-something) makes these, and they are not for us.
_KUBERNETES = re.compile(
    r"(?:[A-Z0-9]+_)*"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_[0-9]+_[A-Z]+(?:_(?:PROTO|PORT|ADDR))?)?)"
)


def fold(site: str) -> str:
    """Give the form in which names of sites are compared: in the environment all are capitals.

    Dots and dashes cannot stand in the names of variables; underscores take their place.
    """
    return site.lower().replace("-", "_").replace(".", "_")


def overlay(
    raw: Mapping[str, object], environ: Mapping[str, str], faults: Faults
) -> dict[str, object]:
    """Give a copy of ``raw`` with the settings of ``environ`` laid over it.

    A secret in the environment replaces the file's, whether that was given as ``key`` or as
    ``key_file``. What the names say is checked later, by the walker.
    """
    result: dict[str, object] = _copy(raw)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if _KUBERNETES.fullmatch(name[len(PREFIX) :]):
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        if not all(parts) or not _place(result, parts, EnvironmentText(name, environ[name])):
            faults.add(name, "no setting has this name")
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    return value


def _place(target: dict[str, object], parts: list[str], value: EnvironmentText) -> bool:
    """Put a value at its place; False if something that is no table is in the way."""
    for depth, part in enumerate(parts[:-1]):
        key = part
        if depth == 1 and parts[0] == "sites":
            key = next((site for site in target if fold(site) == fold(part)), part)
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            return False
        target = child
    name = parts[-1]
    other = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
    if not isinstance(target.get(other), EnvironmentText):
        target.pop(other, None)
    target[name] = value
    return True
