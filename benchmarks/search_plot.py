"""What is read off the curves of recall and speed: figures at a recall, verdicts, a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "mmsearch"
TARGETS = (0.95, 0.99)


@dataclass(frozen=True)
class Verdict:
    """One promise, what was measured of it, and whether it is kept; None: not to be judged."""

    promise: str
    measured: str
    kept: bool | None


def front(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other beats in both recall and speed, by rising recall."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (-p["recall"], -p["qps"])):
        if not best or point["qps"] > best[-1]["qps"]:
            best.append(point)
    return best[::-1]


def speed_at(points: Sequence[dict[str, Any]], recall: float) -> float | None:
    """Queries a second at a recall: between two measured points, log speed linear in recall.

    Where no point lies below that recall, the speed of the fastest that reaches it; None where
    none reaches it.
    """
    curve = front(points)
    above = next((i for i, p in enumerate(curve) if p["recall"] >= recall), None)
    if above is None:
        return None
    high = curve[above]
    if above == 0 or high["recall"] == recall:
        return float(high["qps"])
    low = curve[above - 1]
    share = (recall - low["recall"]) / (high["recall"] - low["recall"])
    return math.exp((1 - share) * math.log(low["qps"]) + share * math.log(high["qps"]))


def used(result: dict[str, Any], recall: float = TARGETS[0]) -> dict[str, Any] | None:
    """The point at which memory is read: the first on the way up that reaches that recall."""
    return next((p for p in result["points"] if p["recall"] >= recall), None)


def rows(results: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table of the run, heading first."""
    out = [
        (
            "contender",
            *(f"{cell}@{t:g}" for t in TARGETS for cell in ("QPS", "ratio")),
            "anon MB",
            "file MB",
            "alone ms",
            "build s",
            "peak MB",
            "disk MB",
        )
    ]
    ours = {t: speed_at(results[OURS]["points"], t) if OURS in results else None for t in TARGETS}
    for name, result in sorted(results.items(), key=lambda kv: -(_first_speed(kv[1]) or 0)):
        cells = []
        for t in TARGETS:
            speed, our = speed_at(result["points"], t), ours[t]
            cells.append("–" if speed is None else f"{speed:,.0f}")
            cells.append("–" if speed is None or our is None else f"{speed / our:.2f}")
        point = used(result) or result["points"][-1]
        mark = "" if used(result) else "*"
        alone = result["alone"]
        out.append(
            (
                name,
                *cells,
                f"{point['anon'] / 1e6:,.0f}{mark}",
                f"{point['file'] / 1e6:,.0f}{mark}",
                f"{alone['median_ms']:.2f}" if alone else "–",
                f"{result['build_s']:,.0f}",
                f"{result['peak_rss_bytes'] / 1e6:,.0f}",
                f"{result['disk_bytes'] / 1e6:,.0f}",
            )
        )
    return out


def _first_speed(result: dict[str, Any]) -> float | None:
    return speed_at(result["points"], TARGETS[0])


def verdicts(results: dict[str, dict[str, Any]]) -> list[Verdict]:
    """The three promises, and the last of them with mapped pages counted as memory too."""
    promises = (
        "≥ 1.5 × the best peer at 0.95",
        "≤ 1/8 of its memory, ≥ 4 × its build speed",
        "at 0.99 ahead of every peer that uses no more than 4 × our memory",
        "the same, pages of mapped files counted as memory",
    )
    ours, peers = results.get(OURS), {n: r for n, r in results.items() if n != OURS}
    speeds = {n: s for n, r in peers.items() if (s := _first_speed(r)) is not None}
    our_speed = _first_speed(ours) if ours else None
    our_point = used(ours) if ours else None
    if ours is None or our_speed is None or our_point is None or not speeds:
        why = "no figure: mmsearch or every peer stays below 0.95, or was left out"
        return [Verdict(promise, why, None) for promise in promises]
    best = max(speeds, key=lambda n: speeds[n])
    its_point = used(peers[best])
    assert its_point is not None  # it has a speed at that recall
    ratio = our_speed / speeds[best]
    memory = our_point["anon"] / max(1, its_point["anon"])
    build = peers[best]["build_s"] / ours["build_s"]
    out = [
        Verdict(promises[0], f"{ratio:.2f} × {best}", ratio >= 1.5),
        Verdict(
            promises[1],
            f"{memory:.2f} of the memory of {best}, {build:.1f} × its build speed",
            memory <= 1 / 8 and build >= 4,
        ),
    ]
    for promise, parts in ((promises[2], ("anon",)), (promises[3], ("anon", "file"))):
        out.append(_ahead(promise, ours, peers, parts))
    return out


def _ahead(
    promise: str,
    ours: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    parts: tuple[str, ...],
) -> Verdict:
    """Whether no peer of up to 4 × our memory is faster at 0.99."""

    def memory(result: dict[str, Any]) -> float:
        point = used(result, TARGETS[1]) or result["points"][-1]
        return float(sum(point[part] for part in parts))

    our_speed = speed_at(ours["points"], TARGETS[1])
    if our_speed is None:
        return Verdict(promise, "mmsearch does not reach 0.99", False)
    rivals = {
        name: speed_at(result["points"], TARGETS[1]) or 0.0
        for name, result in peers.items()
        if memory(result) <= 4 * memory(ours)
    }
    if not rivals:
        return Verdict(promise, "no peer uses so little", True)
    best = max(rivals, key=lambda n: rivals[n])
    if not rivals[best]:
        return Verdict(promise, f"of {', '.join(rivals)} none reaches 0.99", True)
    ratio = our_speed / rivals[best]
    said = f"{ratio:.2f} × {best}, the fastest of {len(rivals)}"
    return Verdict(promise, said, ratio > 1)


def draw(results: dict[str, dict[str, Any]], title: str, file: Path) -> None:
    """Draws the curves, recall against queries a second, as SVG (or as ``file``'s ending says)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.fonttype"] = "none"  # letters, not their outlines: a tenth of the size
    pyplot.rcParams["svg.hashsalt"] = "mmsearch"  # the same drawing is the same file
    figure, axes = pyplot.subplots(figsize=(8, 5))
    lowest = 0.8
    markers = "osD^v<>PX*hd"
    for i, (name, result) in enumerate(results.items()):
        curve = [p for p in front(result["points"]) if p["recall"] >= lowest]
        xs = [p["recall"] for p in curve]
        axes.plot(
            xs,
            [p["qps"] for p in curve],
            marker=markers[i % len(markers)],
            markersize=4,
            linewidth=2.4 if name == OURS else 1.1,
            color="black" if name == OURS else f"C{i % 10}",
            label=name,
        )
    for target in TARGETS:
        axes.axvline(target, color="0.8", linewidth=0.8, zorder=0)
    axes.set_yscale("log")
    axes.set_xscale("function", functions=(_stretch, _shrink))
    axes.set_xlim(lowest, 0.9992)
    ticks = [0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries a second")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", color="0.92", which="both", linewidth=0.5)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def _stretch(recall: Any) -> Any:
    """Spreads what lies near 1: the logarithm of what is missed."""
    import numpy as np

    return -np.log10(np.maximum(1e-6, 1.0 - np.asarray(recall)))


def _shrink(stretched: Any) -> Any:
    import numpy as np

    return 1.0 - 10.0 ** -np.asarray(stretched)
