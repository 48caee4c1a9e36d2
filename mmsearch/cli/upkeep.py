"""The commands that look after an index: tune, compact, merge, reencode, caption."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mmsearch import errors
from mmsearch.cli.edge import IndexOption, JsonOption, edge, folder_of, print_json, say
from mmsearch.cli.text import plain

RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="SHARE",
        help="Share of the ten nearest that a search should find, 0.5 to 1 (1: exact).",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, max=256, help="Decoding processes. Default: one a core.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="cpu|cuda|cuda:N|mps|all",
        help="Where a model on PyTorch runs; several, as in cuda:0,cuda:1, or all GPUs.",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|fp16|bf16",
        help="How exactly it runs. Default: fp16 on a GPU, fp32 on a CPU.",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(min=1, max=65536, help="Inputs that it gets at a time. Default: by device."),
]
TowerOption = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|fp16|int8",
        help="How the weights of the towers that the index carries are stored: fp16 is half as "
        "large, int8 a quarter, and not quite the same.",
    ),
]
CarryOption = Annotated[
    str | None,
    typer.Option(
        metavar="text|all",
        help="Which towers the index carries to be asked without PyTorch. Default: that for "
        "texts, and that for pictures where it is small.",
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="Compile it first (torch.compile): pays off on long runs."),
]
_NAMED = 5  # of what was left out
_MAX_QUERIES_BYTES = 64 << 20


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
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
        from mmsearch.api import Index
        from mmsearch.cli.show import show_curve
        from mmsearch.evaluation.plot import draw_speed, ready

        folder = folder_of(index)
        if plot is not None:
            ready(plot)
        texts = None if queries is None else _lines(queries)
        with telling() as tell:
            facts = Index(folder).tune(recall, queries=texts, progress=tell)
        if plot is not None:
            draw_speed(facts, plot)
        if json:
            print_json({"schema": 1, "index": str(folder), **facts})
        elif "lanes" not in facts:
            show_curve(facts)
        else:
            for lane in facts["lanes"]:
                typer.echo(f"{plain(lane['space'])}:")
                show_curve(lane)


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
        from mmsearch.api import Index

        with telling() as tell:
            done = Index(folder_of(index)).compact(progress=tell)
        if json:
            print_json(done.to_json())
        elif not done.changed:
            one = "one segment, nothing deleted" if done.segments else "the index is empty"
            typer.echo(f"nothing to do: {one}")
        else:
            typer.echo(
                f"segments {done.segments_before:,} → {done.segments:,}"
                + (" · lists trained anew" if done.trained else "")
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
        import mmsearch

        with telling() as tell:
            named = [folder_of(other) for other in others]
            done = mmsearch.merge(named, folder_of(index), progress=tell).merged
        assert done is not None
        if json:
            print_json(done.to_json())
        else:
            typer.echo(f"merged {done.parts:,} parts · replaced {done.replaced:,} items")


def reencode(
    space: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="The new space, as for `mmsearch index`.")
    ] = "",
    keep: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Keep the old index, under this name."),
    ] = None,
    drop_missing: Annotated[
        bool,
        typer.Option("--drop-missing", help="Go on without what cannot be encoded any more."),
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a change that was begun and not finished.")
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    batch_size: BatchOption = None,
    tower: TowerOption = None,
    carry: CarryOption = None,
    compile: CompileOption = False,
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Reencode an index: everything it holds in another space, while the old answers.

    Made beside the old, then switched in one commit; stopped or killed, the same command
    goes on. Ids and metadata stay. The old index is dropped unless --keep names it.

    \b
    mmsearch reencode --space openclip:ViT-B-32/laion2b_s34b_b79k --index photos
    mmsearch reencode --space ./flowers --keep photos-before --index photos
    mmsearch reencode --abandon --index photos
    """
    from mmsearch.cli.progress import IndexProgress

    with edge():
        from mmsearch.api import Index

        folder = folder_of(index)
        if abandon == bool(space):
            raise errors.UsageError("name the new space with --space, or give up with --abandon.")
        if abandon:
            abandoned = Index(folder).abandon_reencode()
            if json:
                print_json({"schema": 1, "abandoned": abandoned})
            else:
                typer.echo("given up" if abandoned else "nothing was begun")
            return
        with IndexProgress(sys.stderr) as progress:
            done = Index(folder).reencode(
                space,
                keep=None if keep is None else folder_of(keep),
                drop_missing=drop_missing,
                workers=workers,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                tower=tower,
                carry=carry,
                compile=compile,
                progress=progress.update,
            )
        if json:
            print_json(done.to_json())
            return
        if done.old.fingerprint == done.new.fingerprint:
            typer.echo(f"nothing to do: {plain(str(folder))} is in {plain(str(done.new))} already")
            return
        typer.echo(
            f"{plain(str(done.old))} → {plain(str(done.new))} · "
            f"encoded {done.report.indexed:,} · left out {len(done.lost):,} · "
            f"{done.report.seconds:.1f} s"
        )
        for path, why in done.lost[:_NAMED]:
            say(f"mmsearch: left out {path}: {why}")
        if len(done.lost) > _NAMED:
            say(f"mmsearch: … and {len(done.lost) - _NAMED:,} more (--json lists them)")
        if done.report.cut:
            say(f"mmsearch: passages whose ends are beyond what it reads: {done.report.cut:,}.")
        if done.report.unknown:
            say(f"mmsearch: passages in letters that it does not know: {done.report.unknown:,}.")
        if done.kept is not None:
            typer.echo(f"the old index is {plain(str(done.kept))}")


def caption(
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="An open_clip CoCa model, named as a space is."),
    ] = "openclip:coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
    again: Annotated[
        bool, typer.Option("--again", help="Also where there is a caption already.")
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    batch_size: BatchOption = None,
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Caption pictures: write into their metadata, as `caption`, what is on them.

    Found with --where from then on. Vectors stay; pictures that were changed since they were
    indexed are left alone until `mmsearch index` has seen them. Stopped, the same command goes on.

    \b
    mmsearch caption --index photos
    mmsearch caption --model openclip:local-dir:FOLDER --index photos
    mmsearch query "a dog" --where "contains(meta.caption, 'beach')" --index photos
    """
    with edge():
        from mmsearch.api import Index

        with telling() as tell:
            done = Index(folder_of(index)).caption(
                model,
                again=again,
                workers=workers,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                progress=lambda n, of: tell(f"captions {n:,} of {of:,}"),
            )
        if json:
            print_json(done.to_json())
        else:
            typer.echo(
                f"captions {done.written:,} · there already {done.there:,} · "
                f"skipped {done.skipped:,} · {done.seconds:.1f} s"
            )


def _lines(path: Path) -> list[str]:
    """The texts of a file, one a line. Raises UsageError."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise errors.UsageError(f"{path} is no file of texts.")
        if path.stat().st_size > _MAX_QUERIES_BYTES:
            raise errors.UsageError(f"{path} is larger than 64 MB: a thousand queries are enough.")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise errors.UsageError(f"{path} cannot be read: {why}.") from None
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
