"""Table 1: dereverberation by reverberation time and kind of sound."""

from dawp.paper.study import KINDS, Cell, Claim, Measure, Study

SI_SNR, PSNR = Measure("SI-SNRi", "si_snr", "gain"), Measure("PSNRi", "psnr", "gain")
REACHED = Measure("SI-SNR", "si_snr")
PAPER = {
    0.1: ((2.22, 13.45), (1.15, 14.40), (1.15, 14.14)),
    0.2: ((4.76, 16.30), (5.48, 18.45), (5.79, 18.45)),
    0.5: ((-0.11, 5.66), (-0.08, 6.65), (-0.03, 6.45)),
}

STUDY = Study(
    name="table1",
    title="Table 1: dereverberation, gain over the reverberant clip in dB",
    cells=[
        Cell(
            f"RT60 {rt60} s",
            "dereverb",
            {"rt60": rt60, "rir_source": None},
            (kind,),
            {SI_SNR.title: si_snr, PSNR.title: psnr},
        )
        for rt60, row in PAPER.items()
        for kind, (si_snr, psnr) in zip(KINDS, row, strict=True)
    ],
    measures=(SI_SNR, PSNR, REACHED),
    claims=(
        Claim("RT60 0.2 gains most", (("RT60 0.2 s", "RT60 0.1 s"), ("RT60 0.2 s", "RT60 0.5 s")), SI_SNR.title),
        Claim("RT60 0.1 gains more than RT60 0.5", (("RT60 0.1 s", "RT60 0.5 s"),), SI_SNR.title),
    ),
    notes=(
        "The paper does not state the room, the positions in it or the reference signal (--reference). The SI-SNR of "
        "the best output is not in the paper; a gain is of no use if the SI-SNR remains far below zero.",
    ),
)
