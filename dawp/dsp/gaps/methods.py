"""The methods of gap filling.

Each has the same interface: ``method(waveform, mask, sample_rate, workers) -> waveform``. Every gap is filled from
known samples alone, so the result does not depend on the order of the gaps, and they are filled in parallel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dawp.dsp.gaps.fillers import fill_window, with_noise
from dawp.dsp.gaps.frames import fill_frames
from dawp.dsp.gaps.pseudo_gaps import (
    AR,
    MUSIC,
    SPEECH,
    Choice,
    Recipe,
    choose,
    fill_across,
    parallel_map,
    stacked_recipe,
)
from dawp.dsp.gaps.window import Gap, Recording, runs, window_around
from dawp.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Waveform = TypeVar("Waveform", Tensor, NDArray[Any])

INTERVAL_SECONDS = 60.0
FRAME, FRAME_CONTEXT = 0.0464, 0.0929  # seconds: of a frame, and on either side of it
FRAME_ORDERS = (0.0015, 0.0232)  # seconds


def ar(waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1) -> Waveform:
    """Fill gaps by one autoregressive model of both sides: order 46 ms, 186 ms on either side; see `fill`."""
    return _fill_all(waveform, mask, sample_rate, workers, lambda recording, gap: _fill(recording, gap, AR))


def ar_mean(waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1) -> Waveform:
    """Fill gaps by the mean of four autoregressive interpolations, for music; see `fill`."""
    return _fill_all(waveform, mask, sample_rate, workers, lambda recording, gap: _fill(recording, gap, MUSIC))


def ar_varying(waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1) -> Waveform:
    """Fill gaps by a time-varying and a short autoregressive model, for speech; see `fill`.

    The weighted mean of a model whose coefficients are linear in time (0.95; order 2 ms above the period of the voice,
    16 ms more on either side) and of a constant one (0.05; 12 ms, 25 ms). For gaps of up to 20 ms, the varying model
    weights each residual by the inverse of its local variance.
    """
    return _fill_all(waveform, mask, sample_rate, workers, lambda recording, gap: _fill(recording, gap, SPEECH))


def ar_stack(waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1) -> Waveform:
    """Fill each gap by the mean of eight interpolations whose weights fit the nearest pseudo-gaps best; see `fill`.

    A pseudo-gap is a known part of the recording that is filled as if it were missing. The weights are not negative,
    sum to 1 and minimise the squared error, divided by the median error at each pseudo-gap.
    """

    def fill_stacked(recording: Recording, gap: Gap) -> Array:
        return _fill(recording, gap, stacked_recipe(recording, gap))

    return _fill_all(waveform, mask, sample_rate, workers, fill_stacked)


def ar_frames(waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1) -> Waveform:
    """Fill many short gaps, such as clicks, by one autoregressive model for each frame of 46 ms.

    A model of order 1.5 ms, fitted to the signal with straight lines in the gaps, gives a first fill; one of order
    23 ms, fitted to the result, gives the second. Each gap is filled given the first fill of its neighbours, so that
    the time per gap does not depend on their number. Arguments and result are those of `fill`.
    """
    samples, known = _arrays(waveform, mask)
    hop, context = (max(2, round(seconds * sample_rate)) for seconds in (FRAME, FRAME_CONTEXT))
    exponent = int(np.frexp(np.abs(samples[known]).max())[1])
    scaled = np.ldexp(np.where(known, samples, 0).astype(np.float64), -exponent)
    orders = [max(2, round(seconds * sample_rate)) for seconds in FRAME_ORDERS]
    filled = samples.copy()
    filled[~known] = np.ldexp(fill_frames(scaled, ~known, orders, hop, context)[~known], exponent)
    return _like(filled, waveform)


def auto(
    waveform: Waveform, mask: Tensor | Flags, sample_rate: int, workers: int = 1, others: Waveform | None = None
) -> Waveform:
    """Fill gaps by a recipe for speech, music or sustained tones, chosen by pseudo-gaps of similar length; see `fill`.

    The choice is made for each interval of 60 s and for gaps whose lengths differ by a factor of up to four. If these
    are at most 40, and the recipe is not that for speech, they are filled by the mean of seven interpolations, weighted
    as by `ar_stack`.

    Args:
        waveform: as in `fill`.
        mask: as in `fill`.
        sample_rate: as in `fill`.
        workers: as in `fill`.
        others: other channels of the recording ``[K, T]``, NaN where a sample is missing. They predict gaps in which
            they are known, where that is better at pseudo-gaps.
    """
    choices: dict[Gap, Choice] = {}

    def prepare(recording: Recording) -> None:
        for group in _groups(recording):
            choice = choose(recording, group, workers)
            choices.update(dict.fromkeys(group, choice))

    return _fill_all(
        waveform,
        mask,
        sample_rate,
        workers,
        lambda recording, gap: _fill(recording, gap, *choices[gap]),
        prepare,
        others,
    )


METHODS: dict[str, Callable[..., Any]] = {
    "ar": ar,
    "ar_mean": ar_mean,
    "ar_varying": ar_varying,
    "ar_stack": ar_stack,
    "auto": auto,
}


def fill(
    waveform: Waveform, mask: Tensor | Flags, sample_rate: int, method: str = "auto", workers: int = 1
) -> Waveform:
    """Fill the missing samples of a recording.

    Gaps may be of any length and anywhere: a gap at an end is extrapolated, neighbouring gaps are solved for together.
    From 100 ms on, noise of the same spectral envelope completes what the models cannot predict.

    Args:
        waveform: ``[T]``, tensor or array; missing samples are not read.
        mask: bool ``[T]``, True where a sample is known.
        sample_rate: in Hz.
        method: one of `METHODS`.
        workers: number of threads.

    Returns:
        ``[T]``, of the type of the waveform; known samples are returned unchanged.

    Raises:
        BadInput: the shapes differ, no sample is known, or the method does not exist.
    """
    if method not in METHODS:
        raise BadInput(f"method must be one of {', '.join(METHODS)}, got {method}")
    filled: Waveform = METHODS[method](waveform, mask, sample_rate, workers)
    return filled


def _fill_all(
    waveform: Waveform,
    mask: Tensor | Flags,
    sample_rate: int,
    workers: int,
    fill_gap: Callable[[Recording, Gap], Array],
    prepare: Callable[[Recording], None] = lambda recording: None,
    others: Waveform | None = None,
) -> Waveform:
    """Fill all gaps, each by a function of the recording and the gap that returns its samples."""
    from threadpoolctl import threadpool_limits

    samples, known = _arrays(waveform, mask)
    gaps = [Gap(*bounds) for bounds in runs(~known)]
    channels = _other_channels(others, len(samples))
    recording = Recording(samples, known, sample_rate, gaps, channels, [np.isfinite(channel) for channel in channels])
    filled = samples.copy()
    with threadpool_limits(1, "blas"):  # the gaps are filled in parallel
        prepare(recording)
        for gap, values in zip(gaps, parallel_map(functools.partial(fill_gap, recording), gaps, workers), strict=True):
            filled[gap.start : gap.stop] = values
    return _like(filled, waveform)


def _arrays(waveform: Waveform, mask: Tensor | Flags) -> tuple[NDArray[Any], Flags]:
    """Return a waveform ``[T]`` and its mask ``[T]`` as arrays.

    Raises:
        BadInput: the shapes differ, or no sample is known.
    """
    samples: NDArray[Any]
    samples = waveform.detach().cpu().numpy() if isinstance(waveform, Tensor) else np.asarray(waveform)
    known = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if samples.ndim != 1 or known.shape != samples.shape or known.dtype != np.bool_:
        raise BadInput(
            f"mask must be bool of the waveform's shape [T], got {known.dtype} {list(known.shape)} "
            f"for {list(samples.shape)}"
        )
    if not known.any():
        raise BadInput(f"mask must have at least one known sample, got none of {len(known)}", code="unusable_recording")
    return samples, known


def _like(samples: NDArray[Any], waveform: Waveform) -> Waveform:
    """Return samples ``[T]`` as the type of a waveform."""
    return torch.from_numpy(samples).to(waveform.device) if isinstance(waveform, Tensor) else samples


def _other_channels(others: Tensor | NDArray[Any] | None, length: int) -> list[NDArray[Any]]:
    """Return the other channels of a waveform as a list of ``[T]``."""
    if others is None:
        return []
    channels: NDArray[Any] = others.detach().cpu().numpy() if isinstance(others, Tensor) else np.asarray(others)
    if channels.ndim != 2 or channels.shape[1] != length:
        raise BadInput(f"others must have the shape [K, {length}], got {list(channels.shape)}")
    return list(channels)


def _fill(recording: Recording, gap: Gap, recipe: Recipe, share: float = 0.0) -> Array:
    """Fill one gap by the weighted mean of fillers, completed with noise if it is long.

    Args:
        recording: with the gap.
        gap: to fill.
        recipe: the fillers.
        share: weight of the fill that uses the other channels, where they are known.
    """
    across = fill_across(recording, gap, recipe) if share else None
    if across is not None:
        return share * np.ldexp(*across) + (1 - share) * _fill(recording, gap, recipe)
    window = window_around(recording, gap, max(filler.context for filler in recipe))
    fills = fill_window(window, list(recipe))
    filled = sum((weight * fills[filler] for filler, weight in recipe.items()), np.zeros(gap.stop - gap.start))
    return np.ldexp(with_noise(window, filled), window.exponent)


def _groups(recording: Recording) -> list[list[Gap]]:
    """Group gaps of the same interval and of similar length."""
    count = max(1, round(len(recording.mask) / recording.sample_rate / INTERVAL_SECONDS))
    groups: dict[tuple[int, int], list[Gap]] = {}
    for gap in recording.gaps:
        interval = int((gap.start + gap.stop) / 2 * count / len(recording.mask))
        groups.setdefault((interval, round(math.log(gap.stop - gap.start, 4))), []).append(gap)
    return list(groups.values())
