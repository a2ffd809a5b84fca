"""The generic walker: a mapping and the classes of `schema` in, values and faults out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import Attribute, AttrsInstance, define, field, fields, frozen

from twisted_push.config.schema import keys_of
from twisted_push.config.values import Parser, show
from twisted_push.errors import ConfigError

__all__ = ["EnvironmentText", "Faults", "Walker", "join"]

T = TypeVar("T", bound=AttrsInstance)
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MISSING: Any = object()


@frozen
class EnvironmentText:
    """A value that the environment variable ``name`` gave."""

    name: str
    text: str = field(repr=False)


def join(path: str, name: str) -> str:
    """Give the dotted path of a key in the table at ``path``."""
    name = name if _PLAIN.fullmatch(name) else show(name)
    return f"{path}.{name}" if path else name


@define
class Faults:
    """Collects faults, one for each path, in the order in which they were found."""

    _found: dict[str, ConfigError] = field(factory=dict)

    def add(self, path: str, message: str) -> None:
        """Note a fault, unless there is one at this path already."""
        self._found.setdefault(path, ConfigError(path, message))

    def at(self, *paths: str) -> bool:
        """Tell whether one of these paths, or an item of a list there, has a fault."""
        starts = tuple(f"{path}[" for path in paths)
        return any(found in paths or found.startswith(starts) for found in self._found)

    def all(self) -> tuple[ConfigError, ...]:
        """Give every fault."""
        return tuple(self._found.values())


@frozen
class Walker:
    """Builds values of the schema's classes. A faulty value is noted and its default taken."""

    _read_file: Callable[[str], str]
    _faults: Faults

    def table(self, raw: object, path: str) -> Mapping[str, object]:
        """Give ``raw`` as a table; if it is none, note the fault and give an empty one."""
        if isinstance(raw, Mapping):
            return raw
        self._faults.add(path, f"must be a table{_source(raw)}")
        return {}

    def build(self, cls: type[T], raw: object, path: str, also: Iterable[str] = ()) -> T:
        """Make a ``cls`` of a table; keys in ``also`` are known and left to the caller."""
        given = self.table(raw, path)
        known = list(also)
        values: dict[str, object] = {}
        for attribute in fields(cls):
            keys = keys_of(attribute)
            known += keys
            found = {key: given[key] for key in keys if key in given}
            if found:
                value = self._value(attribute, found, path)
                if value is not _MISSING:
                    values[attribute.name] = value
        for name in given:
            if name not in known:
                self._unknown(name, given[name], known, path)
        return cls(**values)

    def _unknown(self, name: str, value: object, known: list[str], path: str) -> None:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self._faults.add(join(path, name), f"unknown key{_source(value)}{hint}")

    def _value(self, attribute: Attribute[Any], found: dict[str, object], path: str) -> Any:
        """Give the value of one field, or `_MISSING` if it has a fault."""
        metadata = attribute.metadata
        name = attribute.name
        if "file" in metadata:
            return self._secret(attribute, found, path)
        if "table" in metadata:
            return self.build(metadata["table"], found[name], join(path, name))
        if "tables" in metadata:
            return self._tables(metadata["tables"], found[name], join(path, name))
        return self._parse(metadata["parser"], found[name], join(path, name))

    def _tables(self, cls: type[T], raw: object, path: str) -> Any:
        if not isinstance(raw, list | tuple):
            only = "must be a list of tables, and can only be given in the file"
            self._faults.add(path, only + _source(raw))
            return _MISSING
        return tuple(self.build(cls, each, f"{path}[{index}]") for index, each in enumerate(raw))

    def _parse(self, parser: Parser[Any], value: object, path: str) -> Any:
        source = _source(value)
        if isinstance(value, EnvironmentText):
            value = parser.from_text(value.text)
        if parser.item is None or not isinstance(value, list | tuple):
            return self._read(parser, value, path, source)
        items = [
            self._read(parser.item, each, f"{path}[{index}]", source)
            for index, each in enumerate(value)
        ]
        return _MISSING if any(each is _MISSING for each in items) else tuple(items)

    def _read(self, parser: Parser[Any], value: object, path: str, source: str) -> Any:
        try:
            return parser.read(value)
        except ValueError as error:
            self._faults.add(path, parser.complaint(value, error) + source)
            return _MISSING

    def _secret(self, attribute: Attribute[Any], found: dict[str, object], path: str) -> Any:
        """Give a secret from its key or its file. Empty texts count as not given."""
        keys = [key for key, value in found.items() if not _empty(value)]
        if not keys:
            return _MISSING
        parser: Parser[Any] = attribute.metadata["parser"]
        where = join(path, keys[0])
        if len(keys) > 1:
            self._faults.add(where, f"given twice: keep either {keys[0]} or {keys[1]}")
            return _MISSING
        if keys[0] == attribute.name:
            return self._parse(parser, found[keys[0]], where)
        file_name = self._parse(attribute.metadata["file"], found[keys[0]], where)
        return _MISSING if file_name is _MISSING else self._from_file(parser, file_name, where)

    def _from_file(self, parser: Parser[Any], file_name: str, path: str) -> Any:
        """Give the secret in a file, without the white space around it."""
        try:
            content = self._read_file(file_name).strip()
        except OSError as error:
            why = error.strerror or "it cannot be opened"
            self._faults.add(path, f"cannot read {show(file_name)}: {why}")
            return _MISSING
        except ValueError:  # Bytes that are not UTF-8, or a NUL in the name.
            self._faults.add(path, f"cannot read {show(file_name)}: it is not UTF-8 text")
            return _MISSING
        if not content:
            self._faults.add(path, f"{show(file_name)} is empty")
            return _MISSING
        return self._parse(parser, content, path)


def _source(value: object) -> str:
    """Name the variable that a value, or the first one in a table, came from, if one did."""
    while isinstance(value, Mapping) and value:
        value = next(iter(value.values()))
    return f" (from {value.name})" if isinstance(value, EnvironmentText) else ""


def _empty(value: object) -> bool:
    return (value.text if isinstance(value, EnvironmentText) else value) == ""
