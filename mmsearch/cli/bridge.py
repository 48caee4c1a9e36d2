"""``mmsearch bridge``: a map between two spaces that share text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.edge import JsonOption, edge, print_json
from mmsearch.cli.text import plain
from mmsearch.cli.upkeep import DeviceOption, telling


def bridge(
    source: Annotated[
        str,
        typer.Option("--from", metavar="SPACE", help="What is carried over, such as clap:MODEL."),
    ],
    target: Annotated[
        str,
        typer.Option("--to", metavar="SPACE", help="Where to: its vectors stay as they are."),
    ],
    captions: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Sentences, one a line, or pairs as .jsonl."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the bridge is written.")],
    method: Annotated[
        str, typer.Option(metavar="memory|ridge|procrustes|c-mcr", help="How the map is learned.")
    ] = "memory",
    heard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Some of what will be carried over, unlabelled: its mean closes the gap to texts.",
        ),
    ] = None,
    seen: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Some of what it is to find, unlabelled: c-mcr learns from it."
        ),
    ] = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Bridge two spaces that share text, so that a sound of one finds pictures of the other.

    Learned from sentences alone: no pairs of pictures and sounds are needed. The folder is
    then a space: pictures and texts as the one space has them, sounds of the other.

    \b
    mmsearch bridge --from clap:laion/clap-htsat-unfused --to openclip:ViT-B-32/laion2b_s34b_b79k \\
        --captions captions.txt --heard ~/Sounds --out sounds-and-pictures
    mmsearch index ~/Pictures ~/Sounds --space bridge:sounds-and-pictures --index both
    """
    with edge():
        from mmsearch.spaces import Placement
        from mmsearch.train.bridging import bridge as run

        with telling() as tell:
            report = run(
                source,
                target,
                captions,
                out,
                method,
                heard,
                seen,
                Placement(device),
                lambda what, n, of: tell(f"{what}: {n:,} of {of:,}"),
            )
        if json:
            print_json(report.to_json())
            return
        typer.echo(
            f"{plain(report.name)}: {', '.join(report.carried)} carried over by {report.method}, "
            f"learned from {report.captions:,} captions"
        )
        typer.echo(
            f"of {report.held_out:,} held-out captions {report.recall_at_1:.1%} find their own "
            f"first (MRR {report.mrr:.3f}) · {report.seconds:.1f} s"
        )
