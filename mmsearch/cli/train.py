"""``mmsearch train``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from mmsearch.cli.text import plain

if TYPE_CHECKING:
    from mmsearch.train.run import Report


def show_report(report: Report) -> None:
    """What a training did: recall before and after, and what to do next."""
    for note in report.notes:
        typer.echo(plain(f"note: {note}"))
    rows = [("held out", "before", "after")]
    for name, after in report.after.items():
        before = report.before.get(name, [])
        rows.append((f"{name}  R@1 R@5 R@10", _three(before), _three(after)))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows if report.after else []:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(plain("  ".join(cells).rstrip()))
    typer.echo(
        plain(
            f"{report.steps} steps over {report.things - report.held:,} things in "
            f"{report.seconds:.0f} s · {report.held:,} held out · skipped {len(report.skipped):,}"
        )
    )
    typer.echo(
        plain(f"wrote {report.out}: mmsearch index FOLDER --space {shlex.quote(str(report.out))}")
    )


def _three(values: list[float]) -> str:
    return " ".join(f"{value:5.1f}" for value in values)
