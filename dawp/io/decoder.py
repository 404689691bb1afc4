"""Decode a segment of a sound file forward with libsndfile, past damaged parts where the format allows it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from typing import IO, Any, NamedTuple

import numpy as np
import soundfile

Array = Any  # np.ndarray, float32 [n, channels]

DECODED_AT_ONCE = 1 << 18  # samples of all channels
MAX_FRAMES = 1 << 36  # libsndfile reports about 2^63 frames if a header does not state the number
MAX_DAMAGES = 1000  # per file
FIRST_SKIP = 256  # frames


class Piece(NamedTuple):
    """Consecutive frames.

    Attributes:
        samples: float32 ``[n, channels]``.
        is_damaged: the samples are zeros that replace damaged frames; without samples, the file ends at a damaged
            frame.
    """

    samples: Array
    is_damaged: bool = False


class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is only read forward.

    soundfile seeks after each call of ``read``, which some encodings do not support. For a seekable file it also
    assumes that the number of frames reported by libsndfile is correct.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        super().__init__(file.fileno(), closefd=False)

    def seekable(self) -> bool:
        return False

    @property
    def claimed_frames(self) -> int | None:
        """Number of frames reported by libsndfile; None if the header does not state it."""
        return int(self.frames) if self.frames < MAX_FRAMES else None


def decode(file: IO[bytes], limit: int | None) -> Generator[Piece, None, None]:
    """Yield all frames that can be decoded, in order; damaged frames within a FLAC file become zeros.

    Args:
        file: open file; decoded from its start.
        limit: maximum number of frames; None for no limit.

    Raises:
        soundfile.LibsndfileError: the file cannot be opened.
    """
    with ExitStack() as stack:
        sound = stack.enter_context(ForwardFile(file))
        claimed, is_flac = sound.claimed_frames, sound.format == "FLAC"
        size = max(1, DECODED_AT_ONCE // sound.channels)
        at = damages = 0
        while limit is None or at < limit:
            samples, is_damaged = _read(sound, size if limit is None else min(size, limit - at))
            at += len(samples)
            if len(samples):
                yield Piece(samples)
            elif not is_damaged:
                return
            if is_damaged:
                damages += 1
                resumed = _resume(file, at, claimed or 0) if is_flac and damages < MAX_DAMAGES else None
                for begin in range(at, resumed or at + 1, size):
                    count = min(size, (resumed or at) - begin)
                    yield Piece(np.zeros((count, sound.channels), dtype=np.float32), is_damaged=True)
                if resumed is None:
                    return
                stack.close()
                sound = stack.enter_context(ForwardFile(file))
                at = sound.seek(resumed)


def _read(sound: ForwardFile, size: int) -> tuple[Array, bool]:
    """Return the next frames, and whether decoding failed after them.

    The buffer is filled with NaN first, to find out how much was decoded before a failure.
    """
    buffer = np.full((size, sound.channels), np.nan, dtype=np.float32)
    try:
        return sound.read(out=buffer), False
    except soundfile.LibsndfileError:
        untouched = np.isnan(buffer).all(axis=1)
        return buffer[: untouched.argmax() if untouched.any() else size], True


def _resume(file: IO[bytes], at: int, stop: int) -> int | None:
    """Return the first frame after ``at`` and before ``stop`` where decoding works again; None if there is none."""
    bad, skip = at, FIRST_SKIP
    while not _can_decode(file, at + skip):
        bad, skip = at + skip, 2 * skip
        if at + skip >= stop:
            return None
    good = at + skip
    while good - bad > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if _can_decode(file, middle) else (middle, good)
    return good


def _can_decode(file: IO[bytes], at: int) -> bool:
    try:
        with ForwardFile(file) as sound:
            return bool(sound.seek(at) == at and len(sound.read(1)))
    except soundfile.LibsndfileError:
        return False
