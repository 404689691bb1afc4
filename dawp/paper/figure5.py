"""Figure 5: the waveform around a gap, as it was and as it was filled."""

from collections.abc import Mapping
from pathlib import Path

from dawp.files import RESULT, read_json
from dawp.paper.study import Cell, Measure, Results, Study
from dawp.report import pictures


def draw(study: Study, results: Results, folders: Mapping[Cell, list[Path]], to: Path) -> None:
    """The first clip's gap."""
    (cell,) = study.cells
    here = folders[cell][0]
    pictures.draw_gaps(here, read_json(here / RESULT), to)


STUDY = Study(
    name="figure5",
    title="Figure 5: a gap of 2 ms, filled",
    cells=[Cell("2 ms Demucs", "inpaint", {"gap_ms": 2, "gaps": None, "generator": "demucs"}, ("speech",))],
    measures=(Measure("SI-SNR on the gap", "gap_si_snr"), Measure("PSNR on the gap", "gap_psnr")),
    clips=1,
    draw=draw,
    notes=("The paper's text leaves open which clip and gap it shows.",),
)
