"""Read, write and resample audio files, and select clips."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path

import torch
import torchaudio.functional
from torch import Tensor

from dawp.dsp.alignment import MAX_LAG, measure_lag
from dawp.dsp.gaps import detection
from dawp.errors import BadInput, printable, with_context
from dawp.io.files import atomic_write
from dawp.io.reader import Reader
from dawp.io.settings import LONGEST_GAP_MS, MIN_LENGTH, ClipConfig
from dawp.io.sources import Recording

log = logging.getLogger(__name__)

FRAME_SECONDS = 0.025
SILENCE_DB = -50.0  # relative to the recording's loudest frame
MAX_MISMATCH = 0.010  # seconds: largest difference in length of an unaligned pair
READ_FRAMES = 1 << 20
REACH = 7  # half the length of the resampling filter, in samples at the lower rate
MAX_FILTERS = 50_000_000  # taps of all filters of a resampling; 44.1 to 16 kHz has 70,560


def read(path: Path, sample_rate: int, missing: float | None = None, first_channel: bool = False) -> Tensor:
    """Read a sound file as a mono waveform.

    Channels are averaged and other sample rates are resampled; both are logged.

    Args:
        path: path of the file.
        sample_rate: sample rate of the result in Hz.
        missing: replace missing samples by NaN, including runs of zeros of at least this many seconds (see
            ``mark_missing``); None to refuse a file with missing samples.
        first_channel: use the first channel instead of the average.

    Returns:
        Waveform ``[T]``, float32.

    Raises:
        BadInput: the file cannot be read, has no samples, or has samples that are NaN or infinite.
    """
    import numpy as np

    with Reader(path) as file:
        rate, channels = file.rate, file.channels
        blocks = list(file.blocks(READ_FRAMES))
    if not blocks:
        raise BadInput(f"{printable(path)}: contains no samples", code="unusable_recording")
    if missing is not None:
        blocks = [mark_missing(torch.from_numpy(np.concatenate(blocks)), rate, missing).numpy()]
    waveform = torch.from_numpy(np.concatenate([b[:, 0] if first_channel else b.mean(axis=1) for b in blocks]))
    gone = waveform.isnan() if missing is not None else torch.zeros(1, dtype=torch.bool)
    if gone.all():
        raise BadInput(f"{printable(path)}: all samples are missing", code="unusable_recording")
    waveform = torch.where(gone, torch.nan, waveform)
    if not torch.isfinite(waveform[~gone] if gone.any() else waveform).all():
        raise BadInput(f"{printable(path)}: contains samples that are NaN or infinite", code="unusable_recording")
    if channels > 1:
        log.info("%s: %s", printable(path), _describe_mixdown(channels, first_channel))
    if rate != sample_rate:
        try:
            waveform = resample(waveform, rate, sample_rate)
        except BadInput as refusal:
            raise with_context(refusal, printable(path)) from None
        log.info("%s: resampled from %d to %d Hz", printable(path), rate, sample_rate)
    return waveform


def mark_missing(waveform: Tensor, sample_rate: int, shortest: float, power: Tensor | None = None) -> Tensor:
    """Replace missing samples by NaN, in each channel separately.

    A sample is missing if it is not finite, or if it belongs to a drop-out: a run of zeros of ``shortest`` seconds to
    100 ms with an abrupt start and end, where the 0.25 ms on either side are above -40 dB relative to the channel's
    RMS. Other runs of zeros are silence. A drop-out in one channel is also one in every channel that has the same run
    of zeros, at any level. Near silence, repeated values and noise of the same lengths in place of the signal are
    missing too (``detection.other_drop_outs``).

    Args:
        waveform: ``[T]`` or ``[T, channels]``.
        sample_rate: sample rate in Hz.
        shortest: minimum length of a drop-out in seconds.
        power: mean square ``[channels]`` of the whole recording, if the waveform is a part of it; None to compute it
            from the waveform.

    Returns:
        A copy with NaN for the missing samples.
    """
    marked = (waveform[:, None] if waveform.ndim == 1 else waveform).clone()
    marked[~marked.isfinite()] = torch.nan
    channels = marked.nan_to_num().T
    least, most = math.ceil(shortest * sample_rate), math.floor(LONGEST_GAP_MS / 1000 * sample_rate)
    powers = (channels.square().mean(dim=1) if power is None else power).tolist()
    arrays = [channel.double().numpy() for channel in channels]
    runs = [detection.zero_runs(channel, least, most) for channel in arrays]
    drop_outs = {
        run
        for channel, zeros, power_of_channel in zip(arrays, runs, powers, strict=True)
        for run in zeros
        if detection.breaks_into_sound(channel, *run, sample_rate, power_of_channel)
    }
    for index, (channel, zeros) in enumerate(zip(arrays, runs, strict=True)):
        power_of_channel = powers[index]
        spans = [
            detection.with_fades(channel, *run, sample_rate)
            if detection.breaks_into_sound(channel, *run, sample_rate, power_of_channel)
            else run
            for run in drop_outs.intersection(zeros)
        ]
        spans += detection.other_drop_outs(channel, sample_rate, least, most, power_of_channel)
        for start, stop in spans:
            marked[start:stop, index] = torch.nan
    return marked.view_as(waveform)


def _describe_mixdown(channels: int, first_channel: bool) -> str:
    return f"using the first of {channels} channels" if first_channel else f"{channels} channels mixed down to one"


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample a waveform.

    In a waveform ``[T]``, missing samples (NaN) stay missing, as do all samples within the filter length of one.

    Args:
        waveform: ``[..., T]``.
        rate: sample rate of the waveform in Hz.
        new_rate: sample rate of the result in Hz.

    Returns:
        Waveform ``[..., ceil(T * new_rate / rate)]``.

    Raises:
        BadInput: the greatest common divisor of the rates is so small that the filters would not fit in memory.
    """
    if rate == new_rate:
        return waveform
    common = math.gcd(rate, new_rate)
    if (rate // common) * (new_rate // common) > MAX_FILTERS:
        raise BadInput(f"cannot be resampled from {rate} to {new_rate} Hz, their common divisor is too small")
    missing = waveform.isnan()
    gone = true_runs(missing) if waveform.ndim == 1 else []
    known = torch.where(missing, 0, waveform) if gone else waveform
    resampled: Tensor = torchaudio.functional.resample(known, rate, new_rate)
    length = -(-waveform.shape[-1] * new_rate // rate)
    if resampled.shape[-1] != length:  # torchaudio computes the length in float32, which is inexact above 2^24
        resampled = torch.nn.functional.pad(resampled, (0, length - resampled.shape[-1]))
    reach = REACH / min(rate, new_rate)
    for start, stop in gone:
        first, last = math.floor((start / rate - reach) * new_rate), math.ceil((stop / rate + reach) * new_rate)
        resampled[max(0, first) : last] = torch.nan
    return resampled


def write(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform atomically as a float32 WAV file, without rounding or clipping.

    Args:
        path: of the file.
        waveform: ``[T]``.
        sample_rate: in Hz.

    Raises:
        OSError: the file cannot be written.
    """
    from scipy.io import wavfile

    sound = io.BytesIO()
    wavfile.write(sound, sample_rate, waveform.detach().cpu().float().numpy())
    with atomic_write(path) as temporary:
        temporary.write_bytes(sound.getbuffer())


def level_dbfs(waveform: Tensor) -> float:
    """Return the RMS level of a waveform ``[...]`` in dB relative to full scale (an RMS of 1); -inf for silence."""
    rms = waveform.double().square().mean().sqrt().item()
    return 20 * math.log10(rms) if rms > 0 else -math.inf


def read_clip(
    recording: Recording, config: ClipConfig, segment_index: int = 0, missing: float | None = None
) -> tuple[Tensor | None, Tensor | None, int]:
    """Read a clip of a recording: clean, corrupted, or the same segment of both.

    A lag between the two recordings of a pair is logged, and removed if ``config.align`` is set.

    Args:
        recording: one file or a pair.
        config: settings of the clip.
        segment_index: index of the segment among those that are loud enough, modulo their number.
        missing: replace missing samples of the corrupted file by NaN (see ``read``); None to refuse such a file.

    Returns:
        Clean clip ``[T]`` or None, corrupted clip ``[T]`` or None, and their sample rate in Hz.

    Raises:
        BadInput: a file is unreadable, silent, too short or too quiet, or the lengths of a pair differ.
    """
    name, rate = printable(recording.path), config.samplerate
    if rate is None:
        with Reader(recording.path) as file:
            rate = file.rate
    clean = None if recording.clean is None else read(recording.clean, rate)
    corrupted = None if recording.corrupted is None else read(recording.corrupted, rate, missing)
    if clean is not None and corrupted is not None:
        names = f"{name} and {printable(recording.corrupted)}"
        clean, corrupted = _common_part(clean, corrupted, rate, config.align, names)
    reference = next(waveform for waveform in (clean, corrupted) if waveform is not None)
    start, stop = _choose_segment(reference.nan_to_num(), rate, config, segment_index, name)
    clips = []
    for path, waveform in ((recording.clean, clean), (recording.corrupted, corrupted)):
        clip = None if waveform is None else waveform[start:stop]
        if clip is not None and not clip.nan_to_num().any():
            raise BadInput(f"{printable(path)}: is silent, all samples are zero", code="unusable_recording")
        clips.append(clip)
    return clips[0], clips[1], rate


def _common_part(clean: Tensor, corrupted: Tensor, rate: int, align: bool, names: str) -> tuple[Tensor, Tensor]:
    """Cut the recordings of a pair to a common length ``[T]``, after removing the lag if ``align``."""
    longest = MAX_LAG if align else MAX_MISMATCH
    if abs(len(clean) - len(corrupted)) / rate > longest:
        lengths = f"{len(clean) / rate:.3f} s and {len(corrupted) / rate:.3f} s"
        raise BadInput(
            f"{names}: a pair must have equal lengths (within {1000 * longest:g} ms), got {lengths}",
            code="mismatched_pair",
        )
    lag = measure_lag(clean, corrupted.nan_to_num(), rate)
    if lag:
        found = f"the second is {1000 * abs(lag) / rate:.1f} ms {'late' if lag > 0 else 'early'}"
        if align:
            log.info("%s: %s: aligned", names, found)
            clean, corrupted = clean[max(0, -lag) :], corrupted[max(0, lag) :]
        else:
            log.warning("%s: %s; use --align to remove the lag", names, found)
    shorter = min(len(clean), len(corrupted))
    return clean[:shorter], corrupted[:shorter]


def _choose_segment(waveform: Tensor, rate: int, config: ClipConfig, segment_index: int, name: str) -> tuple[int, int]:
    """Return the start and stop index of the segment to use."""
    total = len(waveform)
    begin = round(config.trim_start * rate)
    if begin >= total:
        raise BadInput(f"{name}: trim_start must be below its length {total / rate:.3f} s, got {config.trim_start:g} s")
    available = total - begin
    requested = round(config.clip_length * rate) if config.clip_length else available
    length = min(requested, available)
    if length < MIN_LENGTH:
        raise BadInput(
            f"{name}: a clip must have at least {MIN_LENGTH} samples, got {length}", code="unusable_recording"
        )
    if not waveform[begin:].any():
        raise BadInput(f"{name}: is silent, all samples are zero", code="unusable_recording")
    starts = range(begin, total - length + 1, length)
    quiet = _frame_levels_db(waveform, rate) < SILENCE_DB
    frame = round(FRAME_SECONDS * rate)
    shares = {start: quiet[start // frame : -(-(start + length) // frame)].float().mean().item() for start in starts}
    loud = [start for start in starts if shares[start] <= config.quiet_thresh]
    if not loud:
        raise BadInput(
            f"{name}: quiet_thresh must be at least {math.ceil(1000 * min(shares.values())) / 1000:g} "
            f"for a segment of {length / rate:g} s, "
            f"got {config.quiet_thresh:g}: every segment has a larger fraction of silence",
            code="unusable_recording",
        )
    if length < requested:
        seconds = f"{length / rate:.3f} s is shorter than the clip length of {config.clip_length:g} s"
        log.info("%s: %s; using the whole recording", name, seconds)
    start = loud[segment_index % len(loud)]
    return start, start + length


def _frame_levels_db(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return the level of each 25 ms frame in dB relative to the loudest; the last frame may be shorter."""
    frame = round(FRAME_SECONDS * sample_rate)
    padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % frame))
    power = padded.view(-1, frame).square().mean(dim=1)
    power[-1] *= frame / (len(waveform) - (len(power) - 1) * frame)
    return 10 * torch.log10(power / power.max())


def true_runs(flags: Tensor) -> list[tuple[int, int]]:
    """Return start and stop index of each run of True in a bool tensor ``[T]``.

    Example:
        >>> true_runs(torch.tensor([True, False, True, True]))
        [(0, 1), (2, 4)]
    """
    edges = torch.diff(torch.nn.functional.pad(flags.to(torch.int8), (1, 1)))
    starts, stops = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
