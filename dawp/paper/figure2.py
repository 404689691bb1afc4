"""Figure 2: SI-SNR to the clean and to the corrupted clip against the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawp.metrics.base import CORRUPTED, Measurement
from dawp.paper.study import Cell, Found, Measure, Study
from dawp.paper.table3 import LSTM
from dawp.report import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(study: Study, found: Found) -> Figure:
    """Plot the curves of the first clip and the SI-SNR of the corrupted clip."""
    (cell,) = study.cells
    fit = found[cell][0]
    columns = pictures.read_columns(*fit.files("metrics.csv"))
    figure, (axis,) = pictures.new_figure(1, height=3.5)
    lines = {
        "si_snr": "output, to the clean clip",
        Measurement("si_snr", target=CORRUPTED).name: "output, to the corrupted clip",
    }
    curves = {label: pictures.measured(columns, name) for name, label in lines.items()}
    for (label, curve), colour in zip(curves.items(), (pictures.OUTPUT, pictures.AGAINST), strict=True):
        axis.plot(*curve, color=colour, label=label, linewidth=1)
    level = fit.facts["input"]["si_snr"]
    highest = max((float(values.max()) for _, values in curves.values() if len(values)), default=level)
    axis.set_ylim(bottom=min(level, highest) - 12)  # the first epochs lie tens of dB below the rest
    axis.axhline(
        level, color=pictures.CORRUPTED, linestyle="--", label="corrupted clip, to the clean clip", linewidth=1
    )
    axis.set_xlabel("epoch")
    axis.set_ylabel("SI-SNR (dB)")
    axis.legend(fontsize="small")
    return figure


STUDY = Study(
    name="figure2",
    title="Figure 2: SI-SNR against the epoch, one speech clip",
    cells=[
        Cell(
            "Conv + LSTM",
            "denoise",
            {**LSTM, "noise_class": "GAUSSIAN", "noise_source": None, "snr": 2.5, "show_estimates_vs_noise": True},
            ("speech",),
        )
    ],
    measures=(Measure("best SI-SNR", "si_snr"), Measure("SI-SNRi", "si_snr", "gain")),
    clips=1,
    draw=draw,
    notes=(
        "The paper does not state the kind of sound, the kind of noise or the level of this figure. This run uses "
        "speech and Gaussian noise at 2.5 dB.",
    ),
)
