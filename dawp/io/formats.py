"""Choose the format of a restored file after its recording, and write it."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

from torch import Tensor

from dawp.errors import BadInput, printable
from dawp.io.chunks import chunks_of
from dawp.io.files import atomic_write
from dawp.io.metadata.files import write_metadata
from dawp.io.metadata.model import Metadata
from dawp.io.metadata.vorbis import set_serial

log = logging.getLogger(__name__)

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
UNLIMITED = ("FLOAT", "DOUBLE")  # sample types without clipping at full scale
MAX_LISTED = 12  # names of lost metadata per message

FORMATS = {
    **{".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3"},
    **{".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".w64": "W64"},
    **{".rf64": "RF64", ".sph": "NIST", ".nist": "NIST"},
}
"""libsndfile's format for each file suffix."""

NEAREST = {
    **dict.fromkeys(("FLOAT", "DOUBLE"), ("FLOAT", "PCM_32", "PCM_24")),
    **dict.fromkeys(("PCM_32", "ALAC_32"), ("PCM_32", "PCM_24")),
    **dict.fromkeys(("PCM_24", "ALAC_24", "ALAC_20", "DWVW_24"), ("PCM_24",)),
}
"""Subtypes to try, in order, if a format does not support a subtype; PCM_16 is lossless for all other subtypes."""

WIDEST_SAMPLE, LONGEST_WAV = 8, 2**32 - 2**16  # bytes
PROBED_FRAMES = 4096
PROBE = 1 << 16  # bytes
MIN_CORRELATION = 0.5  # between samples written and read back


class Form(NamedTuple):
    """Format and subtype of a sound file, by libsndfile's names."""

    format: str
    subtype: str


def form_of(output: Path, recording: Form, subtype: str | None, rate: int, channels: int, frames: int) -> Form:
    """Choose the format and subtype of an output, as close to the recording's as its suffix allows.

    Args:
        output: path with one of the suffixes in ``FORMATS``.
        recording: format of the recording.
        subtype: requested subtype; None for the recording's or the nearest.
        rate: sample rate in Hz.
        channels: number of channels.
        frames: samples per channel.

    Raises:
        BadInput: the subtype does not exist, or not for this sample rate and number of channels.
    """
    import soundfile

    suffix = output.suffix.lower()
    file_format = FORMATS[suffix]
    if file_format == "WAV" and recording.format in ("WAVEX", "RF64"):
        file_format = recording.format
    if file_format == "WAV" and frames * channels * WIDEST_SAMPLE > LONGEST_WAV:
        file_format = "RF64"
    possible = soundfile.available_subtypes(file_format) if file_format in soundfile.available_formats() else {}
    if subtype:
        candidates = [subtype.upper()]
    elif suffix == ".opus":
        candidates = ["OPUS"]
    else:
        nearest = NEAREST.get(recording.subtype, ())
        others = [name for name in (recording.subtype, *nearest, "PCM_16") if name in possible]
        candidates = [*others, soundfile.default_subtype(file_format)]
    if candidates[0] not in possible:
        known = ", ".join(possible) or "none"
        raise BadInput(f"subtype of {printable(output)} must be one of {known}, got {printable(candidates[0])}")
    for candidate in candidates:
        if _is_supported(Form(file_format, candidate), rate, channels):
            return Form(file_format, candidate)
    raise BadInput(
        f"{printable(output)}: {file_format} {candidates[0]} does not support {channels} channels at {rate} Hz; "
        "try another output_format"
    )


@cache
def _is_supported(form: Form, rate: int, channels: int) -> bool:
    """Return whether the sound library can write such a file and read it back; not all listed subtypes work."""
    import numpy as np
    import soundfile

    # A tone for lossy codecs, and noise to reveal the faults of ALAC_20 in libsndfile 1.2.2.
    tone = 0.3 * np.sin(np.arange(PROBED_FRAMES) / 10)[:, None]
    samples = tone + 0.1 * np.random.default_rng(0).standard_normal((PROBED_FRAMES, channels))
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, form.subtype, format=form.format)
        file.seek(0)
        with soundfile.SoundFile(file) as written:
            subtype, decoded = written.subtype, written.read(PROBED_FRAMES, always_2d=True)
    except (soundfile.SoundFileError, ValueError):
        return False
    if subtype != form.subtype or len(decoded) < PROBED_FRAMES:
        return False
    correlation = (samples * decoded).sum() / np.sqrt((samples**2).sum() * (decoded**2).sum())
    return bool(correlation > MIN_CORRELATION)


def write(
    output: Path,
    samples: Callable[[], Iterator[Tensor]],
    rate: int,
    form: Form,
    clip_mode: str,
    metadata: Metadata | None = None,
) -> float:
    """Write a sound file atomically, and log the metadata that its format does not support.

    Args:
        output: path of the file.
        samples: returns an iterator over consecutive parts ``[channels, n]``; called more than once.
        rate: sample rate in Hz.
        form: format and subtype.
        clip_mode: how to handle clipping in integer formats, ``rescale`` or ``clamp``.
        metadata: tags, markers, channel layout and so on; None for none.

    Returns:
        The gain applied to the samples.

    Raises:
        BadInput: the sound library cannot write the format.
        OSError: the file cannot be written, for example because the disk is full.
    """
    import soundfile

    gain = 1.0 if form.subtype in UNLIMITED else _gain_below_full_scale(output, samples, clip_mode)
    metadata, lost = metadata or Metadata(), list[str]()
    if gain != 1:
        metadata, lost = metadata.without_levels()
    channels = len(next(samples()))
    order = metadata.channel_order(form.format, channels) or range(channels)

    def ordered() -> Iterator[Tensor]:
        return (gain * piece[list(order)].double() for piece in samples())

    try:
        with atomic_write(output) as temporary:
            _encode(temporary, ordered(), rate, channels, form)
            try:
                lost += _add_metadata(temporary, metadata, form, channels)
            except OSError:
                raise
            except Exception as error:  # malformed metadata: write the sound without it
                reason = printable(error) or type(error).__name__
                log.warning("%s: metadata cannot be written (%s)", printable(output), reason)
                _encode(temporary, ordered(), rate, channels, form)
            if form.format == "OGG":
                set_serial(temporary)
    except soundfile.SoundFileError as error:
        why = getattr(error, "error_string", error)
        raise BadInput(
            f"{printable(output)}: cannot be written as {form.format} {form.subtype} ({printable(why)})",
            code="io_error",
        ) from None
    if lost:
        log.warning("%s: not kept: %s", printable(output), _listed(lost))
    return gain


def _gain_below_full_scale(output: Path, samples: Callable[[], Iterator[Tensor]], clip_mode: str) -> float:
    """Return the gain of samples for an integer format, and warn if they exceed full scale."""
    peak = max(float(piece.abs().max()) for piece in samples())
    if peak <= 1:
        return 1.0
    excess = 20 * math.log10(peak)
    action = f"rescaled by -{excess:.2f} dB" if clip_mode == "rescale" else "clamped"
    log.warning("%s: exceeds full scale by %.2f dB: %s", printable(output), excess, action)
    return 1 / peak if clip_mode == "rescale" else 1.0


def _encode(path: Path, samples: Iterator[Tensor], rate: int, channels: int, form: Form) -> None:
    """Write consecutive parts ``[channels, n]`` without metadata."""
    import soundfile

    with (
        path.open("w+b") as raw,
        _system_errors(raw),
        soundfile.SoundFile(raw.fileno(), "w", rate, channels, form.subtype, format=form.format, closefd=False) as file,
    ):
        frames = 0
        for piece in samples:
            file.write(_as_stored(piece, form.subtype).T.numpy())
            frames += piece.shape[1]
    _correct_header(path, frames)


def _add_metadata(path: Path, metadata: Metadata, form: Form, channels: int) -> list[str]:
    """Add metadata to a sound file, and return what its format does not support.

    Raises:
        ValueError: the metadata is malformed.
    """
    length = _frames_of(path)
    lost = write_metadata(path, metadata, form.format, channels)
    if _frames_of(path) != length:
        raise ValueError("it would change the length")
    return lost


@contextmanager
def _system_errors(raw: IO[bytes]) -> Iterator[None]:
    """Raise the OSError behind a write error of the sound library, which does not report it."""
    import soundfile

    try:
        yield
    except soundfile.SoundFileError:
        raw.seek(0, os.SEEK_END)
        raw.write(bytes(PROBE))  # fails again if the disk is full
        raw.flush()
        raise


def _frames_of(path: Path) -> int:
    """Return the number of frames that the sound library finds in a file."""
    import soundfile

    with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
        return int(file.frames)


def _listed(names: list[str]) -> str:
    """Join names with commas; of many, list only the first."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return printable(", ".join(names[:MAX_LISTED])) + more


def _as_stored(samples: Tensor, subtype: str) -> Tensor:
    """Round samples to the steps of an integer subtype; libsndfile would truncate them."""
    if subtype in UNLIMITED:
        return samples
    if subtype not in BITS:
        return samples.clamp(-1, 1)
    steps = 2 ** (BITS[subtype] - 1)
    stored: Tensor = (samples * steps).round().clamp(-steps, steps - 1) / steps
    return stored


def _correct_header(path: Path, frames: int) -> None:
    """Correct the header that libsndfile writes for a WAV or AIFF file of ``frames`` frames.

    Set the time of the peak measurement to zero, so that equal sound gives equal files, and do not count the padding
    byte of an AIFF file as a frame.
    """
    with path.open("r+b") as file:
        chunks = {chunk.name: chunk for chunk in chunks_of(file)}
        if peak := chunks.get(b"PEAK"):
            file.seek(peak.start + 4)  # after its version
            file.write(bytes(4))
        common, sound = chunks.get(b"COMM"), chunks.get(b"SSND")
        if common and sound and sound.size == 8 + frames + 1:  # offset and block size, then one byte per frame
            file.seek(common.start + 2)  # after the number of channels
            if int.from_bytes(file.read(4), "big") == frames + 1:
                file.seek(common.start + 2)
                file.write(frames.to_bytes(4, "big"))
                file.seek(sound.size_at)
                file.write((sound.size - 1).to_bytes(4, "big"))
