"""Reads the configuration from its file, the environment and the files of its secrets."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import evolve

from twisted_push.config import Config, load
from twisted_push.errors import ConfigError, ConfigErrors

__all__ = ["read_config"]


def read_config(path: str | None) -> Config:
    """Give the configuration of the file at ``path``; None: of the environment and the defaults.

    A relative name of a secret's file is looked for among systemd's credentials, then beside
    the configuration file; a relative ``state_dir`` is beside it. Raises `ConfigErrors`.
    """
    folder = Path() if path is None else Path(path).parent

    def read_file(name: str) -> str:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials and (credential := Path(credentials, name)).is_file():
            return credential.read_text(encoding="utf-8")
        return (folder / name).read_text(encoding="utf-8")

    try:
        text = "" if path is None else _read(path)
        config = load(text, environ=os.environ, read_file=read_file)
        return _with_directory(config, folder)
    except ConfigErrors as faults:
        # A fault of no key is one of the file: name it.
        named = (ConfigError(fault.path or path or "", fault.message) for fault in faults.errors)
        raise ConfigErrors(tuple(named)) from None


def _with_directory(config: Config, folder: Path) -> Config:
    """Name the state directory in full: a daemon changes the directory that it works in."""
    if not config.state_dir:
        return config
    return evolve(config, state_dir=str(folder.absolute() / config.state_dir))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        why = error.strerror or "it cannot be opened"
    except ValueError:  # Bytes that are not UTF-8, or a NUL in the path.
        why = "it is not UTF-8 text"
    raise ConfigErrors((ConfigError(path, f"cannot be read: {why}"),))
