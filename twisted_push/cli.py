"""The command line: ``twisted-push serve``, ``init``, ``publish`` and the others.

``serve`` becomes twistd. The commands that ask a running server take its key from the
configuration file or from TWISTED_PUSH_KEY, never from their arguments, which every user of the
machine can read.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

from twisted_push.client import ApiFailure
from twisted_push.config import template
from twisted_push.configfile import read_config
from twisted_push.errors import ConfigErrors
from twisted_push.jsfile import MAX_SIZE, JsFileError
from twisted_push.nodejsconfig import import_settings
from twisted_push.questions import CommandError, Said, add_commands, add_options

__all__ = ["main"]

DEFAULT_FILE = "push.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (``argv`` without the program's name) and give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], Said] = options.run
    try:
        _show(run(options))
        sys.stdout.flush()
    except ConfigErrors as faults:
        print(faults, file=sys.stderr)
        return 1
    except (ApiFailure, CommandError) as error:
        print(f"twisted-push: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # The reader had enough: `twisted-push users | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _show(said: Said) -> None:
    """Print what a command has to say: a line or more, or bytes as they are."""
    if isinstance(said, str):
        if said:
            print(said)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(said)


# --- The server ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> Said:
    """Become twistd, in the foreground and without a pid file."""
    from twisted.scripts import twistd

    if options.config is not None or not options.demo:
        read_config(options.config)  # Faults are told here, without twistd's help around them.
    arguments = ["--nodaemon", "--pidfile=", "push"]
    if options.config is not None:
        arguments += ["--config", options.config]
    for endpoint in options.listen:
        arguments += ["--listen", endpoint]
    if options.demo:
        arguments.append("--demo")
    sys.argv = ["twistd", *arguments]
    twistd.run()
    return ""


# --- Its file ------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> Said:
    """Write a new configuration file, which only its owner can read; never over another."""
    if options.file == "-":
        return template().removesuffix("\n")
    _write_new({options.file: template()})
    return (
        f"{options.file}: written, with fresh secrets\n"
        f"start the server with: twisted-push serve --config {options.file}"
    )


def _check_config(options: argparse.Namespace) -> Said:
    read_config(options.file)
    return f"{options.file}: ok"


def _import_nodejs_config(options: argparse.Namespace) -> Said:
    """Write a configuration file made of the old server's settings; say what to know about it."""
    output: str = options.output
    # A name that TOML cannot hold is left to the one who chose it.
    auth_file = f"{output}.basic-auth" if output != "-" and output.isprintable() else ""
    try:
        made = import_settings(_read_text(options.file), auth_file=os.path.basename(auth_file))
    except JsFileError as error:
        raise CommandError(f"{options.file}: {error}") from None
    files = {auth_file: f"{made.basic_auth}\n"} if made.basic_auth else {}
    if output != "-":
        _write_new({**files, output: made.toml})
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if output == "-":
        return made.toml.removesuffix("\n")
    written = "".join(f"{name}: written\n" for name in (*files, output))
    return f"{written}check it, then start with: twisted-push serve --config {output}"


def _read_text(path: str) -> str:
    """Give the text of a file of at most `MAX_SIZE` bytes."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise CommandError(f"{path}: it is larger than {MAX_SIZE // 2**20} MiB")
        return content.decode("utf-8-sig")
    except OSError as error:
        why = error.strerror or "it cannot be opened"
    except ValueError:  # Bytes that are not UTF-8, or a NUL in the path.
        why = "it is not UTF-8 text"
    raise CommandError(f"{path}: cannot be read: {why}")


def _write_new(files: Mapping[str, str]) -> None:
    """Write new files that only their owner can read: all of them or none, never over another."""
    written: list[str] = []
    path = ""
    try:
        for path, text in files.items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(path)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        for done in written:
            os.unlink(done)
        if isinstance(error, FileExistsError):
            raise CommandError(f"{path} is there already; it was left as it is") from None
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


# --- The arguments -------------------------------------------------------------------------


def _version() -> str:
    try:
        return metadata.version("twisted-push")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twisted-push",
        description="A push server for content management systems, and its tools.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"twisted-push {_version()}")
    add_options(parser, None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], Said], text: str, *, asks: bool = True
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        if asks:  # Suppressed defaults leave alone what stood before the command.
            add_options(command, argparse.SUPPRESS)
        return command

    serve = add("serve", _serve, "run the server in the foreground", asks=False)
    serve.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS)
    serve.add_argument(
        "--listen", metavar="ENDPOINT", action="append", default=[], help="instead of the file's"
    )
    serve.add_argument("--demo", action="store_true", help="with the demo pages")
    init = add("init", _init, "write a configuration file with fresh secrets", asks=False)
    init.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_FILE, help="or - to print")
    check = add("check-config", _check_config, "report all faults of a file", asks=False)
    check.add_argument("file", metavar="FILE")
    text = "make a configuration file of the settings of Drupal's Node server"
    old = add("import-nodejs-config", _import_nodejs_config, text, asks=False)
    old.add_argument("file", metavar="FILE", help="nodejs.config.js; it is read, never run")
    old.add_argument("--output", metavar="OUT", default=DEFAULT_FILE, help="or - to print")
    add_commands(add)
    return parser


if __name__ == "__main__":
    sys.exit(main())
