"""The losses and metrics of a training: a table, a plot, and curves for TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsFloat

from dawp.errors import FitDiverged
from dawp.io.files import atomic_write

HELD_OUT = "held_out_"
"""Prefix of the columns with metrics of the held-out recordings."""

Row = dict[str, float]

SMOOTHED = 50  # points of a smoothed curve


def draw_losses(path: Path, rows: Sequence[Row]) -> None:
    """Draw the losses and the held-out metrics by step, one panel each.

    Args:
        path: PNG file to write.
        rows: the logged values; ``step`` is the position.
    """
    from matplotlib.figure import Figure

    names = sorted(
        {name for row in rows for name in row} - {"step"}, key=lambda name: (name.startswith(HELD_OUT), name)
    )
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


def write_losses(path: Path, rows: Sequence[Row]) -> None:
    """Write the losses and metrics of the logged steps as CSV; empty fields have no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def open_tensorboard(folder: Path | None, first_step: int) -> Iterator[Callable[[Row], None]]:
    """Yield a function that adds a row to the curves of TensorBoard.

    Args:
        folder: of the curves; None for none.
        first_step: whose values and later ones of an earlier, interrupted training are replaced.
    """
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=first_step) as writer:

        def add(row: Row) -> None:
            for name, value in row.items():
                if name != "step" and math.isfinite(value):
                    writer.add_scalar(name, value, int(row["step"]))

        yield add


def check_finite(losses: Mapping[str, SupportsFloat], step: int) -> Row:
    """Return the losses of a step as numbers.

    Raises:
        FitDiverged: one of them is not finite.
    """
    row = {name: float(value) for name, value in losses.items()}
    for name, value in row.items():
        if not math.isfinite(value):
            raise FitDiverged(f"the loss {name} is not a finite number at step {step}")
    return row
