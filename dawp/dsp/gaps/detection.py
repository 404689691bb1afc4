"""Find drop-outs in a channel: zeros, near silence, a repeated value, or noise in place of the signal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp.gaps.window import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Spans = list[tuple[int, int]]

BESIDE_SECONDS, BESIDE_DB = 0.00025, -40.0  # sound beside a drop-out, relative to the channel's RMS
SIDE_SECONDS = 0.0025  # on either side of near silence, which includes a fade
SILENCE_DB = -45.0  # peak of near silence, relative to the RMS of the softer side
FADE_DB, FADE_END_DB = -9.0, -20.0  # level of the samples beside zeros after a fade, relative to those further out
FADED_SECONDS = 0.0005  # beside zeros
PEAKED_DB = 10.0  # mean square over median square, above which samples beside near silence are peaks in silence
MAX_ZEROS = 0.9  # share of zeros up to which near silence is not a run of zeros
HELD_STEPS, HELD_PEAK = 4.0, 0.9  # least change beside a held value in quantisation steps; its level below the peak
SIMILAR_SECONDS, MAX_SIMILAR = 0.25, 2  # number of other held values around one, as in a square wave
FRAME_SECONDS, WHITENING_ORDER = 0.5, 32  # of the linear prediction that shows noise
MIN_ERROR = 1e-12  # of the squared prediction error, relative to the largest one of a frame
WHITENING_ROUNDS = 3  # in which samples with a large prediction error get a lower weight
NOISE_SECONDS, NOISE_EDGE_SECONDS = 0.002, 0.001  # shortest noise; samples on either side of its ends
NOISE_EXCESS_DB, NOISE_EDGE_DB = 20.0, 15.0  # of its prediction error over the median, and at its ends
NOISE_UNEVEN_DB = 3.0  # difference between its halves
NOISE_MEDIAN = 0.2  # of its squared prediction errors, relative to their mean: 0.45 for Gaussian noise, less for clicks
NOISE_LEVEL_DB = (-20.0, 6.0)  # relative to the softer and to the louder side
NOISE_CORRELATION, SOUND_CORRELATION = 0.3, 0.6  # of adjacent samples: at most in noise, at least around it


def zero_runs(channel: Array, least: int, most: int) -> Spans:
    """First sample and the one after the last of each run of ``least`` to ``most`` zeros in a channel ``[T]``."""
    return [(start, stop) for start, stop in runs(channel == 0) if least <= stop - start <= most]


def breaks_into_sound(channel: Array, start: int, stop: int, sample_rate: int, power: float) -> bool:
    """Whether the quarter of a millisecond on either side of a run is above -40 dB relative to the channel's RMS.

    Args:
        channel: ``[T]``.
        start: first sample of the run.
        stop: the sample after its last one.
        sample_rate: in Hz.
        power: mean square of the channel.
    """
    beside = math.ceil(BESIDE_SECONDS * sample_rate)
    return min(_powers_beside(channel, start, stop, beside)) > power * 10 ** (BESIDE_DB / 10)


def with_fades(channel: Array, start: int, stop: int, sample_rate: int) -> tuple[int, int]:
    """Extend a range by 2.5 ms on either side if the channel is faded out before it and faded in after it.

    The samples within 0.5 ms and their differences are then 9 dB below those from 2.5 ms on, and those within 0.1 ms
    are 20 dB below them.
    """
    near, far = math.ceil(FADED_SECONDS * sample_rate), math.ceil(SIDE_SECONDS * sample_rate)
    first, last = start - 3 * far, stop + 3 * far
    if first < 0 or last > len(channel):
        return start, stop
    nearest = _powers_beside(channel, start, stop, max(1, near // 4))
    further = _powers_beside(channel, start - far, stop + far, 2 * far)
    if not all(one < 10 ** (FADE_END_DB / 10) * other for one, other in zip(nearest, further, strict=True)):
        return start, stop
    for samples in (channel, np.diff(channel[first:last], prepend=0.0)):
        begin, end = (start, stop) if samples is channel else (start - first, stop - first)
        inner = _powers_beside(samples, begin - 1, end + 1, near)
        outer = _powers_beside(samples, begin - far, end + far, 2 * far)
        if not all(0 < one < 10 ** (FADE_DB / 10) * other for one, other in zip(inner, outer, strict=True)):
            return start, stop
    return start - far, stop + far


def other_drop_outs(channel: Array, sample_rate: int, least: int, most: int, power: float) -> Spans:
    """Find drop-outs that are not runs of zeros.

    - Near silence, such as dither: all samples are below -45 dB relative to the 2.5 ms on either side.
    - A held value: one that is repeated, below the peak of the channel, and not one of many as in a square wave.
    - Noise: samples that cannot be predicted, between sounds that can, with a sudden start and a sudden end.

    Args:
        channel: ``[T]``.
        sample_rate: in Hz.
        least: length of the shortest one, in samples.
        most: length of the longest one.
        power: mean square of the channel.

    Returns:
        First sample of each and the one after the last.
    """
    found = [
        *_near_silence(channel, sample_rate, least, most, power),
        *_held_values(channel, sample_rate, least, most, power),
        *_noise(channel, sample_rate, max(least, round(NOISE_SECONDS * sample_rate)), most, power),
    ]
    return sorted(found)


def _power(samples: Array) -> float:
    return float(np.square(samples).mean()) if len(samples) else 0.0


def _powers_beside(channel: Array, start: int, stop: int, length: int) -> tuple[float, float]:
    """Mean squares of the samples before and after a range; 0 at an end."""
    return _power(channel[max(0, start - length) : start]), _power(channel[stop : stop + length])


def _steady_powers_beside(channel: Array, start: int, stop: int, length: int) -> tuple[float, float]:
    """Return the mean squares of the samples before and after a range, limited for short peaks such as clicks."""
    sides = channel[max(0, start - length) : start], channel[stop : stop + length]
    return _steady_power(sides[0]), _steady_power(sides[1])


def _steady_power(samples: Array) -> float:
    """Return the mean square of samples, at most 10 dB above their median square."""
    squares = np.square(samples)
    limit = 10 ** (PEAKED_DB / 10)
    return min(float(squares.mean()), limit * float(np.median(squares))) if len(squares) else 0.0


def _near_silence(channel: Array, sample_rate: int, least: int, most: int, power: float) -> Spans:
    side = math.ceil(SIDE_SECONDS * sample_rate)
    ratio = 10 ** (SILENCE_DB / 20)
    quiet = np.abs(channel) <= ratio * math.sqrt(power)
    found = []
    for begin, end in runs(quiet):
        if not least <= end - begin <= most or begin < side or len(channel) - end < side:
            continue
        softer = min(_steady_powers_beside(channel, begin, end, side))
        if softer <= power * 10 ** (BESIDE_DB / 10):
            continue
        inside = runs(np.abs(channel[begin:end]) <= ratio * math.sqrt(softer))
        start, stop = max(inside, key=lambda run: run[1] - run[0], default=(0, 0))
        zeros = runs(channel[begin + start : begin + stop] == 0)
        longest = max((last - first for first, last in zeros), default=0)
        if stop - start >= least and longest <= MAX_ZEROS * (stop - start):
            found.append(with_fades(channel, begin + start, begin + stop, sample_rate))
    return found


def _held_values(channel: Array, sample_rate: int, least: int, most: int, power: float) -> Spans:
    changes = np.diff(channel)
    candidates = [
        (start, stop + 1)
        for start, stop in runs((changes == 0) & (channel[1:] != 0))
        if stop + 1 - start >= max(2, least // 2)
    ]
    if not candidates:
        return []
    steps = np.abs(changes[changes != 0])
    step = float(steps.min()) if len(steps) else 0.0
    peak = float(np.abs(channel).max())
    beside = math.ceil(BESIDE_SECONDS * sample_rate)
    starts = np.array([start for start, _ in candidates])
    found = []
    for start, stop in candidates:
        value = float(channel[start])
        similar = np.count_nonzero(np.abs(starts - start) < SIMILAR_SECONDS * sample_rate) - 1
        if not least <= stop - start <= most or abs(value) > HELD_PEAK * peak or similar > MAX_SIMILAR:
            continue
        change = min(_powers_beside(channel - value, start, stop, beside))
        if change > max(power * 10 ** (BESIDE_DB / 10), (HELD_STEPS * step) ** 2):
            found.append((start, stop))
    return found


def _noise(channel: Array, sample_rate: int, least: int, most: int, power: float) -> Spans:
    """Find noise frame by frame; the frames overlap by half."""
    frame = round(FRAME_SECONDS * sample_rate)
    if not power or len(channel) < 4 * WHITENING_ORDER:
        return []
    found: dict[int, tuple[int, int]] = {}
    for first in range(0, max(1, len(channel) - frame // 2), frame // 2):
        samples = channel[first : first + frame]
        if len(samples) < 4 * WHITENING_ORDER or _power(samples) <= power * 10 ** (BESIDE_DB / 10):
            continue
        for start, stop in _noise_in_frame(samples, sample_rate, least, most):
            found.setdefault(first + start, (first + start, first + stop))
    return list(found.values())


def _noise_in_frame(samples: Array, sample_rate: int, least: int, most: int) -> Spans:
    from scipy.ndimage import uniform_filter1d

    edge = math.ceil(NOISE_EDGE_SECONDS * sample_rate)
    window = np.hanning(len(samples))
    gains = np.ones(len(samples))
    for _ in range(WHITENING_ROUNDS):
        error = np.square(_prediction_error(samples, gains * window))
        smooth = uniform_filter1d(error, edge, mode="constant")
        smooth = np.maximum(smooth, MIN_ERROR * smooth.max())  # its running sum is rounded
        median = float(np.median(smooth))
        gains = np.sqrt(np.minimum(1, median / np.maximum(smooth, 1e-300)))
    threshold = 10 ** (NOISE_EXCESS_DB / 10) * median
    found = []
    for rough_start, rough_stop in runs(smooth > threshold):
        if not least // 2 <= rough_stop - rough_start <= most + 2 * edge:
            continue
        start, stop = _change(error, rough_start, edge), _change(error, rough_stop, edge)
        if least <= stop - start <= most and _is_noise(samples, error, start, stop, edge):
            found.append((start, stop))
    return found


def _prediction_error(samples: Array, window: Array) -> Array:
    """Error of linear prediction, by the autocorrelation method on the windowed samples."""
    from scipy.linalg import solve_toeplitz
    from scipy.signal import lfilter

    windowed = samples * window
    correlation = np.array([windowed[: len(samples) - lag] @ windowed[lag:] for lag in range(WHITENING_ORDER + 1)])
    correlation[0] = correlation[0] * (1 + 1e-9) + 1e-300
    model = np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])])
    return np.asarray(lfilter(model, [1.0], samples))


def _change(error: Array, place: int, reach: int) -> int:
    """The most likely place of a change of variance near another place."""
    first, last = max(0, place - 2 * reach), min(len(error), place + 2 * reach)
    margin = max(2, reach // 2)
    if last - first <= 2 * margin:
        return place
    sums = np.concatenate([[0.0], np.cumsum(error[first:last])])
    before = np.arange(margin, last - first - margin + 1)
    after = last - first - before
    costs = before * np.log(sums[before] / before + 1e-300) + after * np.log((sums[-1] - sums[before]) / after + 1e-300)
    return first + int(before[costs.argmin()])


def _is_noise(samples: Array, error: Array, start: int, stop: int, edge: int) -> bool:
    """Whether a range is unpredictable, even, uncorrelated, as loud as its surroundings, and has sharp ends."""
    if start < 2 * edge or len(samples) - stop < 2 * edge:
        return False
    excess = 10 ** (NOISE_EDGE_DB / 10)
    skipped = WHITENING_ORDER  # after the end the prediction still uses the noise
    ends = (
        (_power_of(error[start : start + edge]), _power_of(error[start - edge : start])),
        (_power_of(error[stop - edge : stop]), _power_of(error[stop + skipped : stop + skipped + edge])),
    )
    if not all(inside > excess * outside for inside, outside in ends):
        return False
    if np.median(error[start:stop]) < NOISE_MEDIAN * error[start:stop].mean():
        return False
    middle = (start + stop) // 2
    halves = [_power(samples[start:middle]), _power(samples[middle:stop])]
    if max(halves) > 10 ** (NOISE_UNEVEN_DB / 10) * min(halves):
        return False
    sides = _powers_beside(samples, start, stop, 4 * edge)
    inside = _power(samples[start:stop])
    softer, louder = (10 ** (level / 10) for level in NOISE_LEVEL_DB)
    if not softer * min(sides) < inside < louder * max(sides):
        return False
    around = (samples[max(0, start - 8 * edge) : start], samples[stop : stop + 8 * edge])
    return (
        abs(_adjacent(samples[start:stop])) < NOISE_CORRELATION
        and min(_adjacent(side) for side in around) > SOUND_CORRELATION
    )


def _power_of(squares: Array) -> float:
    return float(squares.mean()) if len(squares) else math.inf


def _adjacent(samples: Array) -> float:
    """Correlation coefficient of adjacent samples."""
    power = float(samples @ samples)
    return float(samples[1:] @ samples[:-1]) / power if power else 0.0
