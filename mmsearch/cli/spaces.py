"""``mmsearch spaces``: what there is to search in, and fetching it."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from mmsearch.cli.edge import JsonOption, edge, print_json, say

spaces_app = typer.Typer(invoke_without_command=True)


@spaces_app.callback()
def listed(
    context: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Every model that the installed libraries know.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the embedding spaces: what each takes, what it needs, what is published of it.

    \b
    mmsearch spaces
    mmsearch spaces --all
    mmsearch spaces pull openclip:ViT-B-32/laion2b_s34b_b79k
    """
    if context.invoked_subcommand is not None:
        return
    with edge():
        if every:
            from mmsearch.spaces import known_names

            names = known_names()
            if json:
                print_json({"schema": 1, "names": names})
            else:
                typer.echo("\n".join(names))
            return
        from mmsearch.api.info import list_spaces
        from mmsearch.cli.show import show_spaces

        rows = list_spaces()
        if json:
            print_json({"schema": 1, "spaces": rows})
        else:
            show_spaces(rows)


@spaces_app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Fetch the weights of models, once; everything else works without a network.

    A checkpoint of open_clip's own trainer (.pt) is read as weights alone and written as
    safetensors beside it.

    \b
    mmsearch spaces pull openclip:ViT-B-32/laion2b_s34b_b79k
    mmsearch spaces pull openclip:ViT-B-32/logs/checkpoints/epoch_32.pt
    """
    with edge():
        from mmsearch.spaces import pull

        for name in names:
            try:
                full = pull(name)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"stopped before all of {name} was here; run the same command to go on."
                ) from None
            if not json:
                say(f"{full} is here: mmsearch index FOLDER --space {shlex.quote(full)}")
        if json:
            print_json({"schema": 1, "pulled": list(names)})
