"""A picture of how a training went: loss and held-out recall over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_plot(path: Path, history: list[dict[str, Any]]) -> bool:
    """Writes a PNG; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    lost = [(r["step"], r["loss"]) for r in history if r["loss"] is not None]
    left.plot([s for s, _ in lost], [v for _, v in lost], color="black")
    left.set(xlabel="step", ylabel="loss", title="training loss")
    for name in history[-1]["recall"]:
        points = [(r["step"], r["recall"][name][-1]) for r in history if name in r["recall"]]
        right.plot([s for s, _ in points], [v for _, v in points], label=name)
    right.set(xlabel="step", ylabel="R@10, %", title="held out")
    if history[-1]["recall"]:
        right.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True
