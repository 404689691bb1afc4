"""Clipping of a clean clip at a level, and clipped recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dawp.errors import BadInput
from dawp.settings import setting
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.problem import Problem


@dataclass(frozen=True)
class ClippingConfig(CorruptionConfig):
    """Clipping: the level at which clean clips are clipped, or recordings were."""

    clip_sdr: float = setting(
        7.0,
        "signal-to-distortion ratio of the clipped clip in dB; not used with --clip_level",
        at_least=-20,
        at_most=100,
        brief="SDR of the clipped clip in dB",
    )
    clip_level: float | None = setting(
        None,
        "amplitude at which clean clips are clipped; with --restore, at which the recordings were clipped",
        above=0,
        none="by --clip_sdr; with --restore, detected in each channel of each block",
        brief="amplitude of the clipping",
    )

    def identity(self) -> dict[str, Any]:
        unused = "clip_sdr" if self.clip_level is not None else "clip_level"
        return {name: value for name, value in super().identity().items() if name != unused}

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        return {"clip_level": self.clip_level}

    def label(self) -> str:
        return f"sdr-{self.clip_sdr:g}" if self.clip_level is None else f"level-{self.clip_level:g}"


def clip(clean: Tensor, sample_rate: int, config: ClippingConfig, rng: torch.Generator) -> Problem:
    """Clip a clean clip.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: the level.
        rng: not used: clipping is not random.

    Returns:
        The problem, whose facts are the level, the SDR of the observation and the share of clipped samples.

    Raises:
        BadInput: no sample of the clip exceeds the level.
    """
    from dawp.dsp.clipping import clip_to_sdr
    from dawp.operators.clipping import Clipping

    if not clean.any():
        raise BadInput("the clean clip is silent: clipping changes nothing", code="unusable_recording")
    level = clip_to_sdr(clean, config.clip_sdr) if config.clip_level is None else config.clip_level
    operator = Clipping(clean > level, clean < -level)
    if not operator.clipped.any():
        if config.clip_level is None:
            raise BadInput(f"clip_sdr must be low enough to clip a sample, got {config.clip_sdr:g}")
        peak = float(clean.abs().max())
        raise BadInput(f"clip_level must be below the peak of the clip, {peak:.4g}, got {level:g}")
    return _problem(clean.clamp(-level, level), clean, sample_rate, operator, level)


def find_clipping(observed: Tensor, clean: Tensor | None, sample_rate: int, config: ClippingConfig) -> Problem:
    """Return the problem of a clipped clip.

    Args:
        observed: clipped clip ``[T]``.
        clean: its version before clipping ``[T]``, or None.
        sample_rate: of both, in Hz.
        config: ``clip_level`` gives the level; otherwise it is detected.

    Raises:
        BadInput: no sample is reliable.
    """
    from dawp.dsp.clipping import clipped_samples
    from dawp.operators.clipping import Clipping

    levels = levels_of(observed, config)
    operator = Clipping(*clipped_samples(observed, levels))
    if operator.clipped.all():
        raise BadInput("all samples are clipped: at least one must be reliable", code="unusable_recording")
    return _problem(
        observed, clean, sample_rate, operator, max((abs(level) for level in levels if level), default=None)
    )


def levels_of(observed: Tensor, config: ClippingConfig) -> tuple[float | None, float | None]:
    """Return the clipping levels above and below of a clip ``[T]``: those of the settings, or the detected ones."""
    from dawp.dsp.clipping import clipping_levels

    if config.clip_level is not None:
        return config.clip_level, -config.clip_level
    return clipping_levels(observed)


def _problem(observed: Tensor, clean: Tensor | None, sample_rate: int, operator: Any, level: float | None) -> Problem:
    import torch

    from dawp.problem import Problem

    facts: dict[str, Any] = {"clip_level": level, "clipped_percent": 100 * float(operator.clipped.float().mean())}
    if clean is not None:
        error = (observed - clean).double().square().sum().clamp(min=1e-30)
        facts["sdr_db"] = float(10 * torch.log10(clean.double().square().sum() / error))
    return Problem(observed, clean, sample_rate, operator, facts=facts)


register(
    Task(
        name="declip",
        about="Undo clipping: clip clean recordings, or find the clipped samples of recordings, and restore them.",
        settings=ClippingConfig,
        examples=(
            "clipped.wav --restore -o restored.wav",
            "clipped.wav --restore --method a_spade -o restored.wav",
            "clean.wav --clip_sdr 5 --preset fast --baselines",
        ),
        corrupt=clip,
        adopt=find_clipping,
        is_local=True,
        presets={"restore": {**FAST, **BLIND, "method": "sparse_mean"}},
        allows_highpass=False,
        has_strength=True,
    )
)
