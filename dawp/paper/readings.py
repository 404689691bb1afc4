"""Not in the paper: what each reading of its text gives, for the row of Table 3 that it holds to be the best."""

from typing import Any

from dawp.paper import table3
from dawp.paper.study import Cell, Claim, Study

CODE, ANEW, ONCE = "as in the public code", "input noise Gaussian, anew each epoch", "input noise Gaussian, drawn once"
PLAIN, SHALLOW = "no resampling inside the network", "two LSTM layers"
LEVEL, RANGE = "level left to the network", "PSNR by the clean clip's range"
AS_IN_CODE: dict[str, Any] = {
    "input_noise": "uniform",
    "resample_input": False,
    "resample": True,
    "normalize": True,
    "data_range": 2.0,
}
READINGS: dict[str, dict[str, Any]] = {
    CODE: {},
    ANEW: {"input_noise": "gaussian", "resample_input": True},
    ONCE: {"input_noise": "gaussian"},
    PLAIN: {"resample": False},
    SHALLOW: {"lstm_layers": 2},
    LEVEL: {"normalize": False},
    RANGE: {"data_range": None},
}
ROW = next(cell for cell in table3.STUDY.cells if cell.name == "Conv + LSTM")

STUDY = Study(
    name="readings",
    title="What the paper's text leaves open: Conv + LSTM, uniform noise at 2.5 dB, best value at the oracle stop",
    cells=[
        Cell(
            name, "denoise", {**ROW.settings, **AS_IN_CODE, **settings}, published=ROW.published if name == CODE else {}
        )
        for name, settings in READINGS.items()
    ],
    measures=table3.STUDY.measures,
    claims=(
        Claim("input noise drawn once is needed", ((CODE, ANEW),), table3.SI_SNR.title),
        Claim("resampling inside the network helps", ((CODE, PLAIN),), table3.SI_SNR.title),
        Claim("four LSTM layers are better than two", ((CODE, SHALLOW),), table3.SI_SNR.title),
    ),
    notes=(
        "The public code draws its input noise once, uniform from -1 to 1, and resamples by two inside the network; "
        "the paper's text draws it anew each epoch from N(0, 0.01), and says nothing of resampling or of the number "
        "of LSTM layers. Its PSNR has the clean clip's range of amplitudes as its peak, the code's a constant 2. All "
        "but one of these runs take the clip's level off the network first, which neither of the two says.",
    ),
)
