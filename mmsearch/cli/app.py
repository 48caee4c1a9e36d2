"""The commands. Each parses, calls the library, and shows what came back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mmsearch import errors
from mmsearch.cli.evaluate import evaluate
from mmsearch.cli.text import plain, prepare_streams
from mmsearch.version import __version__

# error -> exit code; a test proves that every public error has one. The README lists them.
EXIT_CODES: dict[type[BaseException], int] = {
    errors.UsageError: 2,
    errors.IndexNotFound: 3,
    errors.IndexDamaged: 4,
    errors.IndexTooNew: 4,
    errors.IndexLocked: 5,
    errors.IndexNotWritable: 5,
    errors.StoreError: 4,
    errors.SpaceError: 6,
    errors.DimensionMismatch: 6,
    errors.DecodeError: 7,
    errors.MmsearchError: 1,
}
INTERRUPTED = 130

app = typer.Typer(
    name="mmsearch",
    help="Search pictures, sounds and writing by meaning, from any of them to any other.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

IndexOption = Annotated[
    str,
    typer.Option("--index", "-i", metavar="NAME|PATH", help="The index: a name or a folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
ToOption = Annotated[
    str, typer.Option("--to", metavar="image|text|audio|any", help="What the hits must be.")
]


def main() -> None:
    """Runs the command line and exits with the code that its README table lists."""
    prepare_streams()
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        # the reader has seen enough (`| head`): not our error
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        sys.exit(0)


@contextmanager
def _edge() -> Iterator[None]:
    """Turns the library's errors into one line on stderr and an exit code."""
    try:
        yield
    except errors.MmsearchError as e:
        _say(f"mmsearch: {e}")
        raise typer.Exit(exit_code(e)) from None
    except KeyboardInterrupt as e:
        kept = "stopped. What was committed is kept; run the same command to go on."
        _say(f"\nmmsearch: {e.args[0] if e.args else kept}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except OSError as e:
        _say(f"mmsearch: {e.filename or 'input or output'}: {e.strerror or e}.")
        raise typer.Exit(1) from None
    except MemoryError:
        _say("mmsearch: out of memory. Try fewer --workers.")
        raise typer.Exit(1) from None


def exit_code(error: errors.MmsearchError) -> int:
    """The exit code of an error: that of its nearest ancestor in ``EXIT_CODES``."""
    return next(EXIT_CODES[c] for c in type(error).__mro__ if c in EXIT_CODES)


def _say(text: str) -> None:
    print("\n".join(plain(line) for line in text.split("\n")), file=sys.stderr)  # noqa: T201


def _json(body: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(body, allow_nan=False))


def _folder(name: str) -> Path:
    from mmsearch.store.names import resolve

    return resolve(name)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def index(
    sources: Annotated[list[str], typer.Argument(metavar="FOLDER", show_default=False)],
    index: IndexOption = "default",
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Embedding space: a name, or a folder from `mmsearch train`. "
            "Default: the index's own; mini for a new one.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out names or paths like this; repeatable."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Also read texts with names like this, e.g. '*.json'."
        ),
    ] = None,
    ann: Annotated[
        str | None,
        typer.Option(metavar="auto|flat|ivfpq", help="Exact search, IVF-PQ, or by size (auto)."),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove items even of a folder that is missing or empty now."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a file was skipped.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Decoding processes. Default: one a core.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Index folders, or bring an index up to date with them.

    Finds what is new, changed, moved or gone, and makes it searchable. What did
    not change is not read; a file that cannot be read is skipped and recorded.

    \b
    mmsearch index ~/Pictures
    mmsearch index ~/Music ~/Notes --index home
    mmsearch index . --exclude '*.psd' --exclude drafts/
    """
    from mmsearch.cli.progress import IndexProgress

    with _edge():
        from mmsearch.indexer import Options, run

        options = Options(
            exclude=tuple(exclude or ()),
            include=tuple(include or ()),
            ann=ann,
            prune=prune,
            workers=workers,
        )
        folder = _folder(index)
        with IndexProgress(sys.stderr) as progress:
            report = run(list(sources), folder, space, options, progress.update)
        if json:
            _json(report.to_json())
        else:
            typer.echo(
                f"indexed {report.indexed:,} · unchanged {report.unchanged:,} · "
                f"removed {report.removed:,} · skipped {report.skipped:,}"
                + (f" · ignored {report.ignored:,}" if report.ignored else "")
                + f" · {report.seconds:.1f} s"
            )
        for path in report.kept:
            _say(
                f"mmsearch: {path} is missing, unreadable or suddenly empty; its items were kept. "
                "If they are really gone, run again with --prune."
            )
        if report.cut:
            _say(f"mmsearch: {report.cut:,} passages were longer than the space reads.")
        if report.skipped and not json:
            _say("`mmsearch info --skipped" + _same(index) + "` says why files were skipped.")
        if not json and not report.indexed and not report.unchanged:
            _say("mmsearch: no pictures, sounds or texts were found there.")
        if strict and report.skipped:
            raise typer.Exit(1)


@app.command()
def query(
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="Look for what is like this picture.")
    ] = None,
    audio: Annotated[
        str | None, typer.Option(metavar="FILE", help="Look for what is like this sound.")
    ] = None,
    to: ToOption = "any",
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            help="Only what meets an SQL condition on id, path, root, modality, start_s, end_s, "
            "text, width, height, taken, duration_s, format, title, page, size, mtime, meta.KEY.",
        ),
    ] = None,
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Query an index with words, a picture or a sound.

    \b
    mmsearch query "a dog on a beach"
    mmsearch query "雷声" --to audio -k 3
    mmsearch query --image cat.jpg --to text
    mmsearch query --audio waves.ogg --to image --json
    mmsearch query "a dog" --where "width > 1000 and path like '%holiday%'"
    mmsearch query "rain" --where "start_s < 60 or mtime >= '2026-01-31'"
    """
    with _edge():
        from mmsearch.searcher import Index

        if sum(asked is not None for asked in (text, image, audio)) != 1:
            raise errors.UsageError("ask with exactly one of: words, --image FILE, --audio FILE.")
        opened = Index(_folder(index))
        results = opened.search(text, image=image, audio=audio, to=to, k=k, where=where)
        if json:
            _json(results.to_json())
            return
        from mmsearch.cli.show import show_results

        show_results(results, empty=len(opened) == 0)


@app.command()
def info(
    index: IndexOption = "default",
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List the files that were skipped, and why.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what an index holds, and what was skipped.

    \b
    mmsearch info
    mmsearch info --skipped --index home
    """
    with _edge():
        from mmsearch.cli.show import show_info, show_skipped
        from mmsearch.info import describe, skipped_files
        from mmsearch.searcher import Index

        opened = Index(_folder(index))
        body = describe(opened)
        if skipped:
            rows = skipped_files(opened)
            if json:
                _json({**body, "skipped_files": rows})
            else:
                show_skipped(rows)
        elif json:
            _json(body)
        else:
            show_info(body)


@app.command()
def verify(index: IndexOption = "default", json: JsonOption = False) -> None:
    """Verify an index by reading all of it.

    Says what is broken and what to do; exits with 1 if anything is.

    \b
    mmsearch verify --index home
    """
    with _edge():
        from mmsearch.store import verify as check

        folder = _folder(index)
        problems = check(folder)
        if json:
            _json(
                {
                    "schema": 1,
                    "index": str(folder),
                    "ok": not problems,
                    "problems": [
                        {"path": p.path, "what": p.what, "remedy": p.remedy} for p in problems
                    ],
                }
            )
        else:
            for p in problems:
                typer.echo(plain(f"{p.path}: {p.what}; {p.remedy}"))
            noun = "problem" if len(problems) == 1 else "problems"
            typer.echo(f"{len(problems)} {noun}" if problems else "all is well")
        if problems:
            raise typer.Exit(1)


@app.command()
def remove(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", show_default=False)],
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Remove files, folders or ids from an index.

    The files themselves stay. One that is still there comes back with the next
    `mmsearch index` over its folder; leave it out there with --exclude.

    \b
    mmsearch remove ~/Pictures/private
    """
    with _edge():
        from mmsearch.indexer import remove_items

        removed = remove_items(_folder(index), paths)
        if json:
            _json({"schema": 1, "removed": removed})
        else:
            typer.echo(f"removed {removed:,}")


@app.command()
def spaces(json: JsonOption = False) -> None:
    """List the embedding spaces, and what each needs.

    \b
    mmsearch spaces
    """
    with _edge():
        from mmsearch.cli.show import show_spaces
        from mmsearch.info import list_spaces

        rows = list_spaces()
        if json:
            _json({"schema": 1, "spaces": rows})
        else:
            show_spaces(rows)


app.command("eval")(evaluate)


def _same(index: str) -> str:
    return "" if index == "default" else f" --index {index}"


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE.toml", show_default=False)],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where an earlier run was stopped.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a space on your own pairs, as a recipe asks.

    Run again after a stop, it goes on from its last checkpoint. Needs the extra `torch`.

    \b
    mmsearch train flowers.toml
    mmsearch index ~/Pictures --space flowers
    """
    with _edge():
        from mmsearch.train import train as run

        report = run(recipe, fresh=fresh, say=_say)
        if os.environ.get("RANK", "0") != "0":
            return  # under torchrun one process speaks for all
        if json:
            _json(report.to_json())
            return
        from mmsearch.cli.train import show_report

        for reason in report.skipped:
            _say(f"skipped {reason}")
        show_report(report)
