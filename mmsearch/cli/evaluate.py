"""``mmsearch eval``: how well an index finds, and whether another finds better."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli.edge import (
    IndexOption,
    JsonOption,
    edge,
    folder_of,
    lift_pillows_ceiling,
    print_json,
)
from mmsearch.cli.text import plain

if TYPE_CHECKING:
    from mmsearch.evaluation import Comparison, Difference, Evaluation, Measure

_COLUMNS = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "median_rank": "median rank",
    "mrr": "MRR",
    "ndcg@10": "nDCG@10",
    "map": "mAP",
}


def evaluate(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS.jsonl", help="What belongs together, a line each.")
    ],
    index: IndexOption = "default",
    compare: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Say how this index differs from that one."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw recall@k for k from 1 to 100 (.png, .pdf, …)."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where a file cannot be read, and measure nothing."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Evaluate an index on pairs of things that belong together.

    A line of PAIRS.jsonl names an image or audio file and its captions (text, or
    en, zh, … by language), the other kind of file, or a label:
    {"image": "a.jpg", "en": ["a dog runs", "a brown dog"]}

    \b
    mmsearch eval pairs.jsonl
    mmsearch eval pairs.jsonl --index photos --plot recall.png
    mmsearch eval pairs.jsonl --index photos --compare photos-v2
    """
    with edge():
        from mmsearch import evaluation

        if plot is not None:
            from mmsearch.evaluation.plot import draw_recall, ready

            ready(plot)
        lift_pillows_ceiling()
        found: Evaluation | Comparison
        with _Talk() as talk:
            if compare is None:
                found = evaluation.evaluate(
                    folder_of(index), pairs, strict=strict, progress=talk.progress
                )
                several = [found]
            else:
                found = evaluation.compare(
                    folder_of(index),
                    folder_of(compare),
                    pairs,
                    strict=strict,
                    progress=talk.progress,
                )
                several = [found.a, found.b]
        if json:
            print_json(found.to_json())
        else:
            for one in several:
                _show(one)
            if isinstance(found, evaluation.Comparison):
                _show_differences(found)
        if plot is not None:
            draw_recall(several, plot)


class _Talk:
    """One line on stderr that says what is being done; only on a terminal."""

    def __init__(self) -> None:
        self._written = 0

    def __enter__(self) -> _Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write("")

    def progress(self, what: str, done: int, of: int) -> None:
        if sys.stderr.isatty():
            self._write(plain(f"{what} {done:,}/{of:,}"))

    def _write(self, line: str) -> None:
        if self._written or line:
            sys.stderr.write("\r" + line.ljust(self._written) + ("" if line else "\r"))
            sys.stderr.flush()
            self._written = len(line)


def _show(found: Evaluation) -> None:
    _echo(f"index     {found.index}  ({found.space}, search {found.search})")
    _echo(f"pairs     {found.pairs}  ({found.rows:,} rows)")
    for side, n in found.not_in_index.items():
        if n:
            _echo(f"missing   {n:,} {side} files of the pairs are not in the index: asked with, ")
            _echo("          but nothing to find")
    for side, n in found.unreadable.items():
        if n:
            _echo(f"unread    {n:,} {side} files of the pairs cannot be read or encoded: left out")
    for note in found.notes:
        _echo(f"note      {note}")
    for direction in found.directions:
        _echo("")
        _echo(
            f"{direction.name}  {direction.queries:,} queries in {_groups(direction.units)}, "
            f"each against {direction.pool_of} ({direction.pool:,})"
        )
        if direction.unanswerable:
            _echo(f"  {direction.unanswerable:,} more queries have no right answer there: left out")
        for name, title in _COLUMNS.items():
            line = f"  {title:<12}{_figure(name, direction.measures[name])}"
            if direction.ann is not None and name in direction.ann:
                line += f"   the index's own search {_figure(name, direction.ann[name])}"
            _echo(line)
        if direction.ann is None and direction.target in ("image", "audio"):
            _echo("  exact search: no ANN loss")
    for named in found.classifications:
        _echo("")
        _echo(
            f"{named.modality} → label  {named.items:,} items, {named.classes:,} classes, "
            "named by the nearest label"
        )
        _echo(f"  {'accuracy':<12}{_figure('accuracy', named.accuracy)}")
    _echo("")
    _echo("[ ] 95% interval, by drawing the groups anew 2,000 times; where all are alike, Wilson's")


def _show_differences(found: Comparison) -> None:
    _echo("")
    _echo(f"A = {found.a.index}")
    _echo(f"B = {found.b.index}")
    for one in found.differences:
        _echo("")
        _echo(f"{one.name}  B - A on {one.queries:,} queries in {_groups(one.units)}")
        for name, difference in one.measures.items():
            title = _title(name)
            _echo(
                f"  {title:<12}{_figure(name, difference, sign='+')}  {_verdict(name, difference)}"
            )
    _echo("")
    _echo("pp: percentage points. real: the paired 95% interval leaves out 0")


def _groups(n: int) -> str:
    return f"{n:,} independent group" + ("" if n == 1 else "s")


def _verdict(name: str, difference: Difference) -> str:
    if not difference.real:
        same = difference.value == difference.low == difference.high == 0
        return "equal" if same else "not shown to differ"
    better = (difference.value < 0) == (name == "median_rank")
    return "real: B is better" if better else "real: B is worse"


def _title(name: str) -> str:
    return _COLUMNS.get(name) or name.replace("recall@", "R@")


def _figure(name: str, measure: Measure, sign: str = "") -> str:
    """A share as a percentage; a rank, or a difference of ranks, as it is."""
    share = "pp" if sign else "%"
    scale, unit = (1, "") if name == "median_rank" else (100, share)
    shape = f"{{:{sign}.1f}}"
    value = shape.format(measure.value * scale + 0.0) + unit  # + 0.0: no -0.0
    if measure.low is None or measure.high is None:
        return f"{value:>8}  (one group: no interval)"
    low, high = (shape.format(end * scale + 0.0) for end in (measure.low, measure.high))
    return f"{value:>8}  [{low}, {high}]"


def _echo(text: str) -> None:
    typer.echo(plain(text) if text else "")
