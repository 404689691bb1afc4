"""Restore waveforms in memory: arrays in, results out.

Only a call loads PyTorch, not the import of this module.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from dawp.config import Config
from dawp.errors import BadInput
from dawp.io.settings import MIN_LENGTH, ClipConfig
from dawp.openmp import limit_spinning
from dawp.restoration.settings import RestoreConfig
from dawp.runs.settings import RunConfig
from dawp.tasks.base import make_problem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from dawp.methods.deep_prior.result import Result
    from dawp.methods.deep_prior.single_fit import OnEpoch


def denoise(
    waveform: ArrayLike | Tensor,
    sample_rate: int = 16000,
    *,
    corrupted: ArrayLike | Tensor | None = None,
    preset: str = "paper",
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    **settings: Any,
) -> Result:
    """Add noise to a clean waveform, or use a noisy version of it, and restore it.

    Args:
        waveform: the clean clip ``[T]`` or ``[1, T]``, samples in [-1, 1], at least 64.
        sample_rate: sample rate of the clip in Hz; the clip is not resampled.
        corrupted: the same clip with noise, sample-aligned; None to add noise as set by the settings.
        preset: ``paper``, ``fast`` or ``restore``.
        progress: show a progress bar on standard error.
        on_epoch: called after each epoch with the epoch and the history so far.
        settings: any setting of noise, generator, fit and metrics, by the name of its flag: ``epochs=500``,
            ``snr=5.0``, ``seed=1``, ``device="cpu"``.

    Returns:
        The result: oracle stops, history, weights.

    Raises:
        BadInput: the waveform or a setting cannot be used; a ValueError with one line that says why.

    Example:
        >>> import torch
        >>> clean = torch.sin(torch.arange(4000) / 5)
        >>> result = denoise(clean, epochs=2, channels=4, lstm_layers=0, pesq_every=2)
        >>> result.best["si_snr"].waveform.shape
        torch.Size([4000])
    """
    return _solve("denoise", waveform, corrupted, sample_rate, preset, settings, progress, on_epoch)


def dereverb(
    waveform: ArrayLike | Tensor,
    sample_rate: int = 16000,
    *,
    corrupted: ArrayLike | Tensor | None = None,
    preset: str = "paper",
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    **settings: Any,
) -> Result:
    """Add reverberation to a clean waveform, or use a reverberant version of it, and restore it.

    Arguments, result and errors are those of ``denoise``, with the settings of reverberation instead of noise:
    ``rt60=0.5``, ``room_dim=(5, 4, 3)``, ``rir_source="hall.wav"``.

    Example:
        >>> import torch
        >>> clean = torch.sin(torch.arange(4000) / 5)
        >>> result = dereverb(clean, rt60=0.2, epochs=2, channels=4, lstm_layers=0, pesq_every=2)
        >>> abs(result.problem.facts["rt60"] - 0.2) < 0.02
        True
    """
    return _solve("dereverb", waveform, corrupted, sample_rate, preset, settings, progress, on_epoch)


def inpaint(
    waveform: ArrayLike | Tensor,
    sample_rate: int = 16000,
    *,
    corrupted: ArrayLike | Tensor | None = None,
    preset: str = "paper",
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    **settings: Any,
) -> Result:
    """Cut gaps into a clean waveform, or find the gaps of a damaged one, and fill them.

    Arguments, result and errors are those of ``denoise``, with the settings of gaps instead of noise:
    ``gap_ms=5``, ``n_gaps=8``, ``gaps="0.5:0.002"``. With ``gaps="auto"`` the waveform is the damaged one: NaN and
    other drop-outs are filled, and there are no metrics. Drop-outs of ``corrupted`` are filled as well.

    Returns:
        The result; ``result.restored.waveform`` is the estimate, which does not depend on the clean clip.

    Example:
        >>> import torch
        >>> damaged = torch.sin(torch.arange(4000) / 5)
        >>> damaged[2000:2040] = torch.nan
        >>> result = inpaint(damaged, gaps="auto", epochs=2, channels=4, lstm_layers=0)
        >>> result.restored.waveform.isfinite().all()
        tensor(True)
    """
    return _solve("inpaint", waveform, corrupted, sample_rate, preset, settings, progress, on_epoch)


def restore(
    waveform: ArrayLike | Tensor,
    sample_rate: int = 16000,
    task: str = "denoise",
    *,
    preset: str = "restore",
    progress: bool = False,
    **settings: Any,
) -> Tensor:
    """Restore a corrupted waveform that has no clean version, of any length.

    The waveform is split into overlapping blocks. Each channel of a block is restored separately, and the blocks are
    cross-faded.

    Args:
        waveform: corrupted, ``[T]`` or ``[channels, T]``, samples in [-1, 1], at least 64.
        sample_rate: in Hz.
        task: name of a registered task, such as ``denoise``, ``dereverb`` or ``inpaint``. ``inpaint`` fills NaN and,
            unless ``gaps`` is set, runs of zeros.
        preset: ``paper``, ``fast`` or ``restore``.
        progress: show a progress bar on standard error.
        settings: any setting of blocks, generator, fit and stop, by the name of its flag: ``fits=4``, ``block=2.0``,
            ``method="auto"``, ``strength=0.5``, ``samplerate=16000`` to restore at a lower rate.

    Returns:
        The restored waveform, of the same shape, float32 on the CPU; ``round(T * target_rate / sample_rate)`` samples
        long if ``target_rate`` is set (task ``bandwidth``).

    Raises:
        BadInput: the waveform or a setting cannot be used; a ValueError with one line that says why.
        FitDiverged: a fit ended without an estimate.

    Example:
        >>> import torch
        >>> noisy = torch.sin(torch.arange(4000) / 5) + 0.1 * torch.randn(4000)
        >>> restore(noisy, epochs=2, channels=4, lstm_layers=0).shape
        torch.Size([4000])
    """
    limit_spinning()
    import torch

    from dawp.restoration.waveform import restore_waveform

    _check_names(settings, taken=("samplerate", "method", "block", "overlap", "strength"))
    config = Config.of(task, preset, restore=True, **settings)
    for name in settings.keys() - config.effective().keys():
        logging.getLogger(__name__).warning("%s has no effect with these settings", name)
    with torch.inference_mode(False):
        sample_rate = _check_sample_rate(sample_rate)
        samples = _as_samples(waveform, "waveform", damaged=config.corruption.missing is not None)
        if samples.ndim not in (1, 2) or not len(samples):
            raise BadInput(f"waveform must have the shape [T] or [channels, T], got {[*samples.shape]}")
        channels = samples[None] if samples.ndim == 1 else samples
        return restore_waveform(channels, sample_rate, config, task if progress else None).reshape(
            *samples.shape[:-1], -1
        )


def _solve(
    task: str,
    waveform: ArrayLike | Tensor,
    corrupted: ArrayLike | Tensor | None,
    sample_rate: int,
    preset: str,
    settings: dict[str, Any],
    progress: bool,
    on_epoch: OnEpoch | None,
) -> Result:
    limit_spinning()
    import torch

    from dawp.io.audio import mark_missing
    from dawp.methods.deep_prior.solver import solve
    from dawp.randomness import seeded

    _check_names(settings)
    config = Config.of(task, preset, **settings)
    with torch.inference_mode(False):  # the fit needs gradients even if the caller uses inference mode
        sample_rate = _check_sample_rate(sample_rate)
        missing = config.corruption.missing
        clean: Tensor | None = None
        observed: Tensor | None = None
        if corrupted is None and config.corruption.sources_are_corrupted:
            observed = _as_clip(waveform, "waveform", damaged=missing is not None)
        else:
            clean = _as_clip(waveform, "waveform")
        if corrupted is not None:
            observed = _as_clip(corrupted, "corrupted", damaged=missing is not None)
        if observed is not None and missing is not None:
            observed = mark_missing(observed, sample_rate, missing)
        rng = seeded(config.fit.seed, "corruption")
        problem = make_problem(task, clean, observed, sample_rate, config.corruption, rng)
        return solve(problem, config, progress=task if progress else None, on_epoch=on_epoch)


def _check_names(settings: dict[str, Any], taken: Collection[str] = ()) -> None:
    """Refuse the settings that select files and parts of them, except ``taken``: a waveform is used unchanged."""
    for group in (RunConfig, RestoreConfig, ClipConfig):
        for field in dataclasses.fields(group):
            if field.name in settings and field.name not in taken:
                raise BadInput(f"{field.name} is a setting of the command line: a waveform is fitted unchanged")


def _as_clip(waveform: ArrayLike | Tensor, name: str, damaged: bool = False) -> Tensor:
    """Return ``waveform`` as a float32 tensor ``[T]`` on the CPU; samples may be missing if it is ``damaged``."""
    clip = _as_samples(waveform, name, damaged)
    if clip.ndim == 2 and len(clip) == 1:
        clip = clip[0]
    if clip.ndim != 1:
        raise BadInput(f"{name} must be one channel, of shape [T] or [1, T], got {[*clip.shape]}")
    return clip


def _as_samples(waveform: ArrayLike | Tensor, name: str, damaged: bool) -> Tensor:
    """Return ``waveform`` as a float32 tensor ``[..., T]`` on the CPU."""
    import numpy as np
    import torch

    if not isinstance(waveform, torch.Tensor):
        try:
            array = np.asarray(waveform)
        except ValueError as error:
            raise BadInput(f"{name} must be a tensor or an array of numbers, got {error}") from None
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            got = f"{type(waveform).__name__} of {array.dtype}"
            raise BadInput(f"{name} must be a tensor or an array of numbers, got {got}")
        # In memory order and native byte order, as torch requires.
        waveform = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    samples = waveform.detach().cpu()
    if not samples.is_floating_point():
        raise BadInput(f"{name} must have floating-point samples in [-1, 1], got {samples.dtype}")
    if samples.ndim and samples.shape[-1] < MIN_LENGTH:
        raise BadInput(
            f"{name} must have at least {MIN_LENGTH} samples, got {samples.shape[-1]}",
            code="unusable_recording",
        )
    if not damaged and not torch.isfinite(samples).all():
        raise BadInput(f"{name} must be finite, got NaN or infinite samples", code="unusable_recording")
    return samples.float().clone()


def _check_sample_rate(sample_rate: int) -> int:
    """Return ``sample_rate`` as a whole number within the bounds of the setting ``samplerate``."""
    try:
        checked = ClipConfig(samplerate=sample_rate).samplerate
        if checked is None:
            raise BadInput("samplerate must be a whole number, got None")
        return checked
    except BadInput as refusal:
        raise BadInput(str(refusal).replace("samplerate", "sample_rate", 1), code=refusal.code) from None
