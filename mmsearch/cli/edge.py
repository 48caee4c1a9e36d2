"""Where the library ends and the command line begins: errors, exit codes, shared options."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from mmsearch import errors
from mmsearch.cli.text import plain

# error -> exit code; a test proves that every public error has one. The README lists them.
EXIT_CODES: dict[type[BaseException], int] = {
    errors.UsageError: 2,
    errors.IndexNotFound: 3,
    errors.IndexDamaged: 4,
    errors.IndexTooNew: 4,
    errors.IndexLocked: 5,
    errors.IndexNotReadable: 5,
    errors.IndexNotWritable: 5,
    errors.StoreError: 4,
    errors.SpaceError: 6,
    errors.DimensionMismatch: 6,
    errors.DecodeError: 7,
    errors.ProcessingFailed: 1,
    errors.MmsearchError: 1,
}
INTERRUPTED = 130
# what typer raises for a call that it cannot parse: of click, or of its own copy of it
CallError: type[Any] = typer.BadParameter.__bases__[0]

IndexOption = Annotated[
    str,
    typer.Option("--index", "-i", metavar="NAME|PATH", help="The index: a name or a folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
ToOption = Annotated[
    str, typer.Option("--to", metavar="image|text|audio|any", help="What the hits must be.")
]


@contextmanager
def edge() -> Iterator[None]:
    """Turns the library's errors into one line on stderr and an exit code."""
    try:
        yield
    except errors.MmsearchError as e:
        say(f"mmsearch: {' '.join(str(e).split(chr(10)))}")  # a library's words may have lines
        raise typer.Exit(exit_code(e)) from None
    except KeyboardInterrupt as e:
        kept = "stopped. What was committed is kept; run the same command to go on."
        say(f"\nmmsearch: {e.args[0] if e.args else kept}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader has seen enough (`| head`): not our error
        drop_output()
        raise typer.Exit(0) from None
    except OSError as e:
        say(f"mmsearch: {e.filename or 'input or output'}: {e.strerror or e}.")
        if e.filename is None:
            drop_output()
        raise typer.Exit(1) from None
    except MemoryError:
        say("mmsearch: out of memory. Try fewer --workers.")
        raise typer.Exit(1) from None


def drop_output() -> None:
    """Sends what is still to be printed nowhere: nobody reads it, or it cannot be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wrong_call(error: Any) -> int:
    """Says in one line what is wrong with a call (a ``CallError``); returns the exit code."""
    message = str(error.format_message())
    if "\n" in message:  # no arguments at all: the help
        error.show()
    else:
        command = error.ctx.command_path if error.ctx else "mmsearch"
        said = message[:1].lower() + message[1:].rstrip(" .")
        say(f"{command}: {said}{'' if said.endswith('?') else ';'} see `{command} --help`.")
    return int(error.exit_code)


def exit_code(error: errors.MmsearchError) -> int:
    """The exit code of an error: that of its nearest ancestor in ``EXIT_CODES``."""
    return next(EXIT_CODES[c] for c in type(error).__mro__ if c in EXIT_CODES)


def say(text: str) -> None:
    """Prints talk: to stderr, with nothing that a terminal would obey."""
    print("\n".join(plain(line) for line in text.split("\n")), file=sys.stderr)  # noqa: T201


def print_json(body: dict[str, Any]) -> None:
    """Prints one JSON object to stdout."""
    import json

    typer.echo(json.dumps(body, allow_nan=False))


def lift_pillows_ceiling() -> None:
    """Lets pictures be as large as mmsearch's own limits allow: this process is ours."""
    from mmsearch import media

    media.lift_pillows_ceiling()


def folder_of(name: str) -> Path:
    """The folder of an index by its name or path."""
    from mmsearch.store.names import resolve

    return resolve(name)
