"""The commands that look after an index: tune, compact, merge."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mmsearch import errors
from mmsearch.cli.edge import IndexOption, JsonOption, edge, folder_of, print_json
from mmsearch.cli.text import plain

RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="SHARE",
        help="Share of the ten nearest that a search should find, 0.5 to 1 (1: exact).",
    ),
]
_MAX_QUERIES_BYTES = 64 << 20


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is being done, on one line of a terminal; silent elsewhere."""
    stream = sys.stderr

    def tell(what: str) -> None:
        stream.write(f"\r\033[K{plain(what)} …")
        stream.flush()

    try:
        yield tell if stream.isatty() else lambda _: None
    finally:
        if stream.isatty():
            stream.write("\r\033[K")


def tune(
    recall: RecallOption = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your own queries, one a line, at least 20. Default: made up."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw recall against speed (.png, .svg).")
    ] = None,
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Tune approximate search: measure how recall and speed go together.

    Asks queries both approximately and exactly, and keeps the curve in the index;
    later searches take the least effort that reached the recall asked for. --recall
    is what they aim at from then on. Others cannot write to the index meanwhile.

    \b
    mmsearch tune --index photos
    mmsearch tune --recall 0.99 --plot curve.png
    mmsearch tune --queries asked.txt
    """
    with edge():
        from mmsearch.cli.show import show_curve
        from mmsearch.evaluation.plot import draw_speed, ready
        from mmsearch.indexer import tune as run

        folder = folder_of(index)
        if plot is not None:
            ready(plot)
        texts = None if queries is None else _lines(queries)
        with _telling() as tell:
            facts = run(folder, recall, texts, tell)
        if plot is not None:
            draw_speed(facts, plot)
        if json:
            print_json({"schema": 1, "index": str(folder), **facts})
        else:
            show_curve(facts)


def compact(
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Compact an index: merge its segments into one, without what was deleted.

    Copies the index once, and trains the lists of approximate search anew where the
    vectors have drifted away from them. Queries go on meanwhile.

    \b
    mmsearch compact --index photos
    """
    with edge():
        from mmsearch.indexer import compact as run

        with _telling() as tell:
            before, after = run(folder_of(index), tell)
        trained = after.ann is not None and before.ann != after.ann
        trained = trained and (before.ann is None or before.ann.name != after.ann.name)  # type: ignore[union-attr]
        if json:
            print_json(
                {
                    "schema": 1,
                    "segments_before": len(before.segments),
                    "segments": len(after.segments),
                    "trained": trained,
                }
            )
        elif before.segments == after.segments:
            typer.echo("nothing to do: one segment, nothing deleted")
        else:
            typer.echo(
                f"segments {len(before.segments):,} → {len(after.segments):,}"
                + (" · lists trained anew" if trained else "")
            )


def merge(
    others: Annotated[list[str], typer.Argument(metavar="INDEX", show_default=False)],
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Merge other indexes into one, such as shards that several machines made.

    Their vectors are copied, nothing is encoded again. What is in several is taken
    from the last. The others stay as they are.

    \b
    mmsearch merge shard1 shard2 shard3 --index all
    """
    with edge():
        from mmsearch.indexer import merge as run

        with _telling() as tell:
            report = run(folder_of(index), [folder_of(other) for other in others], tell)
        if json:
            print_json({"schema": 1, **report})
        else:
            typer.echo(f"merged {report['parts']:,} parts · replaced {report['replaced']:,} items")


def _lines(path: Path) -> list[str]:
    """The texts of a file, one a line. Raises UsageError."""
    try:
        if path.exists() and not path.is_file():
            raise errors.UsageError(f"{path} is no file of texts.")
        if path.stat().st_size > _MAX_QUERIES_BYTES:
            raise errors.UsageError(f"{path} is larger than 64 MB: a thousand queries are enough.")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise errors.UsageError(f"{path} cannot be read: {why}.") from None
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
