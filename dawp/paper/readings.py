"""Not in the paper: what each reading of its text gives, for the row of Table 3 that it holds to be the best."""

from typing import Any

from dawp.config import Config
from dawp.paper import table3
from dawp.paper.study import Cell, Claim, Study

HERE = "as by default here"
NOISE_ANEW, NOISE_ONCE = "input noise Gaussian, anew each epoch", "input noise Gaussian, drawn once"
NO_RESAMPLING, TWO_LSTM, OWN_LEVEL = "no resampling inside the network", "two LSTM layers", "level left to the network"
DEFAULTS: dict[str, Any] = {
    "input_noise": "uniform",
    "input_std": None,
    "resample_input": False,
    "resample": True,
    "normalize": True,
    "data_range": 2.0,  # which the notes speak of
}
READINGS: dict[str, dict[str, Any]] = {
    HERE: {},
    NOISE_ANEW: {"input_noise": "gaussian", "resample_input": True},
    NOISE_ONCE: {"input_noise": "gaussian"},
    NO_RESAMPLING: {"resample": False},
    TWO_LSTM: {"lstm_layers": 2},
    OWN_LEVEL: {"normalize": False},
}
ROW = next(cell for cell in table3.STUDY.cells if cell.name == "Conv + LSTM")

OF_THE_TEXT = ("input_noise", "input_std", "resample_input", "data_range")
"""Settings that the paper's text speaks of but that are others by default here."""


def departures(config: Config) -> list[str]:
    """Where settings are not what the paper's text says (sections 2.1 and 2.2), in words; empty where they are."""
    fit, told = config.fit, []
    is_anew = config.corruption.missing is None  # the text draws it once where gaps are filled
    if (fit.input_noise, fit.input_std or 0.1, fit.resample_input) != ("gaussian", 0.1, is_anew):
        said = f"Gaussian with a standard deviation of 0.1, {_drawn(is_anew)}"
        told.append(f"the input noise is {said} (here {fit.input_noise}, {_drawn(fit.resample_input)})")
    if config.metrics.data_range is not None:
        told.append(f"the peak of PSNR is the clip's range of amplitudes (here {config.metrics.data_range:g})")
    return told


def _drawn(is_anew: bool) -> str:
    return "drawn anew each epoch" if is_anew else "drawn once"


STUDY = Study(
    name="readings",
    title="Readings of the paper: Conv + LSTM of Table 3, uniform noise at 2.5 dB, best value at the oracle stop",
    cells=[Cell(name, "denoise", {**ROW.settings, **DEFAULTS, **settings}) for name, settings in READINGS.items()],
    measures=table3.STUDY.measures,
    in_paper=False,
    claims=(
        Claim(
            "input noise drawn once is better than anew each epoch", ((NOISE_ONCE, NOISE_ANEW),), table3.SI_SNR.title
        ),
        Claim("uniform input noise is better than Gaussian", ((HERE, NOISE_ONCE),), table3.SI_SNR.title),
        Claim("resampling inside the network helps", ((HERE, NO_RESAMPLING),), table3.SI_SNR.title),
        Claim("four LSTM layers are better than two", ((HERE, TWO_LSTM),), table3.SI_SNR.title),
        Claim("taking the level off the network helps", ((HERE, OWN_LEVEL),), table3.SI_SNR.title),
    ),
    notes=(
        "The paper's text draws the input noise anew each epoch, but for gaps, Gaussian with a standard deviation of "
        "0.1, and says nothing of resampling or of the number of LSTM layers. Its public code draws the noise once, "
        "uniform from -1 to 1, resamples by two inside the network, and leaves the clip's level to it; its published "
        "script has four LSTM layers. The default here is the script's but for the level. Where the text takes a "
        "clip's own range of amplitudes as the peak of the PSNR, the code takes 2, as here: by the clip's range each "
        "PSNR is lower by 20 log10(2 / range).",
    ),
)
