"""The formats of sound files: which one a restored recording gets, and how it is written, like the recording itself."""

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
UNLIMITED = ("FLOAT", "DOUBLE")  # sample types that do not end at full scale
MAX_LISTED = 12  # names of lost metadata in a message

FORMATS = {
    **{".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3"},
    **{".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".w64": "W64"},
    **{".rf64": "RF64", ".sph": "NIST", ".nist": "NIST"},
}
"""libsndfile's format of each suffix that recordings can have."""

NEAREST = {
    **dict.fromkeys(("FLOAT", "DOUBLE"), ("FLOAT", "PCM_32", "PCM_24")),
    **dict.fromkeys(("PCM_32", "ALAC_32"), ("PCM_32", "PCM_24")),
    **dict.fromkeys(("PCM_24", "ALAC_24", "ALAC_20", "DWVW_24"), ("PCM_24",)),
}
"""Subtypes to try in this order where a format cannot hold a subtype; PCM_16 loses nothing of all others."""

WIDEST_SAMPLE, LONGEST_WAV = 8, 2**32 - 2**16  # bytes
PROBED_FRAMES = 4096
PROBE = 1 << 16  # bytes
LEAST_LIKENESS = 0.5  # correlation of what was written and what is read again


class Form(NamedTuple):
    """What a sound file is made of, in libsndfile's words."""

    format: str
    subtype: str


def form_of(output: Path, recording: Form, subtype: str | None, rate: int, channels: int, frames: int) -> Form:
    """Format and sample type of an output: those of the recording as far as the output's suffix has them.

    Args:
        output: its suffix is one of ``FORMATS``.
        recording: what it was restored from.
        subtype: the sample type that is asked for; None for the recording's or the nearest.
        rate: in Hz.
        channels: how many.
        frames: samples of each.

    Raises:
        BadInput: there is no such sample type, or not for this rate and number of channels.
    """
    import soundfile

    suffix = output.suffix.lower()
    wanted = FORMATS[suffix]
    if wanted == "WAV" and recording.format in ("WAVEX", "RF64"):
        wanted = recording.format
    if wanted == "WAV" and frames * channels * WIDEST_SAMPLE > LONGEST_WAV:
        wanted = "RF64"
    possible = soundfile.available_subtypes(wanted) if wanted in soundfile.available_formats() else {}
    if subtype:
        candidates = [subtype.upper()]
    elif suffix == ".opus":
        candidates = ["OPUS"]
    else:
        nearest = NEAREST.get(recording.subtype, ())
        others = [name for name in (recording.subtype, *nearest, "PCM_16") if name in possible]
        candidates = [*others, soundfile.default_subtype(wanted)]
    if candidates[0] not in possible:
        known = ", ".join(possible) or "none"
        raise BadInput(f"subtype of {printable(output)} must be one of {known}, got {printable(candidates[0])}")
    for candidate in candidates:
        if _can_hold(Form(wanted, candidate), rate, channels):
            return Form(wanted, candidate)
    raise BadInput(
        f"{printable(output)}: {wanted} {candidates[0]} cannot hold {channels} channels at {rate} Hz; "
        "another output_format may"
    )


@cache
def _can_hold(form: Form, rate: int, channels: int) -> bool:
    """Whether the sound library can write such a file, and reads the same sound again: not all that it lists it can."""
    import numpy as np
    import soundfile

    # A tone for lossy codecs, and noise, without which the faults of ALAC_20 in libsndfile 1.2.2 do not show.
    tone = 0.3 * np.sin(np.arange(PROBED_FRAMES) / 10)[:, None]
    samples = tone + 0.1 * np.random.default_rng(0).standard_normal((PROBED_FRAMES, channels))
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, form.subtype, format=form.format)
        file.seek(0)
        with soundfile.SoundFile(file) as again:
            subtype, reread = again.subtype, again.read(PROBED_FRAMES, always_2d=True)
    except (soundfile.SoundFileError, ValueError):
        return False
    if subtype != form.subtype or len(reread) < PROBED_FRAMES:
        return False
    likeness = (samples * reread).sum() / np.sqrt((samples**2).sum() * (reread**2).sum())
    return bool(likeness > LEAST_LIKENESS)


def write(
    output: Path,
    samples: Callable[[], Iterator[Tensor]],
    rate: int,
    form: Form,
    clip_mode: str,
    metadata: Metadata | None = None,
) -> float:
    """Write one sound file, whole or not at all; a line in the log names metadata that it cannot hold.

    Args:
        output: the file.
        samples: gives its pieces ``[channels, n]``, each time from the beginning.
        rate: in Hz.
        form: format and sample type.
        clip_mode: ``rescale`` or ``clamp``, for what goes beyond full scale in a sample type that ends there.
        metadata: tags, markers, channel layout and so on; None for none.

    Returns:
        The gain that the samples were given.

    Raises:
        BadInput: the sound library refuses to write it.
        OSError: the file cannot be written, for want of space say.
    """
    import soundfile

    gain = 1.0
    if form.subtype not in UNLIMITED:
        peak = max(float(piece.abs().max()) for piece in samples())
        if peak > 1:
            gain = 1 / peak if clip_mode == "rescale" else 1.0
            what = f"made softer by {20 * math.log10(peak):.2f} dB" if clip_mode == "rescale" else "cut there"
            log.warning("%s: goes beyond full scale by %.2f dB: %s", printable(output), 20 * math.log10(peak), what)
    metadata, lost = metadata or Metadata(), list[str]()
    if gain != 1:
        metadata, lost = metadata.without_levels()
    channels = len(next(samples()))
    order = metadata.channel_order(form.format, channels) or range(channels)

    def encode(path: Path) -> None:
        with (
            path.open("w+b") as raw,
            _system_errors(raw),
            soundfile.SoundFile(
                raw.fileno(), "w", rate, channels, form.subtype, format=form.format, closefd=False
            ) as file,
        ):
            frames = 0
            for piece in samples():
                file.write(_as_stored(gain * piece[list(order)].double(), form.subtype).T.numpy())
                frames += piece.shape[1]
        _correct_header(path, frames)

    try:
        with atomic_write(output) as temporary:
            encode(temporary)
            try:
                length = _frames_of(temporary)
                lost += write_metadata(temporary, metadata, form.format, channels)
                if _frames_of(temporary) != length:
                    raise ValueError("they would change the length")
            except OSError:
                raise
            except Exception as error:  # hostile metadata: write the sound alone
                log.warning(
                    "%s: metadata cannot be written (%s)", printable(output), printable(error) or type(error).__name__
                )
                encode(temporary)
            if form.format == "OGG":
                set_serial(temporary)
    except soundfile.SoundFileError as error:
        why = getattr(error, "error_string", error)
        raise BadInput(
            f"{printable(output)}: cannot be written as {form.format} {form.subtype} ({printable(why)})"
        ) from None
    if lost:
        log.warning("%s: not kept: %s", printable(output), _listed(lost))
    return gain


@contextmanager
def _system_errors(raw: IO[bytes]) -> Iterator[None]:
    """Turn the sound library's failure to write a file into the OSError behind it, which the library does not name."""
    import soundfile

    try:
        yield
    except soundfile.SoundFileError:
        raw.seek(0, os.SEEK_END)
        raw.write(bytes(PROBE))  # fails again if the disk is full
        raw.flush()
        raise


def _frames_of(path: Path) -> int:
    """Number of frames that the sound library finds in a file."""
    import soundfile

    with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
        return int(file.frames)


def _listed(names: list[str]) -> str:
    """Names, separated by commas; of many only the first."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return printable(", ".join(names[:MAX_LISTED])) + more


def _as_stored(samples: Tensor, subtype: str) -> Tensor:
    """Samples at the steps that a sample type has: left to libsndfile they would all be rounded down."""
    if subtype in UNLIMITED:
        return samples
    if subtype not in BITS:
        return samples.clamp(-1, 1)
    steps = 2 ** (BITS[subtype] - 1)
    stored: Tensor = (samples * steps).round().clamp(-steps, steps - 1) / steps
    return stored


def _correct_header(path: Path, frames: int) -> None:
    """Correct what libsndfile writes into the header of a WAV or AIFF file of ``frames`` frames.

    The time at which a peak was measured becomes zero, so that the same sound is the same file; and the byte that makes
    the size of an AIFF file's sound even does not count as a frame.
    """
    with path.open("r+b") as file:
        chunks = {chunk.name: chunk for chunk in chunks_of(file)}
        if peak := chunks.get(b"PEAK"):
            file.seek(peak.start + 4)  # after its version
            file.write(bytes(4))
        common, sound = chunks.get(b"COMM"), chunks.get(b"SSND")
        if common and sound and sound.size == 8 + frames + 1:  # after offset and block size, one byte for each frame
            file.seek(common.start + 2)  # after the number of channels
            if int.from_bytes(file.read(4), "big") == frames + 1:
                file.seek(common.start + 2)
                file.write(frames.to_bytes(4, "big"))
                file.seek(sound.size_at)
                file.write((sound.size - 1).to_bytes(4, "big"))
