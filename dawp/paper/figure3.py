"""Figure 3: best value of each metric against the SI-SNR of the corrupted clip, by noise and kind of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawp.paper.study import KINDS, Cell, Found, Measure, Study
from dawp.report import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = (Measure("SI-SNR", "si_snr"), Measure("PSNR", "psnr"), Measure("PESQ", "pesq"))
NOISES = ("GAUSSIAN", "UNIFORM")
LEVELS = (0.0, 2.5, 5.0, 7.5, 10.0)
STYLES = {"speech": ("o", pictures.OUTPUT), "singing": ("^", pictures.MEAN), "instruments": ("s", pictures.AGAINST)}


def row_name(noise: str, level: float) -> str:
    return f"{noise.lower()} {level:g} dB"


def draw(study: Study, found: Found) -> Figure:
    """Plot one panel per metric, with a line for each noise and kind of sound."""
    figure, axes = pictures.new_figure(len(MEASURES), height=2.6)
    results = study.results(found)
    cells = {(cell.name, cell.kinds): cell for cell, fits in found.items() if fits}
    for axis, measure in zip(axes, study.measures, strict=True):
        for kind, (marker, colour) in STYLES.items():
            for noise, line in zip(NOISES, ("-", "--"), strict=True):
                points = [
                    (level, results[cell][measure.title].mean)
                    for level in LEVELS
                    if (cell := cells.get((row_name(noise, level), (kind,))))
                ]
                if points:
                    label = f"{kind}, {noise.lower()}"
                    axis.plot(*zip(*points, strict=True), line, marker=marker, color=colour, label=label)
        if measure.metric == "si_snr":
            axis.plot(LEVELS, LEVELS, ":", color=pictures.CORRUPTED, label="the corrupted clip")
        axis.set_ylabel(f"best {measure.title}")
    axes[0].legend(fontsize="x-small", ncols=2, handlelength=4)  # long enough to show the dashes
    axes[-1].set_xlabel("SI-SNR of the corrupted clip (dB)")
    return figure


STUDY = Study(
    name="figure3",
    title="Figure 3: best value at the oracle stop against the corrupted clip's SI-SNR",
    cells=[
        Cell(row_name(noise, level), "denoise", {"noise_class": noise, "noise_source": None, "snr": level}, (kind,))
        for noise in NOISES
        for kind in KINDS
        for level in LEVELS
    ],
    measures=MEASURES,
    draw=draw,
    notes=(
        "The paper shows a graph and does not state its values, its levels or the number of clips. The paper's "
        "tables have 20 clips.",
    ),
)
