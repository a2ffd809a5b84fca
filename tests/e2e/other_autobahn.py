"""Runs the server with an Autobahn in which ``NAME``, the first argument, is named otherwise."""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any


class Renaming(SourceFileLoader):
    """Loads a module whose source says ``NAME_2`` wherever it says ``NAME``."""

    name_to_change = re.compile(rb"\b(%s)\b" % sys.argv[1].encode())

    def get_data(self, path: Any) -> bytes:
        return self.name_to_change.sub(rb"\1_2", super().get_data(path))

    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode is read or written")


class Finder(PathFinder):
    """Has the modules of Autobahn loaded like that."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = super().find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Renaming(fullname, spec.loader.path)
        return spec if fullname.startswith("autobahn") else None


if __name__ == "__main__":
    sys.meta_path.insert(0, Finder)
    from twisted_push.cli import main

    sys.exit(main(sys.argv[2:]))
