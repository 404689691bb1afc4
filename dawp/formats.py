"""The formats of sound files: which one a restored recording gets, and how it is written, like the recording itself."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from dawp.errors import BadInput, shown
from dawp.files import whole
from dawp.io.chunks import chunks

log = logging.getLogger(__name__)

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
UNLIMITED = ("FLOAT", "DOUBLE")  # sample types that do not end at full scale
CHUNKED: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RF64": "little", b"FORM": "big"}  # WAV, AIFF
FIRST_CHUNK = 12  # bytes from the beginning of a WAV or AIFF file

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
        raise BadInput(f"subtype of {shown(output)} must be one of {known}, got {shown(candidates[0])}")
    for candidate in candidates:
        if _can_hold(Form(wanted, candidate), rate, channels):
            return Form(wanted, candidate)
    raise BadInput(
        f"{shown(output)}: {wanted} {candidates[0]} cannot hold {channels} channels at {rate} Hz; "
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
    output: Path, samples: Callable[[], Iterator[Tensor]], rate: int, form: Form, clip_mode: str, tags: dict[str, str]
) -> float:
    """Write one sound file, whole or not at all.

    Args:
        output: the file.
        samples: gives its pieces ``[channels, n]``, each time from the beginning.
        rate: in Hz.
        form: format and sample type.
        clip_mode: ``rescale`` or ``clamp``, for what goes beyond full scale in a sample type that ends there.
        tags: title, artist and so on; those that the format has not are left out.

    Returns:
        The gain that the samples were given.

    Raises:
        BadInput: the sound library refuses to write it.
        OSError: the file cannot be written.
    """
    import soundfile

    gain = 1.0
    if form.subtype not in UNLIMITED:
        peak = max(float(piece.abs().max()) for piece in samples())
        if peak > 1:
            gain = 1 / peak if clip_mode == "rescale" else 1.0
            what = f"made softer by {20 * math.log10(peak):.2f} dB" if clip_mode == "rescale" else "cut there"
            log.warning("%s: goes beyond full scale by %.2f dB: %s", shown(output), 20 * math.log10(peak), what)
    how = (rate, len(next(samples())), form.subtype)
    try:
        with whole(output) as temporary:
            with (
                temporary.open("w+b") as raw,
                soundfile.SoundFile(raw.fileno(), "w", *how, format=form.format, closefd=False) as file,
            ):
                for name, text in tags.items():
                    with suppress(soundfile.SoundFileError, ValueError):
                        setattr(file, name, text)
                frames = 0
                for piece in samples():
                    file.write(_as_stored(gain * piece.double(), form.subtype).T.numpy())
                    frames += piece.shape[1]
            _correct_header(temporary, frames)
    except soundfile.SoundFileError as error:
        why = getattr(error, "error_string", error)
        raise BadInput(f"{shown(output)}: cannot be written as {form.format} {form.subtype} ({shown(why)})") from None
    return gain


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
        is_padded = False
        order = CHUNKED.get(file.read(4))
        for name, at, size in chunks(file, FIRST_CHUNK, order) if order else ():
            if name == b"data":
                return
            if name == b"PEAK":
                file.seek(at + 4)  # after its version
                file.write(bytes(4))
            elif name == b"COMM":
                file.seek(at + 2)  # after the number of channels
                is_padded = int.from_bytes(file.read(4), "big") == frames + 1
                if is_padded:
                    file.seek(at + 2)
                    file.write(frames.to_bytes(4, "big"))
            elif name == b"SSND":
                if is_padded and size == 8 + frames + 1:  # after offset and block size, one byte for each frame
                    file.seek(at - 4)
                    file.write((size - 1).to_bytes(4, "big"))
                return
