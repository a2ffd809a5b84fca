"""The settings of the old server: values that can be used, and notes on those that cannot."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from twisted_push.jsfile import JsFile, JsFileError, JsObject, Path, Place

__all__ = ["TAKEN", "OldSettings", "find"]

TAKEN = "its default was taken"

_ROOTS: tuple[Path, ...] = (
    ("settings",),
    ("backendSettings",),
    ("module", "exports"),
    ("exports", "settings"),
    ("exports", "backendSettings"),
    (),
)
"""The names that the old servers look for, and a file that is nothing but the object."""

_LONGEST_NAME = 60


def find(file: JsFile) -> JsObject:
    """Give the object that holds the settings. Raises `JsFileError` if there is none."""
    for name in _ROOTS:
        if name in file.objects:
            return file.objects[name]
    if len(set(map(id, file.objects.values()))) == 1:
        return next(iter(file.objects.values()))
    raise JsFileError(Place(1, 1), "there is no `settings = {…}` and no `module.exports = {…}`")


@define
class OldSettings:
    """The old settings: gives values that can be used, and collects the notes, each once."""

    _object: JsObject
    _notes: dict[str, None] = field(factory=dict)
    _used: set[Path] = field(factory=set)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes in their order."""
        return tuple(self._notes)

    def note(self, message: str, path: Path = ()) -> None:
        """Add a note; with a path it tells key and place."""
        place = self._object.places.get(path)
        name = ".".join(map(_shown, path))
        self._notes["".join(f"{part}: " for part in (place, name) if part) + message] = None

    def ignore(self, *names: str) -> None:
        """Take keys for known whose values do not matter."""
        self._used.update((name,) for name in names)

    def unread(self, path: Path) -> bool:
        """Tell whether a key is in the file with a value that cannot be read."""
        self._used.add(path)
        return path in self._object.unread

    def get(self, path: Path) -> Any:
        """Give a value as it is; None if there is none, or none that can be read."""
        value: Any = self._object.values
        for length, name in enumerate(path, 1):
            if self.unread(path[:length]):
                self.note(f"cannot be read without running it; {TAKEN}", path[:length])
                return None
            if not isinstance(value, dict):
                self.note(f"not an object; {TAKEN}", path[: length - 1])
                return None
            value = value.get(name)
            if value is None:
                return None
        return value

    def text(self, path: Path, default: str = "") -> str:
        """Give a printable text."""
        value = self.get(path)
        if value is None:
            return default
        if isinstance(value, str) and value.isprintable() and value == value.strip():
            return value
        self.note(f"not a text that can be used; {TAKEN}", path)
        return default

    def scheme(self, path: Path) -> str:
        """Give ``http`` or ``https``."""
        value = self.text(path, "http").lower()
        if value in ("http", "https"):
            return value
        self.note(f"neither http nor https; {TAKEN}", path)
        return "http"

    def port(self, path: Path, default: int) -> int:
        """Give the number of a port."""
        value = self.get(path)
        if value is None or value == "":
            return default
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536:
            return value
        self.note(f"not the number of a port; {TAKEN}", path)
        return default

    def items(self, path: Path) -> list[Path]:
        """Give the paths of what is directly in an array or an object, read or not."""
        return [each for each in self._object.places if each[:-1] == path and each != path]

    def leftovers(self) -> list[Path]:
        """Give the keys that nobody has asked for, those of ``backend`` included."""
        asked = {path[:1] for path in self._used}
        rest = [path for path in self.items(()) if path not in asked]
        return rest + [path for path in self.items(("backend",)) if path not in self._used]


def _shown(name: str) -> str:
    """Give the name of a key for a note: short and printable."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
