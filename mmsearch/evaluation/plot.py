"""Recall against k, or speed against recall, as a picture, with matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError, install
from mmsearch.evaluation.results import Evaluation

_SIZE_INCHES = (7.0, 4.5)
_DPI = 150
_KINDS = ("png", "svg", "pdf", "jpg", "jpeg", "webp")  # others need programs of their own


def ready(path: Path) -> None:
    """Says early what would fail late: raises UsageError without matplotlib, for a
    format that it does not write, or for a folder that is not there."""
    _matplotlib()
    if path.suffix[1:].lower() not in _KINDS:
        raise UsageError(f"{str(path)!r}: a plot is one of {', '.join(_KINDS)}, by its name.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path.parent} is no folder: make it, or name another place for a plot.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file for the plot.")


def draw_recall(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Writes the recall curves of every direction; of two indexes the second's are dashed.

    The format is that of the name's suffix. Raises what ``ready`` does, and OSError.
    """
    ready(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")  # no display, no global state
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    colours: dict[str, str] = {}  # direction -> colour
    for evaluation, style in zip(evaluations, ("-", "--"), strict=False):
        for direction in evaluation.directions:
            curve = [100 * value for value in direction.recall_curve]
            name = direction.name
            colour = colours.setdefault(name, f"C{len(colours) % 10}")
            label = name if len(evaluations) == 1 else f"{name} ({_plain(evaluation.index)})"
            axes.plot(range(1, len(curve) + 1), curve, style, color=colour, label=label)
    axes.set(xscale="log", xlim=(1, 100), ylim=(0, 102), xlabel="k", ylabel="recall@k (%)")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], labels=["1", "2", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if colours:
        axes.legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=_DPI)


def draw_speed(facts: dict[str, Any], path: Path) -> None:
    """Writes a tuned index's curve: queries a second against recall@10.

    facts: with the tuner's ``curve`` and ``target``. Raises what ``ready`` does, and OSError.
    """
    ready(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    recall = [point["recall"] for point in facts["curve"]]
    axes.plot(recall, [point["queries_per_s"] for point in facts["curve"]], "o-", markersize=3)
    axes.axvline(facts["target"], color="0.6", linestyle="--")
    axes.set(yscale="log", xlabel="recall@10", ylabel="queries/s (asked in one batch)")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=_DPI)


def _plain(folder: Path) -> str:
    # a dollar would begin a formula, and a name need not be UTF-8
    return folder.name.replace("$", r"\$").encode("utf-8", "replace").decode()


def _matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            f"a plot needs matplotlib, which is not installed; {install('plot')}."
        ) from None
