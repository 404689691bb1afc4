"""Find and remove mains hum: harmonics of one slowly varying frequency that persist throughout a recording.

Each harmonic is shifted to 0 Hz along a common track of the fundamental. Hum is nearly constant there, other sound is
not, so a robust mean over a few seconds gives the amplitude and the phase of the hum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Complex = NDArray[np.complex128]
    Read = Callable[[int, int], Tensor]

FRAME_SECONDS, HOP_SECONDS = 0.2, 0.1
MAINS = (50.0, 60.0)  # Hz
MAX_DEVIATION, SEARCH = 0.6, 1.2  # Hz: of the fundamental from the mains, and where a better match must not lie
COARSE_STEP, FINE_STEP, FINE_SEARCH = 0.02, 0.001, 0.02  # Hz
MAX_DRIFT = 0.05  # Hz per second
SECTION_SECONDS, SECTION_HOP = 2.0, 1.0
FIRST_HARMONICS = 8  # of the first pass
MAX_HARMONICS, MAX_HZ = 80, 4000.0
SMOOTHING_SECONDS, NEIGHBOURHOOD_SECONDS = 0.7, 6.0  # standard deviation of the mean over time; to count frames
ROUNDS, FIRST_ROUNDS = 8, 3
SCALE_PERCENTILE = 30  # of the residual magnitudes in a neighbourhood
CLOSE, MIN_CLOSE = 0.5, 0.25  # residual relative to the amplitude, and share of such frames where hum is present
FAINT, MAX_FAINT = 0.35, 0.1  # magnitude relative to the amplitude, and share of such frames where hum is present
MIN_LEVEL = 3e-4  # amplitude relative to the RMS of the recording; leakage of loud tones lies below
LOW_HARMONICS, MIN_LOW = 6, 3  # of the first six harmonics, three must be present at the same time
MIN_PRESENT, MIN_PRESENT_SECONDS = 0.4, 2.4  # share of the recording, or of the hum for a single harmonic
MAX_VARIATION_DB = 6.0  # interquartile range of the level of a harmonic
MAX_HALF_ORDERS = 1  # lines at 0.5, 1.5, 2.5 or 3.5 times the fundamental; more belong to a lower tone
MIN_SECONDS = 2.5
MIN_RATE = 1000  # Hz
MIN_REST = 0.03  # power of the rest of the recording relative to the hum
PART_FRAMES = 64  # frames transformed together


@dataclass(frozen=True, eq=False)
class Hum:
    """The hum of one channel, as harmonics whose frequencies and amplitudes are linear between knots.

    Attributes:
        rate: sample rate in Hz.
        first: sample of the first knot.
        hop: samples between knots.
        frequency: of the fundamental in Hz, ``[knots]``.
        orders: numbers of the harmonics, in increasing order, ``[H]``.
        amplitudes: complex amplitudes of the harmonics ``[H, knots]``.
    """

    rate: int
    first: int
    hop: int
    frequency: Array
    orders: NDArray[np.int64]
    amplitudes: Complex

    @property
    def fundamental(self) -> float:
        """Median frequency of the fundamental in Hz."""
        return float(np.median(self.frequency))

    @property
    def power(self) -> float:
        """Mean square of the hum."""
        return float((np.abs(self.amplitudes) ** 2).mean(axis=1).sum() / 2)

    def samples(self, start: int, stop: int) -> Tensor:
        """Return the hum ``[stop - start]``, float64, from one sample of the recording to another."""
        places = (np.arange(start, stop) - self.first) / self.hop
        left = np.clip(np.floor(places).astype(np.int64), 0, len(self.frequency) - 2)
        share = places - left
        slope = np.diff(self.frequency)[left] / 2
        cycles = (
            _integral(self.frequency, self.hop / self.rate)[left]
            + share * (self.frequency[left] + slope * share) * self.hop / self.rate
        )
        turn, fade = np.exp(2j * np.pi * cycles), np.clip(share, 0.0, 1.0)
        total, power = np.zeros(len(places)), np.ones(len(places), dtype=np.complex128)
        for amplitude in self._each_order():
            power = power * turn
            if amplitude is not None:
                total += ((amplitude[left] * (1 - fade) + amplitude[left + 1] * fade) * power).real
        return torch.from_numpy(total)

    def _each_order(self) -> Iterator[Complex | None]:
        """Yield the amplitudes ``[knots]`` of each number up to the highest harmonic, None where there is none."""
        rows = {int(order): row for row, order in enumerate(self.orders)}
        for order in range(1, max(rows, default=0) + 1):
            yield self.amplitudes[rows[order]] if order in rows else None


def find_hum(read: Read, power: Tensor, frames: int, rate: int, mains: float | None = None) -> list[Hum | None]:
    """Find the hum of each channel of a recording.

    Without ``mains``, only hum that is certain is found: at least three of the first six harmonics, among them the
    first or the second, are present at the same time in at least 40 % of the recording, at steady levels and within
    0.6 Hz of 50 or 60 Hz.

    Args:
        read: ``read(start, stop)`` returns the samples ``[channels, stop - start]``.
        power: mean square of each channel ``[channels]``.
        frames: samples per channel.
        rate: sample rate in Hz.
        mains: frequency of the mains in Hz; None to choose 50 or 60 Hz and to apply the conditions above.

    Returns:
        For each channel its hum; None if it has none, or if the recording lasts less than 2.5 s.
    """
    found: list[list[Hum]] = [[] for _ in power]
    is_long = frames >= MIN_SECONDS * rate and rate >= MIN_RATE
    for nominal in () if not is_long else MAINS if mains is None else (mains,):
        count = (frames - round(FRAME_SECONDS * rate)) // round(HOP_SECONDS * rate) + 1
        low = _basebands(read, rate, np.full(count, nominal), FIRST_HARMONICS)
        for channel in power.nonzero()[:, 0].tolist():
            hum = _find(_one_channel(read, channel), rate, nominal, low[channel], float(power[channel]), mains is None)
            if hum:
                found[channel].append(hum)
    return [max(hums, key=lambda hum: hum.power, default=None) for hums in found]


def _find(read: Read, rate: int, nominal: float, low: Complex, power: float, is_blind: bool) -> Hum | None:
    """Find the hum of a recording ``[1, T]`` near a frequency, given its first harmonics at 0 Hz ``[K, F]``."""
    deviation = _track(low, SEARCH, COARSE_STEP)
    if np.median(np.abs(deviation)) > MAX_DEVIATION:
        return None
    frequency = nominal + deviation
    least = MIN_LEVEL * math.sqrt(power)
    if is_blind and not _is_certain(*_harmonics(low, deviation, least)):
        return None
    count = int(min(MAX_HARMONICS, min(MAX_HZ, 0.45 * rate) / nominal))
    bands = _basebands(read, rate, frequency, count)[0]
    finer = _track(bands, FINE_SEARCH, FINE_STEP)
    amplitudes, is_present = _harmonics(bands, finer, least)
    frequency = frequency + finer
    share = is_present.mean(axis=1)
    kept = share >= max(MIN_PRESENT * share[:LOW_HARMONICS].max(), 1 / len(frequency))
    if is_blind:
        half = _basebands(read, rate, frequency / 2, FIRST_HARMONICS)[0]
        is_between = _harmonics(half, np.zeros(len(frequency)), least)[1][::2]
        is_lower = (is_between.mean(axis=1) >= MIN_PRESENT).sum() > MAX_HALF_ORDERS
        if is_lower or not _is_certain(amplitudes, is_present):
            return None
    hop, size = round(HOP_SECONDS * rate), round(FRAME_SECONDS * rate)
    orders = np.arange(1, count + 1)[kept]
    hum = Hum(rate, size // 2, hop, frequency, orders, np.where(is_present, amplitudes, 0)[kept])
    if not kept.any() or (is_blind and power - hum.power < MIN_REST * hum.power):
        return None
    return hum


def _harmonics(bands: Complex, deviation: Array, least: float) -> tuple[Complex, NDArray[np.bool_]]:
    """Return the amplitudes ``[K, F]`` of the harmonics of a deviating fundamental, and where they are present.

    Args:
        bands: harmonics at 0 Hz ``[K, F]``.
        deviation: of the fundamental in Hz ``[F]``.
        least: smallest amplitude of a harmonic that is present.
    """
    cycles = np.arange(1, len(bands) + 1)[:, None] * _integral(deviation, HOP_SECONDS)
    amplitudes, is_present = robust_amplitudes(bands * np.exp(-2j * np.pi * cycles))
    return amplitudes, is_present & (np.abs(amplitudes) > least)


def _is_certain(amplitudes: Complex, is_present: NDArray[np.bool_]) -> bool:
    """Decide whether harmonics ``[K, F]`` that are present in some frames ``[K, F]`` are hum."""
    low = is_present[:LOW_HARMONICS]
    steady = np.array([_variation(*pair) <= MAX_VARIATION_DB for pair in zip(amplitudes, low, strict=False)])
    kept = steady & (low.mean(axis=1) >= MIN_PRESENT)
    together = (low[kept].sum(axis=0) >= MIN_LOW).mean() if kept.any() else 0.0
    least = max(MIN_PRESENT, MIN_PRESENT_SECONDS / HOP_SECONDS / low.shape[1])
    return bool(kept[:2].any() and together >= least)


def _variation(amplitude: Complex, is_present: NDArray[np.bool_]) -> float:
    """Return the interquartile range in dB of an amplitude ``[F]`` where it is present."""
    if not is_present.any():
        return math.inf
    low, high = np.percentile(np.abs(amplitude[is_present]), (25, 75))
    return float(20 * np.log10(high / low))


def _integral(frequency: Array, step: float) -> Array:
    """Return the cycles up to each knot of a frequency ``[F]`` in Hz that is linear between knots."""
    cycles: Array = np.concatenate([[0.0], np.cumsum((frequency[1:] + frequency[:-1]) / 2)]) * step
    return cycles


def _one_channel(read: Read, channel: int) -> Read:
    return lambda start, stop: read(start, stop)[channel : channel + 1]


def _basebands(read: Read, rate: int, frequency: Array, count: int) -> Complex:
    """Shift the first harmonics of a fundamental to 0 Hz.

    Args:
        read: reads the recording.
        rate: sample rate in Hz.
        frequency: of the fundamental in Hz at the centre of each frame ``[F]``, linear between them.
        count: number of harmonics K.

    Returns:
        Mean amplitude of each harmonic in each frame under a Hann window, ``[channels, K, F]``.
    """
    hop, size = round(HOP_SECONDS * rate), round(FRAME_SECONDS * rate)
    window = np.hanning(size + 2)[1:-1]
    window *= 2 / window.sum()
    places = (np.arange(size) - size // 2) / rate
    rounded = np.round(frequency / (5 * FINE_STEP))
    parts, first = [], 0
    while first < len(frequency):
        changed = np.flatnonzero(rounded[first : first + PART_FRAMES] != rounded[first])
        last = first + int(changed[0]) if len(changed) else min(len(frequency), first + PART_FRAMES)
        samples = read(first * hop, (last - 1) * hop + size).double().numpy()
        frames = np.lib.stride_tricks.sliding_window_view(samples, size, axis=1)[:, ::hop]
        turn = np.exp(-2j * np.pi * frequency[first] * places)
        matrix = window * np.cumprod(np.broadcast_to(turn, (count, size)), axis=0)
        parts.append(matrix @ frames.transpose(0, 2, 1))
        first = last
    cycles = np.arange(1, count + 1)[:, None] * _integral(frequency, hop / rate)
    bands: Complex = np.concatenate(parts, axis=2) * np.exp(-2j * np.pi * cycles)
    return bands


def _track(bands: Complex, search: float, step: float) -> Array:
    """Find the deviation of the fundamental from the frequency that basebands were made with.

    Args:
        bands: ``[K, F]``.
        search: largest deviation in Hz.
        step: of the deviations in Hz.

    Returns:
        ``[F]`` in Hz.
    """
    count = bands.shape[1]
    size = min(count, round(SECTION_SECONDS / HOP_SECONDS))
    number = max(1, round((count - size) * HOP_SECONDS / SECTION_HOP) + 1)
    starts = np.round(np.linspace(0, count - size, number)).astype(int)
    unit = bands / np.maximum(np.abs(bands), 1e-30)
    deviations = np.arange(-round(search / step), round(search / step) + 1) * step
    times = (np.arange(size) - (size - 1) / 2) * HOP_SECONDS
    orders = np.arange(1, len(bands) + 1)
    score = np.zeros((number, len(deviations)))
    turn = np.exp(-2j * np.pi * deviations * times[:, None])
    power = np.ones_like(turn)
    sections = np.stack([unit[:, start : start + size] for start in starts], axis=1)  # [K, S, size]
    for order in orders:
        power = power * turn
        score += np.abs(sections[order - 1] @ power / size) ** 2
    reach = max(1, round(MAX_DRIFT * SECTION_HOP / step))
    path = _best_path(score, reach)
    centres = starts + (size - 1) / 2
    deviation: Array = np.interp(np.arange(count), centres, deviations[path])
    return deviation


def _best_path(score: Array, reach: int) -> NDArray[np.int64]:
    """Return the path of greatest total score ``[S]`` through scores ``[S, D]``, with steps of at most ``reach``."""
    from scipy.ndimage import maximum_filter1d

    total = score.copy()
    for index in range(1, len(score)):
        total[index] += maximum_filter1d(total[index - 1], 2 * reach + 1, mode="nearest")
    path = np.zeros(len(score), dtype=np.int64)
    path[-1] = int(total[-1].argmax())
    for index in range(len(score) - 2, -1, -1):
        low = max(0, path[index + 1] - reach)
        path[index] = low + int(total[index, low : path[index + 1] + reach + 1].argmax())
    return path


def robust_amplitudes(bands: Complex) -> tuple[Complex, NDArray[np.bool_]]:
    """Estimate the slowly varying mean of basebands to which other sound is added in part of the frames.

    A weighted Gaussian mean over time, whose weights are ``1 / |b - A|`` in the first rounds and then
    ``1 / (|b - A|² + s²)`` (Cauchy), where s is the 30th percentile of ``|b - A|`` in the neighbourhood.

    Args:
        bands: b ``[K, F]``.

    Returns:
        A ``[K, F]``, and where hum is present ``[K, F]``: at least 25 % of the frames of the neighbourhood have
        ``|b - A| < |A| / 2``, and at most 10 % before or after the frame have ``|b| < 0.35 |A|``, as between notes.
    """
    from scipy.ndimage import gaussian_filter1d, percentile_filter, uniform_filter1d

    width, near = SMOOTHING_SECONDS / HOP_SECONDS, round(NEIGHBOURHOOD_SECONDS / HOP_SECONDS)
    magnitude = np.abs(bands)
    small = np.maximum(1e-6 * magnitude.max(axis=1, keepdims=True), 1e-30)

    def smooth(values: Array) -> Array:
        filtered: Array = gaussian_filter1d(values, width, axis=1, mode="constant", truncate=3)
        return filtered

    def share(condition: NDArray[np.bool_], size: int, origin: int = 0) -> Array:
        counted: Array = uniform_filter1d(condition.astype(np.float64), size, 1, mode="nearest", origin=origin)
        return counted

    amplitude: Complex = np.zeros_like(bands)
    residual = magnitude
    for number in range(ROUNDS):
        if number < FIRST_ROUNDS:
            weight = 1 / (residual + small)
        else:
            scale = percentile_filter(residual, SCALE_PERCENTILE, size=(1, near), mode="nearest")
            weight = 1 / (residual**2 + scale**2 + small**2)
        real, imaginary = (smooth(weight * part) / smooth(weight) for part in (bands.real, bands.imag))
        amplitude = np.asarray(real + 1j * imaginary, dtype=np.complex128)
        residual = np.abs(bands - amplitude)
    is_close, is_faint = residual < CLOSE * np.abs(amplitude), magnitude < FAINT * np.abs(amplitude)
    half, shift = near // 2, (near // 2 - 1) // 2
    faint = np.minimum(share(is_faint, half, shift), share(is_faint, half, -shift))  # before and after
    return amplitude, (share(is_close, near) >= MIN_CLOSE) & (faint <= MAX_FAINT)
