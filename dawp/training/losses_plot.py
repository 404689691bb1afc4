"""The plot of the losses of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dawp.io.files import atomic_write

SMOOTHED = 50  # points of a smoothed curve


def draw_losses(path: Path, rows: Sequence[Mapping[str, float]], prefix: str) -> None:
    """Draw the losses and the held-out metrics by step, one panel each.

    Args:
        path: PNG file to write.
        rows: the logged values; ``step`` is the position.
        prefix: of the names of the held-out metrics.
    """
    from matplotlib.figure import Figure

    names = sorted({name for row in rows for name in row} - {"step"}, key=lambda name: (name.startswith(prefix), name))
    columns = min(3, max(1, len(names)))
    figure = Figure(figsize=(4.2 * columns, 2.8 * -(-len(names) // columns)), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(-(-len(names) // columns), columns, index + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points, strict=True)
        size = max(1, len(values) // SMOOTHED)
        if size > 1:
            axes.plot(steps, values, linewidth=0.5, alpha=0.3)
            values = tuple(sum(values[max(0, i + 1 - size) : i + 1]) / min(i + 1, size) for i in range(len(values)))
        axes.plot(steps, values, linewidth=1.2, marker="." if len(values) < SMOOTHED // 2 else "")
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
