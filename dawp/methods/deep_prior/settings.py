"""Settings of the fit."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.settings import Settings, setting


@dataclass(frozen=True)
class FitConfig(Settings):
    """Fit: the loop over epochs."""

    epochs: int = setting(
        3000,
        "number of epochs, each one Adam step on the whole clip",
        at_least=1,
        at_most=10**7,
        short="-e",
        brief="optimisation steps of each fit",
    )
    lr: float = setting(1e-4, "learning rate of Adam", above=0, at_most=1e30)
    crit: str = setting("L1", "loss: mean absolute (L1) or mean squared (L2) difference", choices=("L1", "L2"))
    normalize: bool = setting(True, "scale the clip to unit RMS for the fit, and the output back")
    input_noise: str = setting("uniform", "distribution of the network's input noise", choices=("gaussian", "uniform"))
    input_std: float | None = setting(
        None, "standard deviation of the input noise", above=0, at_most=1e6, none="gaussian 0.1, uniform from -1 to 1"
    )
    resample_input: bool = setting(False, "draw new input noise in each epoch, as in the paper's text")
    highpass: float | None = setting(
        0.0,
        "cutoff frequency in Hz of a zero-phase Butterworth high-pass before the fit; 0 for no high-pass",
        at_least=0,
        at_most=1000,
        none="chosen from the recording: up to 90 Hz if only noise lies below, 20 Hz for strong rumble, or nothing",
        none_word="auto",
    )
    compile: bool = setting(
        False,
        "compile the network before the fit (torch.compile; requires a C++ compiler); useful for many epochs on CUDA",
    )
    seed: int = setting(0, "seed of every random draw", at_least=0, at_most=2**63 - 1, brief="seed of all random draws")
    device: str = setting(
        "auto", "auto (CUDA if available, otherwise the CPU), cpu, cuda, cuda:N or mps", brief="auto, cpu or cuda"
    )
