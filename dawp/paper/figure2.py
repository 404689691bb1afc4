"""Figure 2: SI-SNR against the epoch, to the clean clip and to the corrupted one."""

from pathlib import Path

from dawp.paper.study import Cell, Found, Measure, Study
from dawp.paper.table3 import LSTM
from dawp.report import pictures


def draw(study: Study, found: Found, to: Path) -> None:
    """The curves of the first clip, with the corrupted clip's level."""
    (cell,) = study.cells
    fit = found[cell][0]
    columns = pictures.read_columns(*fit.files("metrics.csv"))
    figure, (axis,) = pictures.new_figure(1, height=3.5)
    lines = {"si_snr": "output, to the clean clip", "si_snr_vs_corrupted": "output, to the corrupted clip"}
    for (name, label), colour in zip(lines.items(), (pictures.OUTPUT, pictures.AGAINST), strict=True):
        axis.plot(*pictures.measured(columns, name), color=colour, label=label, linewidth=1)
    level = fit.facts["input"]["si_snr"]
    axis.axhline(
        level, color=pictures.CORRUPTED, linestyle="--", label="corrupted clip, to the clean clip", linewidth=1
    )
    axis.set_ylim(bottom=level - 12)
    axis.set_xlabel("epoch")
    axis.set_ylabel("SI-SNR (dB)")
    axis.legend(fontsize="small")
    pictures.save(figure, to)


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
    notes=("The paper's text leaves open the kind of noise and its level in this figure: Gaussian at 2.5 dB here.",),
)
