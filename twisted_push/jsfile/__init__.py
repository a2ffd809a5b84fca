"""The values in a JavaScript file, without running it. No IO."""

from twisted_push.jsfile.reader import (
    MAX_DEPTH,
    MAX_SIZE,
    JsFile,
    JsFileError,
    JsObject,
    Path,
    Place,
    read,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_SIZE",
    "JsFile",
    "JsFileError",
    "JsObject",
    "Path",
    "Place",
    "read",
]
