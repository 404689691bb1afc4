"""Find the clicks of a recording.

A click is a burst of at most a few milliseconds that an autoregressive model of the recording does not predict, neither
from the samples before it nor from those after it, and after which the recording continues as before it. The onset of
a note or a consonant is as hard to predict, but what follows it is louder, and less predictable, than what precedes it.

Source of the residual: Godsill and Rayner, Digital Audio Restoration (Springer 1998), chapter 5; Vaseghi and Rayner,
Detection and suppression of impulsive noise in speech communication systems (IEE Proceedings I, 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from dawp.dsp.autoregression import Model
from dawp.dsp.gaps.frames import bridge, frame_models, refill
from dawp.dsp.gaps.window import runs

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Waveform = TypeVar("Waveform", Tensor, NDArray[Any])

ORDER, HOP, CONTEXT = 0.0015, 0.025, 0.05  # seconds: of the models, of their frames, and on either side of a frame
LEVEL_BLOCK, LEVEL_BLOCKS, LEVEL_GUARD = 0.001, 5, 1  # seconds; blocks on either side, and between them and a sample
BESIDE = 0.002  # seconds on either side of a click that are compared with each other
LEVEL_FLOOR = 0.05  # of the local level, relative to its RMS over the recording
EDGE = 4.0  # local levels at which a click starts and ends
MAX_DISTANCE, MAX_LENGTH = 0.0002, 0.004  # seconds: between parts of one click, and of a click
MAX_CHANGE = 2.0  # of the level from one side of a click to the other
MAX_LEFT = 0.35  # of the residual of a click, by its fill
PULSE_PERIODS, PULSE_TOLERANCE = (0.001, 0.025), 0.0001  # seconds
PULSE_SHARE = 0.5  # of the height of a pulse that its repetitions have at least
ROUNDS = 3


class Strictness(NamedTuple):
    """Requirements for a click."""

    threshold: float  # height in local levels
    width: float  # seconds at which the threshold doubles


RARE, DENSE = Strictness(12.0, 0.0007), Strictness(8.0, 0.001)
RARE_PER_MINUTE, DENSE_PER_MINUTE = 60.0, 300.0  # density of the clicks found so far, between which both are blended
FREE_CLICKS = 3  # not counted for the density

REPEATING = 6.0  # local levels of samples whose repetition gives the period
LAG_STEP, LAG_RANGE = 0.0002, 0.02  # seconds; relative deviation of the period of a record from its nominal value
LAG_EXCESS, MIN_REPEATING = 5.0, 0.1  # standard deviations of the number of coincidences; share of the samples
TOLERANCE = 0.0003  # seconds between a click and its repetition
MAX_SUPPORT = 2.0  # divides the threshold of a click that repeats


def detect_clicks(
    waveform: Waveform, sample_rate: int, sensitivity: float = 1.0, revolution: float | None = None
) -> Waveform:
    """Find the samples of a recording that belong to clicks.

    The height of a sample is the smaller magnitude of the forward and the backward residual of an autoregressive model
    of its frame (25 ms; order 1.5 ms), divided by the local level: the median magnitude of the residuals (the geometric
    mean of both) 1 to 6 ms before or 1 to 6 ms after it, whichever is larger. A candidate is a run of samples above 4,
    whose maximum exceeds the threshold. It is filled by the model, and is a click if ::

        max > threshold (1 + (length / width)²) max(1, change / 2) max(1, left / 0.35)

    where the level is the largest median of the residuals of the filled signal in the 2 ms before and the 2 ms after
    it; the change is the larger ratio of the medians, after to before of the forward residual and before to after of
    the backward one; and the part of the residual that is left by the fill is the largest ratio of its RMS (forward in
    the click and the order after it, backward in the click and the order before it) and of its maximum in the click, to
    those of the recording. It must not be a pulse of a voice, one of four of similar height that are equally spaced by
    1 to 25 ms. The threshold is 12 and the width 0.7 ms, falling to 8 and rising to 1 ms where more than 60 to 300
    clicks a minute have been found. The search is repeated twice with the clicks filled.

    Args:
        waveform: ``[T]``, tensor or array.
        sample_rate: in Hz.
        sensitivity: divides the threshold.
        revolution: duration in seconds of a revolution of the record, to within 2 %: a click that repeats in the
            previous or the next revolution needs as little as half the threshold; None to use the residual alone.

    Returns:
        Bool ``[T]``, True for samples of clicks.
    """
    samples: NDArray[Any]
    samples = waveform.detach().cpu().numpy() if isinstance(waveform, Tensor) else np.asarray(waveform)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak:
        found = _Search(samples.astype(np.float64) / peak, sample_rate, sensitivity, revolution).run()
    else:
        found = np.zeros(len(samples), dtype=bool)
    if isinstance(waveform, Tensor):
        import torch

        return torch.from_numpy(found).to(waveform.device)
    return found


class _Search:
    """The search for the clicks of one recording ``[N]``, with a peak of 1."""

    def __init__(self, samples: Array, rate: int, sensitivity: float, revolution: float | None) -> None:
        self._samples, self._rate, self._sensitivity, self._revolution = samples.copy(), rate, sensitivity, revolution
        self._order, self._hop, self._context = (max(2, round(s * rate)) for s in (ORDER, HOP, CONTEXT))
        self._order = min(self._order, len(samples) // 2)
        self._found = np.zeros(len(samples), dtype=bool)
        self._peaks = np.zeros(len(samples))  # in local levels, the largest of all rounds

    def run(self) -> Flags:
        """Return which samples are in clicks."""
        for _ in range(ROUNDS):
            models = frame_models(self._samples, self._order, self._hop, self._context)
            ahead, behind = residuals(self._samples, models, self._hop)
            level = _local_level(np.sqrt(ahead * behind), max(4, round(LEVEL_BLOCK * self._rate)))
            floor = max(LEVEL_FLOOR * float(np.sqrt(np.mean(level**2))), 1e-15)
            heights = np.minimum(ahead, behind) / np.maximum(level, floor)
            peaks = np.sqrt(ahead * behind) / np.maximum(level, floor)
            np.maximum(self._peaks, peaks, out=self._peaks)
            strictness, support = self._strictness(), self._support()
            high = peaks > strictness.threshold / support
            candidates = self._candidates(heights, high)
            if not self._accept(candidates, models, (ahead, behind), floor, strictness, support):
                break
        return self._found

    def _strictness(self) -> Strictness:
        """Return the requirements: the more clicks have been found, the more are expected."""
        count = max(0, len(runs(self._found)) - FREE_CLICKS)
        density = count * 60 * self._rate / len(self._samples)
        position = np.log(max(density, 1e-9) / RARE_PER_MINUTE) / np.log(DENSE_PER_MINUTE / RARE_PER_MINUTE)
        share = float(np.clip(position, 0, 1))
        threshold, width = ((1 - share) * rare + share * dense for rare, dense in zip(RARE, DENSE, strict=True))
        return Strictness(threshold / self._sensitivity, width)

    def _support(self) -> Array:
        """Return the factor ``[N]`` from 1 to 2 that divides the threshold where a click repeats."""
        from scipy.ndimage import maximum_filter1d

        support = np.ones(len(self._samples))
        period = self._revolution and repetition_period(self._peaks, self._rate, self._revolution)
        if period:
            near = maximum_filter1d(self._peaks, 2 * round(TOLERANCE * self._rate) + 1)
            repeated = np.zeros(len(near))
            repeated[period:] = near[:-period]
            np.maximum(repeated[:-period], near[period:], out=repeated[:-period])
            support = np.clip(repeated / EDGE, 1, MAX_SUPPORT)
        return support

    def _candidates(self, heights: Array, high: Flags) -> list[tuple[int, int]]:
        """Return the runs of samples that may be clicks, with a sample on either side."""
        joined: list[list[int]] = []
        for start, stop in runs((heights > EDGE) | high):
            if joined and start - joined[-1][1] <= MAX_DISTANCE * self._rate:
                joined[-1][1] = stop
            else:
                joined.append([start, stop])
        longest = MAX_LENGTH * self._rate
        flags = np.zeros(len(high), dtype=bool)
        for start, stop in joined:
            if stop - start <= longest and high[start:stop].any():
                flags[max(0, start - 1) : stop + 1] = True
        return [] if flags.all() else runs(flags)

    def _accept(
        self,
        candidates: Sequence[tuple[int, int]],
        models: Sequence[Model | None],
        observed: tuple[Array, Array],
        floor: float,
        strictness: Strictness,
        support: Array,
    ) -> int:
        """Fill the candidates, keep the fill of those that are clicks, and return their number."""
        if not candidates:
            return 0
        from scipy.ndimage import maximum_filter1d

        filled, missing = self._samples.copy(), np.zeros(len(self._samples), dtype=bool)
        for start, stop in candidates:
            missing[start:stop] = True
        bridge(filled, missing)
        for _ in range(2):
            refill(filled, candidates, models, self._hop)
        ahead, behind = residuals(filled, models, self._hop)
        peaks, rest = np.sqrt(observed[0] * observed[1]), np.sqrt(ahead * behind)
        near = maximum_filter1d(peaks, 2 * round(PULSE_TOLERANCE * self._rate) + 1)
        shortest, longest = (max(1, round(seconds * self._rate)) for seconds in PULSE_PERIODS)
        beside, count = round(BESIDE * self._rate), 0
        for start, stop in candidates:
            sides = slice(max(0, start - beside), start), slice(stop, stop + beside)
            before, after, later, earlier = (
                max(floor, float(np.median(residual[side]))) if len(residual[side]) else floor
                for residual, side in zip((ahead, ahead, behind, behind), (*sides, *sides[::-1]), strict=True)
            )
            change = max(after / before, earlier / later)
            threshold = strictness.threshold / float(support[start:stop].max())
            threshold *= 1 + ((stop - start - 2) / (self._rate * strictness.width)) ** 2
            peak = peaks[start:stop].max()
            left = max(
                _energy_ratio(ahead, observed[0], slice(start, stop + self._order)),
                _energy_ratio(behind, observed[1], slice(max(0, start - self._order), stop)),
                rest[start:stop].max() / max(peak, floor),
            )
            height = peak / max(before, after, later, earlier)
            threshold *= max(1.0, change / MAX_CHANGE) * max(1.0, left / MAX_LEFT)
            if height > threshold and not is_pulse(near, start + int(peaks[start:stop].argmax()), longest, shortest):
                self._found[start:stop] = True
                self._samples[start:stop] = filled[start:stop]
                count += 1
        return count


def is_pulse(peaks: Array, place: int, longest: int, shortest: int) -> bool:
    """Return whether a peak is one of four that are equally spaced, like the pulses of a voice or of a square wave.

    Args:
        peaks: magnitudes ``[N]``, each the largest within the tolerance of the spacing.
        place: index of the peak.
        longest: spacing in samples.
        shortest: spacing in samples.
    """
    lags = np.arange(shortest, longest + 1)
    reach = 3 * longest
    around = np.zeros(2 * reach + 1, dtype=bool)
    first = max(0, place - reach)
    part = peaks[first : place + reach + 1] >= PULSE_SHARE * peaks[place]
    around[first - place + reach :][: len(part)] = part
    runs_of_four = ((1, 2, 3), (-1, 1, 2), (-2, -1, 1), (-3, -2, -1))
    return any(bool(np.all([around[reach + k * lags] for k in others], axis=0).any()) for others in runs_of_four)


def residuals(samples: Array, models: Sequence[Model | None], hop: int) -> tuple[Array, Array]:
    """Return the magnitudes of the forward and the backward prediction error of models of each frame, ``[N]`` each.

    ``e(t) = x(t) + a_1 x(t-1) + ... + a_p x(t-p)`` and the same with t+1 ... t+p. Where there are no p samples on one
    side, the other error is used.
    """
    size = len(samples)
    order = max((len(model.coefficients) for model in models if model), default=1) - 1
    ahead, behind = np.zeros(size), np.zeros(size)
    padded = np.pad(samples, order)
    for index, model in enumerate(models):
        if model is None:
            continue
        p = len(model.coefficients) - 1
        start, stop = index * hop, min(size, (index + 1) * hop)
        ahead[start:stop] = np.convolve(padded[start + order - p : stop + order], model.coefficients, "valid")
        behind[start:stop] = np.correlate(padded[start + order : stop + order + p], model.coefficients, "valid")
    ahead[:order], behind[size - order :] = behind[:order], ahead[size - order :]
    return np.abs(ahead), np.abs(behind)


def _energy_ratio(filled: Array, observed: Array, where: slice) -> float:
    """Return the RMS of the residual of the fill, relative to that of the recording, at some samples."""
    power = float(np.square(observed[where]).sum())
    return float(np.sqrt(np.square(filled[where]).sum() / power)) if power else 1.0


def _local_level(magnitudes: Array, block: int) -> Array:
    """Return the larger of the median magnitudes before and after each sample ``[N]``."""
    count = max(1, len(magnitudes) // block)
    block = min(block, len(magnitudes))
    medians = np.median(magnitudes[: count * block].reshape(count, block), axis=1)
    reach = LEVEL_GUARD + LEVEL_BLOCKS
    padded = np.pad(medians, reach, mode="edge")
    sides = np.median(np.lib.stride_tricks.sliding_window_view(padded, LEVEL_BLOCKS), axis=1)
    level = np.maximum(sides[:count], sides[reach + LEVEL_GUARD + 1 :][:count])
    return np.pad(np.repeat(level, block), (0, len(magnitudes) - count * block), mode="edge")


def repetition_period(peaks: Array, rate: int, nominal: float) -> int | None:
    """Return the period in samples after which the clicks of a record repeat.

    Args:
        peaks: geometric mean of the residuals, in local levels ``[N]``.
        rate: in Hz.
        nominal: duration of a revolution in seconds.

    Returns:
        The lag within 2 % of the nominal one at which the most samples above 6 coincide, to within 0.2 ms; None if
        these are fewer than a tenth, or no more than five standard deviations above the mean of all lags.
    """
    from scipy.signal import correlate

    step = max(1, round(LAG_STEP * rate))
    lags = np.arange(
        int(nominal * (1 - LAG_RANGE) * rate / step), int(np.ceil(nominal * (1 + LAG_RANGE) * rate / step)) + 1
    )
    count = len(peaks) // step
    if count <= lags[-1]:
        return None
    clicks = (peaks[: count * step].reshape(count, step).max(axis=1) > REPEATING).astype(float)
    coincidences = correlate(clicks, clicks, method="fft")[count - 1 :][lags]
    best = int(np.argmax(coincidences))
    mean = float(coincidences.mean())
    least = max(mean + LAG_EXCESS * np.sqrt(max(mean, 1.0)), MIN_REPEATING * clicks.sum())
    if coincidences[best] <= least:
        return None
    return int(lags[best]) * step
