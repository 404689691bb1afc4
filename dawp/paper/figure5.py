"""Figure 5: the waveform around a gap, clean and restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawp.metrics.base import GAPS, Measurement
from dawp.paper.study import Cell, Found, Measure, Study
from dawp.report import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(study: Study, found: Found) -> Figure:
    """Plot the gap of the first clip."""
    (cell,) = study.cells
    fit = found[cell][0]
    fit.files("clean.wav", f"{pictures.BEST_ON_GAPS}.wav")
    return pictures.gaps(fit.folder, fit.facts)


STUDY = Study(
    name="figure5",
    title="Figure 5: a gap of 2 ms, filled",
    cells=[Cell("2 ms Demucs", "inpaint", {"gap_ms": 2, "gaps": None, "generator": "demucs"}, ("speech",))],
    measures=(
        Measure("SI-SNR on the gap", Measurement("si_snr", GAPS).name),
        Measure("PSNR on the gap", Measurement("psnr", GAPS).name),
    ),
    clips=1,
    draw=draw,
    notes=("The paper does not state the clip and gap of this figure.",),
)
