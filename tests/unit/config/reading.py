"""Reads configurations for the tests of this folder, from texts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from twisted_push.config import Config, load
from twisted_push.errors import ConfigErrors

KEY = "a-key-that-is-long-enough"
OTHER_KEY = "another-key-of-good-length"
TOKEN_SECRET = "a token secret of more than thirty-two bytes"

SECRET = "s3cr3t"


def files(contents: Mapping[str, str]) -> Callable[[str], str]:
    """Make a reader of files that are not there."""

    def read_file(name: str) -> str:
        if name not in contents:
            raise FileNotFoundError(2, "No such file or directory", name)
        return contents[name]

    return read_file


def read(
    text: str = "",
    environ: Mapping[str, str] | None = None,
    contents: Mapping[str, str] | None = None,
) -> Config:
    return load(text, environ=environ or {}, read_file=files(contents or {}))


def faults(
    text: str = "",
    environ: Mapping[str, str] | None = None,
    contents: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give the faults of a configuration by path."""
    with pytest.raises(ConfigErrors) as caught:
        read(text, environ, contents)
    return {error.path: error.message for error in caught.value.errors}


def site(more: str, name: str = "default", key: str = KEY) -> str:
    return f'[sites.{name}]\nkey = "{key}"\n{more}\n'
