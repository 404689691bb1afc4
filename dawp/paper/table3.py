"""Table 3: comparison of architectures."""

from typing import Any

from dawp.paper.study import Cell, Claim, Measure, Study

SI_SNR, PSNR, PESQ = Measure("SI-SNR", "si_snr"), Measure("PSNR", "psnr"), Measure("PESQ", "pesq")
CONV = {"generator": "demucs", "depth": 2, "lstm_layers": 0, "attention_layers": 0, "glu": False, "skip": False}
LSTM, ATTENTION = {**CONV, "lstm_layers": 4}, {**CONV, "attention_layers": 4}
PAPER: dict[str, tuple[dict[str, Any], tuple[float, float, float]]] = {
    "Conv (2 layers)": (CONV, (3.05, 39.12, 1.38)),
    "Conv (4 layers)": ({**CONV, "depth": 4}, (3.07, 37.29, 1.76)),
    "Conv (6 layers)": ({**CONV, "depth": 6}, (2.64, 38.36, 1.33)),
    "Conv + skip": ({**CONV, "skip": True}, (2.97, 36.07, 1.61)),
    "Conv + GLU": ({**CONV, "glu": True}, (2.85, 36.54, 1.42)),
    "Conv + LSTM": (LSTM, (5.42, 40.56, 2.31)),
    "Conv + Attention": (ATTENTION, (3.26, 40.37, 1.99)),
    "Conv + GLU + LSTM": ({**LSTM, "glu": True}, (5.01, 39.64, 1.85)),
    "Conv + GLU + Attention": ({**ATTENTION, "glu": True}, (2.94, 37.38, 1.96)),
}

STUDY = Study(
    name="table3",
    title="Table 3: architectures, uniform noise at 2.5 dB, best value at the oracle stop",
    cells=[
        Cell(
            name,
            "denoise",
            {"noise_class": "UNIFORM", "noise_source": None, "snr": 2.5, **settings},
            published=dict(zip((SI_SNR.title, PSNR.title, PESQ.title), numbers, strict=True)),
        )
        for name, (settings, numbers) in PAPER.items()
    ],
    measures=(SI_SNR, PSNR, PESQ),
    claims=(
        Claim("LSTM helps", (("Conv + LSTM", "Conv (2 layers)"),), SI_SNR.title),
        Claim("GLU hurts with LSTM", (("Conv + LSTM", "Conv + GLU + LSTM"),), SI_SNR.title),
        Claim("attention does not replace the LSTM", (("Conv + LSTM", "Conv + Attention"),), SI_SNR.title),
        Claim("skip connections do not help", (("Conv (2 layers)", "Conv + skip"),), SI_SNR.title),
        Claim(
            "GLU helps convolutions alone (so the text says; the paper's own numbers say the opposite)",
            (("Conv + GLU", "Conv (2 layers)"),),
            SI_SNR.title,
        ),
    ),
    notes=("The paper does not state the number of LSTM and attention layers: 4, as in the published script.",),
)
