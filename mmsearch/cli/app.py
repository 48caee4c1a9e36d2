"""The commands. Each parses, calls the library, and shows what came back."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from mmsearch import errors
from mmsearch.cli.bridge import bridge
from mmsearch.cli.edge import (
    INTERRUPTED,
    CallError,
    IndexOption,
    JsonOption,
    ToOption,
    drop_output,
    edge,
    folder_of,
    lift_pillows_ceiling,
    print_json,
    say,
    wrong_call,
)
from mmsearch.cli.evaluate import evaluate
from mmsearch.cli.param import ParamOption, param_of
from mmsearch.cli.spaces import spaces_app
from mmsearch.cli.text import plain, prepare_streams
from mmsearch.cli.upkeep import (
    BatchOption,
    CarryOption,
    CompileOption,
    DeviceOption,
    DtypeOption,
    RecallOption,
    TowerOption,
    WorkersOption,
    caption,
    compact,
    merge,
    reencode,
    tune,
)
from mmsearch.version import __version__

_NAMED_KINDS = 3  # of those that a run ignored, and of files

app = typer.Typer(
    name="mmsearch",
    help="Search pictures, sounds and writing by meaning, from any of them to any other.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command line and exits with the code that its README table lists."""
    prepare_streams()
    # threads of FAISS that wait for each other busily make a loaded machine crawl: training
    # lists took sixty times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # alone it would print three lines for an option that there is not
        sys.exit(app(prog_name="mmsearch", standalone_mode=False) or 0)
    except CallError as e:
        sys.exit(wrong_call(e))
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        drop_output()
        sys.exit(0)
    except OSError as e:
        say(f"mmsearch: output: {e.strerror or e}.")
        drop_output()
        sys.exit(1)


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
            help="Embedding space: a name that `mmsearch spaces` lists, such as "
            "openclip:ViT-B-32/laion2b_s34b_b79k or openclip:local-dir:FOLDER, or a folder from "
            "`mmsearch train`; several as A+B. Default: the index's own; mini for a new one.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out names or paths like this, in later runs, too; repeatable.",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Also read texts with names like this, e.g. '*.json', in later runs, too.",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Forget a pattern that an earlier --exclude or --include gave."
        ),
    ] = None,
    follow_links: Annotated[
        bool | None,
        typer.Option(
            "--follow-links/--no-follow-links",
            help="Follow links that lead out of their folder, in later runs, too. "
            "Default: as before; at first no.",
            show_default=False,
        ),
    ] = None,
    retry_skipped: Annotated[
        bool,
        typer.Option("--retry-skipped", help="Try files again whose content could not be read."),
    ] = False,
    ann: Annotated[
        str | None,
        typer.Option(metavar="auto|flat|ivfpq", help="Exact search, IVF-PQ, or by size (auto)."),
    ] = None,
    recall: RecallOption = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What the lists may take in memory, e.g. 2GB. Default: no limit."
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove items even of a folder that is missing or empty now."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a file was skipped or failed.")
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    batch_size: BatchOption = None,
    tower: TowerOption = None,
    carry: CarryOption = None,
    compile: CompileOption = False,
    json: JsonOption = False,
) -> None:
    """Index folders, or bring an index up to date with them.

    Finds what is new, changed, moved or gone, and makes it searchable. What did
    not change is not read. A file whose content cannot be read is skipped and
    recorded; one that failed for another reason is tried again by the next run.

    \b
    mmsearch index ~/Pictures
    mmsearch index ~/Music ~/Notes --index home
    mmsearch index . --exclude '*.psd' --exclude drafts/
    mmsearch index ~/Pictures --space openclip:ViT-B-32/laion2b_s34b_b79k --index clip
    """
    from mmsearch.cli.progress import IndexProgress

    with edge():
        import mmsearch
        from mmsearch.ann import MIN_TRAIN

        with IndexProgress(sys.stderr) as progress:
            opened = mmsearch.index(
                sources,
                folder_of(index),
                space,
                exclude=tuple(exclude or ()),
                include=tuple(include or ()),
                forget=tuple(forget or ()),
                follow_links=follow_links,
                retry_skipped=retry_skipped,
                ann=ann,
                recall=recall,
                memory=memory,
                prune=prune,
                workers=workers,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                tower=tower,
                carry=carry,
                compile=compile,
                progress=progress.update,
            )
        report = opened.report
        assert report is not None
        if json:
            print_json(report.to_json())
        else:
            typer.echo(
                f"indexed {report.indexed:,} · unchanged {report.unchanged:,} · "
                f"removed {report.removed:,} · skipped {report.skipped:,}"
                + (f" · failed {report.failed:,}" if report.failed else "")
                + (f" · ignored {report.ignored:,}" if report.ignored else "")
                + f" · {report.seconds:.1f} s"
            )
            for line in report.stages.told():
                say(f"mmsearch: {line}")
        for path in report.kept:
            say(
                f"mmsearch: {path} is missing, unreadable or empty now; its items were kept. "
                "If they are really gone, run again with --prune."
            )
        if report.cut:
            names = [plain(name) for name in list(report.cut_in)[:_NAMED_KINDS]]
            more = ", …" if len(report.cut_in) > len(names) else ""
            say(
                f"mmsearch: passages longer than the space reads: {report.cut:,} "
                f"({', '.join(names)}{more}). What stands at the end of such a passage cannot be "
                "found."
            )
        if report.unknown:
            say(
                "mmsearch: passages mostly in letters that the space does not know: "
                f"{report.unknown:,}. Such a passage cannot be found by what it says. `mmsearch "
                "spaces` lists spaces for other languages."
            )
        if ann == "ivfpq" and (known := len(opened)) < MIN_TRAIN:
            say(
                f"mmsearch: of {known:,} parts every vector is compared, which is exact; lists are "
                f"made from {MIN_TRAIN} on."
            )
        if report.failed:
            say(
                "mmsearch: files that could not be indexed, for a reason that is not their "
                f"content: {report.failed:,}. Run the same command to try again."
            )
        if (report.skipped or report.failed) and not json:
            say("`mmsearch info --skipped" + _same(index) + "` says why files were left out.")
        if report.passed_over and not json:
            kinds: Counter[str] = Counter()  # without what would read them
            for what, number in report.passed_over.items():
                kinds[what.partition(";")[0]] += number
            some = kinds.most_common(_NAMED_KINDS)
            told = ", ".join(f"{what} ({number:,})" for what, number in some)
            more = ", …" if len(kinds) > len(some) else ""
            say(
                f"mmsearch: not indexed: {told}{more}. `mmsearch info --ignored{_same(index)}` "
                "lists them, and says what would be read."
            )
        nothing = not report.indexed and not report.unchanged and not report.kept
        if not json and nothing and not report.skipped and not report.failed:
            say("mmsearch: no pictures, sounds or texts were found there.")
        if strict and (report.skipped or report.failed):
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
            "text, width, height, taken, camera, latitude, longitude, duration_s, sample_rate_hz, "
            "channels, format, title, artist, album, genre, author, section, page, size, mtime, "
            "meta.KEY.",
        ),
    ] = None,
    param: ParamOption = None,
    recall: RecallOption = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH", help="Where the index's model is, if it was moved since."
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
    mmsearch query "shoes" --where "meta.brand = ? and page in ?" --param nike --param "[1, 2]"
    """
    with edge():
        from mmsearch.api import Index
        from mmsearch.cli.show import absent_key, show_results

        if sum(asked is not None for asked in (text, image, audio)) != 1:
            raise errors.UsageError("ask with exactly one of: words, --image FILE, --audio FILE.")
        params = _params(param, where)
        if image is not None:
            lift_pillows_ceiling()
        opened = Index(folder_of(index), space)
        asked = {"text": text, "image": image, "audio": audio}
        results = opened.search(**asked, to=to, k=k, where=where, params=params, recall=recall)
        if json:
            print_json(results.to_json())
        else:
            show_results(results, empty=len(opened) == 0)
        if (condition := results.query.filter) is not None:
            from mmsearch.filters import absent_keys

            told = [hit.meta for hit in results]
            for key in absent_keys(opened.snapshot, condition, told):
                say(f"mmsearch: {absent_key(key)}")
        if results.unknown:
            say(
                f"mmsearch: {results.space.name} does not know {max(0.01, results.unknown):.0%} of "
                "the query's letters: they count for nothing."
            )


@app.command()
def info(
    index: IndexOption = "default",
    skipped: Annotated[
        bool,
        typer.Option("--skipped", help="List the files that were skipped or failed, and why."),
    ] = False,
    ignored: Annotated[
        bool,
        typer.Option("--ignored", help="List the files that are not indexed, by what they are."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what an index holds, and what was left out.

    \b
    mmsearch info
    mmsearch info --skipped --index home
    mmsearch info --ignored
    """
    with edge():
        from mmsearch.api import Index
        from mmsearch.cli.show import show_ignored, show_info, show_skipped

        body = Index(folder_of(index)).info(skipped=skipped, ignored=ignored)
        if json:
            print_json(body)
            return
        if skipped:
            show_skipped(body)
        if ignored:
            show_ignored(body)
        if not skipped and not ignored:
            show_info(body)


@app.command()
def verify(index: IndexOption = "default", json: JsonOption = False) -> None:
    """Verify an index by reading all of it.

    Says what is broken and what to do; exits with 1 if anything is.

    \b
    mmsearch verify --index home
    """
    with edge():
        import mmsearch

        folder = folder_of(index)
        problems = mmsearch.verify(folder)
        if json:
            print_json(
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
def delete(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="PATH|ID...", show_default=False)
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            help="Instead of names: whatever has a part that meets this, as for `mmsearch query`.",
        ),
    ] = None,
    param: ParamOption = None,
    index: IndexOption = "default",
    json: JsonOption = False,
) -> None:
    """Delete files, folders or items from an index.

    A name that is the id of an item means that, any other a path. The files themselves stay. One
    that is still there comes back with the next `mmsearch index` over its folder; leave it out
    there with --exclude. Exits with 2 if nothing is called by one of the names; what the others
    name is deleted. Documents and sounds go as a whole, with all their parts.

    \b
    mmsearch delete ~/Pictures/private
    mmsearch delete --where "taken < '2010-01-01' and format = 'JPEG'"
    """
    with edge():
        from mmsearch.api import Index
        from mmsearch.indexer import delete_named

        if bool(names) == (where is not None):
            raise errors.UsageError("name what to delete, or give --where, but not both.")
        params = _params(param, where)
        folder, unknown = folder_of(index), list[str]()
        if where is not None:
            deleted = Index(folder).delete(where=where, params=params)
        else:
            deleted, unknown = delete_named(folder, names or ())
        if json:
            print_json({"schema": 1, "deleted": deleted})
        else:
            typer.echo(f"deleted {deleted:,}")
        if unknown:
            raise errors.UsageError(
                f"nothing in {folder} is called {', '.join(unknown)}: name paths or ids as "
                "`mmsearch query --json` shows them."
            )


app.add_typer(spaces_app, name="spaces")
app.command("eval")(evaluate)
app.command()(tune)
app.command()(compact)
app.command()(merge)
app.command()(reencode)
app.command()(caption)
app.command()(bridge)


def _params(given: list[str] | None, where: str | None) -> list[Any] | None:
    """The values of a condition's ``?``. Raises UsageError if there is no condition."""
    if given and where is None:
        raise errors.UsageError(
            "--param gives the value of a ? in a condition, and there is none: "
            '--where "meta.KEY = ?".'
        )
    return [param_of(value) for value in given] if given else None


def _same(index: str) -> str:
    return "" if index == "default" else f" --index {shlex.quote(index)}"


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
    with edge():
        from mmsearch.train import train as run

        lift_pillows_ceiling()
        report = run(recipe, fresh=fresh, say=say)
        if os.environ.get("RANK", "0") != "0":
            return  # under torchrun one process speaks for all
        if json:
            print_json(report.to_json())
            return
        from mmsearch.cli.train import show_report

        for reason in report.skipped:
            say(f"skipped {reason}")
        show_report(report)
