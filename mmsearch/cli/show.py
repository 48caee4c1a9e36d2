"""What a person sees: results, an index's facts, skipped files, spaces."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import typer

from mmsearch.cli.text import plain

if TYPE_CHECKING:
    from mmsearch.filters.keys import AbsentKey
    from mmsearch.searcher import Results

_PASSAGE_LINES = 2
_NAMED_KEYS = 12  # of meta, if none is like the one that a filter names
_EXAMPLES = 3  # of each kind of file that is not indexed
# Of a curve of some thirty points, the first that reaches each of these.
_SHOWN_RECALLS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)


def _echo(text: str) -> None:
    typer.echo(plain(text))


def _near(path: str) -> str:
    """The path from here, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path
    return path if relative.startswith("..") or len(relative) >= len(path) else relative


def show_results(results: Results, empty: bool) -> None:
    """The hits, one a line, with a passage or a time span where there is one."""
    if not results:
        _echo("the index is empty" if empty else _nothing(results))
        _out_of_reach(results)
        return
    width = shutil.get_terminal_size().columns
    for hit in results:
        where = _near(hit.path) if hit.path is not None else hit.id
        span = ""
        if hit.start_s is not None and hit.end_s is not None:
            span = f"  {_clock(hit.start_s)}-{_clock(hit.end_s)}"
        page = f"  page {hit.meta['page']}" if "page" in hit.meta else ""
        rarity = "" if hit.surprise is None else f"{round(hit.surprise, 1) + 0.0:>5.1f}  "
        gone = "  (missing)" if hit.missing else ""
        found = f"{where}{span}{page}{gone}"
        _echo(f"{hit.rank:>2}  {rarity}{hit.score:.3f}  {hit.modality:<5}  {found}")
        if hit.text:
            text = " ".join(hit.text.split())
            room = max(20, (width - 18) * _PASSAGE_LINES)
            _echo(" " * 18 + (text if len(text) <= room else text[: room - 1] + "…"))
    if results[0].surprise is not None:
        _echo(
            "hits of several spaces meet: the first number says how rare so high a score is by "
            "chance (2: one in 100 such indexes), the second is the score, comparable in its space"
        )
    _out_of_reach(results)


def _out_of_reach(results: Results) -> None:
    if results.out_of_reach:
        kinds = " and ".join(str(modality) for modality in results.out_of_reach)
        _echo(f"not looked for: {kinds}, which no space of this index takes with what was asked")


def _nothing(results: Results) -> str:
    query = results.query
    if results.out_of_reach:
        return "nothing that could be found meets that"
    if query.filter is None:
        return "nothing of that kind is in the index"
    return f"no {query.to or 'part'} in the index meets the filter: {query.filter}"


def absent_key(key: AbsentKey) -> str:
    """What is said of a key of meta that a filter names and no part has."""
    said = f"no part in the index has {key.name}"
    if key.near:
        return f"{said}; did you mean {key.near}?"
    if not key.others:
        return f"{said}."
    more = ", …" if len(key.others) > _NAMED_KEYS else ""
    return f"{said}. There are {', '.join(key.others[:_NAMED_KEYS])}{more}."


def _counted(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def show_info(body: dict[str, Any]) -> None:
    """An index's facts."""
    _echo(f"index     {body['index']}")
    counts = ", ".join(f"{n:,} {m}" for m, n in body["modalities"].items() if n)
    _echo(f"parts     {body['parts']:,}" + (f" ({counts})" if counts else ""))
    _echo(f"items     {body['items']:,}")
    _echo(f"space     {body['space']} (d={body['dimension']})")
    for lane in body["lanes"]:
        _echo(f"lane      {lane['space']} (d={lane['dimension']}) for {', '.join(lane['holds'])}")
    if body["languages"]:
        _echo(f"reads     {body['languages']}")
    if (kept := body["kept"]) is not None:
        _echo(f"kept      {_kept(kept)}")
    for lane in body["lanes"] or [body]:
        name = f" ({lane['space'].partition('@')[0]})" if body["lanes"] else ""
        _echo(f"search    {lane['search']}{name}")
        if lane["ann"] and lane["ann"].get("curve"):
            show_curve(lane["ann"], "          ")
    _echo(f"disk      {body['bytes'] / 1e6:,.1f} MB in {_counted(body['segments'], 'segment')}")
    _echo(f"snapshot  {body['generation']}")
    for root in body["roots"]:
        _echo(f"root      {root}")
    if body["next"]:
        _echo(f"on its way to {body['next']}: `mmsearch reencode` goes on, or gives up (--abandon)")
    if body["unfinished"]:
        left = _counted(body["unfinished"], "item")
        _echo(f"unfinished  {left}: run `mmsearch index` again to go on")
    for name in ("include", "exclude"):
        for pattern in body[name]:
            _echo(f"{name}   {pattern}")
    if body["follow_links"]:
        _echo("links     that lead out of a folder are followed")
    _echo(f"skipped   {body['skipped']:,}" + (" (--skipped says why)" if body["skipped"] else ""))
    if body["failed"]:
        _echo(f"failed    {body['failed']:,} (--skipped says why; the next run tries them again)")
    told = " (--ignored says what they are)" if body["ignored"] else ""
    _echo(f"ignored   {body['ignored']:,}{told}")


def _kept(kept: dict[str, Any]) -> str:
    what = f"towers for {', '.join(kept['holds'] or ())}" if kept["holds"] else "its space"
    what += f", {kept['bytes'] / 1e6:,.1f} MB"
    if kept["least_cosine"] is not None:
        what += f", weights as {kept['stored']}: cosine ≥ {kept['least_cosine']:.5f} to the model's"
    return what


def show_curve(facts: dict[str, Any], before: str = "") -> None:
    """Recall and speed of approximate search, and which point searches take."""
    target = facts["target"]
    _echo(f"{before}recall  queries/s  lists  compared")
    taken = next((p for p in facts["curve"] if p["recall"] >= target), facts["curve"][-1])
    firsts = [next((p for p in facts["curve"] if p["recall"] >= r), None) for r in _SHOWN_RECALLS]
    shown = [p for p in facts["curve"] if p is taken or any(p is first for first in firsts)]
    for point in shown:
        mark = f"  ← aimed at {target:g}" if point is taken else ""
        _echo(
            f"{before}{point['recall']:.3f}  {point['queries_per_s']:>9,.0f}"
            f"  {point['nprobe']:>5}  {point['candidates']:>8}{mark}"
        )
    kind = "given queries" if facts["queries_of"] == "given" else facts["queries_of"]
    _echo(f"{before}recall@10, measured with {facts['queries']:,} {kind}")
    if taken["recall"] < target:
        exactly = "searches compare every vector" if target == 1 else "--recall 1 compares all"
        _echo(f"{before}{target:g} was not reached by lists; {exactly}")


def show_ignored(found: dict[str, Any]) -> None:
    """What was passed over, by kind: how many files, what they are, and the first few."""
    examples: dict[str, list[str]] = {what: [] for what in found["ignored_kinds"]}
    for row in found["ignored_files"]:
        if len(examples[row["what"]]) < _EXAMPLES:
            examples[row["what"]].append(_near(row["path"]))
    for what, number in found["ignored_kinds"].items():
        more = ", …" if number > _EXAMPLES else ""
        _echo(f"{number:>7,}  {what}: {', '.join(examples[what])}{more}")
    if not examples:
        _echo("nothing was ignored")


def show_skipped(files: dict[str, Any]) -> None:
    """The files that were skipped, then those that failed, one a line: path and reason."""
    for row in files["skipped_files"]:
        _echo(f"{_near(row['path'])}: {row['reason']}")
    for row in files["failed_files"]:
        _echo(f"{_near(row['path'])}: {row['reason']} (failed; the next run tries it again)")
    if not files["skipped_files"] and not files["failed_files"]:
        _echo("nothing was skipped")


def show_spaces(rows: list[dict[str, Any]]) -> None:
    """The spaces, one a line; then where figures are from, and which one suits this machine."""
    header = ("space", "state", "for", "d", "MB", "R@1", "R@5", "texts in", "licence")
    table = [header]
    for row in rows:
        figures = [row.get("recall_at_1"), row.get("recall_at_5")]
        table.append(
            (
                row["name"],
                "ready" if row["available"] else "not here",
                ", ".join(row["modalities"]),
                f"{row['dimension']}",
                f"{row['megabytes']:,}" if "megabytes" in row else "",
                *("" if one is None else f"{one:.1f}" for one in figures),
                row.get("languages", ""),
                row.get("licence", ""),
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        _echo(
            "  ".join(f"{one:<{width}}" for one, width in zip(line, widths, strict=True)).rstrip()
        )
    if source := next((row["source"] for row in rows if row.get("source")), None):
        _echo(f"R@1, R@5 in percent, as published: {source}")
    if lacking := [row for row in rows if not row["available"]]:
        _echo(f"not here: {lacking[0]['needs']}")
    for row in rows:
        if row["recommended"]:
            _echo(f"recommended here: {row['name']}, because {row['recommended']}")
