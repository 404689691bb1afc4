"""Figure 5: the waveform around a gap, as it was and as it was filled."""

from pathlib import Path

from dawp.paper.study import Cell, Found, Measure, Study
from dawp.report import pictures


def draw(study: Study, found: Found, to: Path) -> None:
    """The first clip's gap."""
    (cell,) = study.cells
    fit = found[cell][0]
    fit.files("clean.wav", "best_gap_si_snr.wav")
    pictures.draw_gaps(fit.folder, fit.facts, to)


STUDY = Study(
    name="figure5",
    title="Figure 5: a gap of 2 ms, filled",
    cells=[Cell("2 ms Demucs", "inpaint", {"gap_ms": 2, "gaps": None, "generator": "demucs"}, ("speech",))],
    measures=(Measure("SI-SNR on the gap", "gap_si_snr"), Measure("PSNR on the gap", "gap_psnr")),
    clips=1,
    draw=draw,
    notes=("The paper's text leaves open which clip and gap it shows.",),
)
