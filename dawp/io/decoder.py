"""Decode one segment of a sound file forward with libsndfile, beyond damaged parts where the format allows it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from typing import IO, Any, NamedTuple

import numpy as np
import soundfile

Array = Any  # np.ndarray, float32 [n, channels]

DECODED_AT_ONCE = 1 << 18  # samples of all channels
MAX_FRAMES = 1 << 36  # libsndfile claims about 2^63 frames if a header leaves the number open
MAX_DAMAGES = 1000  # in one file
FIRST_SKIP = 256  # frames


class Piece(NamedTuple):
    """Consecutive frames.

    Attributes:
        samples: float32 ``[n, channels]``.
        is_damaged: they are zeros in place of damaged frames; if there are none, the file ends at a damaged frame.
    """

    samples: Array
    is_damaged: bool = False


class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read forward only.

    soundfile seeks after each call of ``read``, which some encodings do not allow; and where a file can be sought, it
    takes the number of frames that libsndfile claims for the number that is there.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        super().__init__(file.fileno(), closefd=False)

    def seekable(self) -> bool:
        return False

    @property
    def claimed_frames(self) -> int | None:
        """Number of frames by the header, as libsndfile understands it; None if it is left open."""
        return int(self.frames) if self.frames < MAX_FRAMES else None


def decode(file: IO[bytes], limit: int | None) -> Generator[Piece, None, None]:
    """All frames of a file that can be decoded, in order; damaged ones in the middle of a FLAC file become zeros.

    Args:
        file: decoded from its beginning.
        limit: largest number of frames; None for no limit.

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
    """The next frames, and whether decoding failed after them.

    The buffer is filled with NaN first, which shows how much was decoded in spite of a failure.
    """
    buffer = np.full((size, sound.channels), np.nan, dtype=np.float32)
    try:
        return sound.read(out=buffer), False
    except soundfile.LibsndfileError:
        untouched = np.isnan(buffer).all(axis=1)
        return buffer[: untouched.argmax() if untouched.any() else size], True


def _resume(file: IO[bytes], at: int, stop: int) -> int | None:
    """The first frame after ``at`` and before ``stop`` from which on decoding works again."""
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
