"""Table 2: inpainting by gap length, kind of sound and network."""

from typing import Any

from dawp.metrics.base import GAPS, Measurement
from dawp.paper.study import Cell, Claim, Measure, Study

SI_SNR, PSNR = Measure("SI-SNR", Measurement("si_snr", GAPS).name), Measure("PSNR", Measurement("psnr", GAPS).name)
NETWORKS: dict[str, dict[str, Any]] = {"Wave-U-Net": {"generator": "waveunet"}, "Demucs": {"generator": "demucs"}}
KINDS = ("speech", "instruments", "singing")  # the paper calls its second row music
PAPER = {  # SI-SNR of both networks, then PSNR of both
    1: ((-2.05, 6.57, 12.02, 32.71), (-1.83, 6.81, 11.97, 34.46), (-3.73, 4.21, 11.95, 38.40)),
    2: ((-5.33, 3.55, 10.53, 34.02), (-5.77, 2.98, 10.79, 30.44), (-8.45, -2.35, 10.02, 31.64)),
    5: ((-12.13, -2.60, 9.73, 30.46), (-9.48, -2.11, 10.47, 30.03), (-11.07, -4.60, 10.15, 31.46)),
}

STUDY = Study(
    name="table2",
    title="Table 2: inpainting, judged on the gap alone, in dB",
    cells=[
        Cell(
            f"{length} ms {network}",
            "inpaint",
            {"gap_ms": length, "gaps": None, **settings},
            (kind,),
            {SI_SNR.title: numbers[index], PSNR.title: numbers[index + 2]},
        )
        for length, row in PAPER.items()
        for kind, numbers in zip(KINDS, row, strict=True)
        for index, (network, settings) in enumerate(NETWORKS.items())
    ],
    measures=(SI_SNR, PSNR),
    claims=(
        *(
            Claim(
                f"Demucs beats Wave-U-Net at every gap length by {measure.title}",
                [(f"{length} ms Demucs", f"{length} ms Wave-U-Net") for length in PAPER],
                measure.title,
            )
            for measure in (SI_SNR, PSNR)
        ),
        Claim(
            "quality falls with gap length",
            (("1 ms Demucs", "2 ms Demucs"), ("2 ms Demucs", "5 ms Demucs")),
            SI_SNR.title,
        ),
    ),
    notes=(
        "The paper does not state the size and output layer of the Wave-U-Net, or whether its output is pasted into "
        "the clip.",
    ),
)
