"""Low-pass filtering and decimation of a clean clip, and recordings without high frequencies."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from dawp.errors import BadInput
from dawp.settings import setting
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.problem import Problem

log = logging.getLogger(__name__)

METRICS = {"metrics": "lsd_high,lsd,si_snr,snr"}
MAX_USED = 0.96  # of half the sample rate of a recording with content up to there, if --target_rate is higher


@dataclass(frozen=True)
class BandwidthConfig(CorruptionConfig):
    """Bandwidth: the frequencies that are removed from clean clips, or that recordings lack."""

    cutoff: float | None = setting(
        None,
        "cutoff frequency in Hz of the low-pass that removes the high frequencies of clean clips; with --restore, the "
        "frequency above which the recordings lack content",
        at_least=100,
        at_most=96000,
        none="half of --rate, or a quarter of the sample rate; with --restore and for pairs, half of --rate, or "
        "detected",
        none_word="auto",
        brief="highest frequency that is left, in Hz",
    )
    rate: int | None = setting(
        None,
        "sample rate in Hz that clean clips are reduced to, and interpolated from",
        at_least=1000,
        at_most=192000,
        none="only the low-pass",
        brief="lower sample rate of the corrupted clips",
    )
    filter: str = setting(
        "fir",
        "low-pass filter, without delay: a windowed sinc, Chebyshev and Butterworth of order 8 or a biquad, each of "
        "these three forward and backward",
        choices=("fir", "chebyshev", "butterworth", "biquad"),
    )
    target_rate: int | None = setting(
        None,
        "sample rate in Hz of the restored recordings (--restore); at least that of the recordings",
        at_least=1000,
        at_most=192000,
        none="that of the recording",
        brief="sample rate of the restored recordings",
    )

    restore_only: ClassVar[tuple[str, ...]] = ("target_rate",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cutoff is not None and self.rate is not None and self.cutoff > self.rate / 2:
            raise BadInput(f"cutoff must be at most half of rate, {self.rate / 2:g} Hz, got {self.cutoff:g}")

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        return asdict(self)

    def label(self) -> str:
        parts = {"cutoff": self.cutoff, "rate": self.rate}
        return "_".join(f"{name}-{value:g}" for name, value in parts.items() if value is not None) or "cutoff-auto"

    @property
    def output_rate(self) -> int | None:
        return self.target_rate

    @property
    def given_cutoff(self) -> float | None:
        """The cutoff in Hz that the settings define; None if they define none."""
        return self.rate / 2 if self.cutoff is None and self.rate is not None else self.cutoff


def remove_high_band(clean: Tensor, sample_rate: int, config: BandwidthConfig, rng: torch.Generator) -> Problem:
    """Remove the high frequencies of a clean clip.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: the filter, the cutoff and the lower sample rate.
        rng: not used: filtering is not random.

    Returns:
        The problem, whose facts are the cutoff, the filter and the lower sample rate.

    Raises:
        BadInput: the clip is silent, or the cutoff or the lower rate is too high for its sample rate.
    """
    from dawp.operators.lowpass import LowPass
    from dawp.problem import Problem

    if not clean.any():
        raise BadInput("the clean clip is silent: a low-pass changes nothing", code="unusable_recording")
    if config.rate is not None and config.rate >= sample_rate:
        raise BadInput(f"rate must be below the sample rate of the clip, {sample_rate} Hz, got {config.rate}")
    cutoff = config.given_cutoff or sample_rate / 4
    _check_cutoff(cutoff, sample_rate)
    operator = LowPass(config.filter, cutoff, sample_rate, config.rate)
    facts = {"cutoff_hz": cutoff, "filter": config.filter, "rate_hz": config.rate}
    return Problem(operator(clean), clean, sample_rate, operator, facts=facts)


def adopt_low_band(observed: Tensor, clean: Tensor | None, sample_rate: int, config: BandwidthConfig) -> Problem:
    """Return the problem of a clip without high frequencies.

    Args:
        observed: clip ``[T]``.
        clean: its version with all frequencies ``[T]``, or None.
        sample_rate: of both, in Hz.
        config: ``cutoff`` or ``rate`` gives the cutoff; otherwise it is detected.

    Raises:
        BadInput: no cutoff is given or found, or it is too high for the sample rate.
    """
    from dawp.dsp.bandwidth import find_cutoff
    from dawp.operators.lowpass import LowPass
    from dawp.problem import Problem

    cutoff = config.given_cutoff or find_cutoff([observed[None]], sample_rate)
    if cutoff is None:
        raise BadInput("cutoff must be given: none was found in the clip", code="unusable_recording")
    _check_cutoff(cutoff, sample_rate)
    operator = LowPass(config.filter, cutoff, sample_rate)
    return Problem(observed, clean, sample_rate, operator, facts={"cutoff_hz": cutoff})


def find_band(parts: Iterable[Tensor], sample_rate: int, name: str, config: BandwidthConfig) -> BandwidthConfig | None:
    """Return the settings with the cutoff of a recording; None, with a message, if it lacks no high frequencies.

    Args:
        parts: consecutive parts ``[channels, n]`` of the recording.
        sample_rate: in Hz.
        name: of the recording, for messages.
        config: ``cutoff`` or ``rate`` gives the cutoff; otherwise it is detected.

    Raises:
        BadInput: the cutoff or ``target_rate`` does not suit the sample rate.
    """
    from dawp.dsp.bandwidth import find_cutoff

    target = config.target_rate or sample_rate
    if target < sample_rate:
        raise BadInput(f"target_rate must be at least the sample rate of the recording, {sample_rate}, got {target}")
    cutoff = config.given_cutoff
    if config.cutoff is None and config.rate is not None and config.rate >= target:
        raise BadInput(f"rate must be below the sample rate of the restored recording, {target} Hz, got {config.rate}")
    if cutoff is not None:
        _check_cutoff(cutoff, target)
    else:
        cutoff = find_cutoff(parts, sample_rate)
        if cutoff is not None:
            log.info("%s: no content above the cutoff of %.0f Hz", name, cutoff)
        elif target > sample_rate:
            cutoff = MAX_USED * sample_rate / 2
            log.info("%s: no cutoff found: frequencies above %.0f Hz are added", name, cutoff)
        else:
            log.info("%s: no cutoff found: left unchanged; use --cutoff to give it", name)
            return None
    return replace(config, cutoff=min(cutoff, MAX_USED * sample_rate / 2) if target > sample_rate else cutoff)


def _check_cutoff(cutoff: float, sample_rate: int) -> None:
    if cutoff >= sample_rate / 2:
        raise BadInput(f"cutoff must be below half the sample rate of {sample_rate} Hz, got {cutoff:g}")


register(
    Task(
        name="bandwidth",
        about="Extend the bandwidth: low-pass clean recordings, or find the cutoff of recordings, and restore them.",
        settings=BandwidthConfig,
        examples=(
            "muffled.wav --restore -o restored.wav",
            "telephone.wav --restore --target_rate 44100 -o restored.wav",
            "clean.wav --rate 8000 --preset fast --baselines",
        ),
        corrupt=remove_high_band,
        adopt=adopt_low_band,
        inspect=find_band,
        presets={
            "paper": METRICS,
            "fast": {**FAST, **METRICS},
            "restore": {**FAST, **BLIND, **METRICS, "method": "band_replication"},
        },
        allows_highpass=False,
    )
)
