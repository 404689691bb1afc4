"""Read impulse responses of rooms."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dawp.errors import BadInput, printable, with_context
from dawp.io import audio
from dawp.io.reader import Reader

MAX_SECONDS = 10.0
NEGLIGIBLE = 1e-8  # of the energy: the end of a response is cut where less remains


def read_impulse_response(path: Path, sample_rate: int | None = None) -> Tensor:
    """Read all channels of an impulse response.

    Args:
        path: the sound file.
        sample_rate: to resample it to, in Hz; None to keep its own.

    Returns:
        ``[channels, L]``, without the end of the decay that holds less than 1e-8 of the energy; do not modify it.

    Raises:
        BadInput: the file cannot be read, is longer than 10 s, or has a channel that is silent.
    """
    try:
        status = path.stat()
    except OSError:
        raise BadInput(f"rir must be a sound file, got {printable(path)}", code="not_found") from None
    return _read(path, sample_rate, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, sample_rate: int | None, *_: int) -> Tensor:
    with Reader(path) as file:
        rate, longest = file.rate, int(MAX_SECONDS * file.rate)
        samples = torch.from_numpy(np.array(file.read(0, longest + 1)).T.copy())
    if samples.shape[1] > longest:
        raise BadInput(
            f"rir must be an impulse response of at most {MAX_SECONDS:g} s, got {printable(path)}",
            code="unusable_recording",
        )
    if not samples.isfinite().all():
        raise BadInput(
            f"rir must have finite samples, got NaN or infinite ones in {printable(path)}", code="unusable_recording"
        )
    if not samples.any(dim=1).all():
        raise BadInput(f"rir must be an impulse response, got silence in {printable(path)}", code="unusable_recording")
    try:
        samples = audio.resample(samples, rate, sample_rate or rate)
    except BadInput as refusal:
        raise with_context(refusal, f"rir {printable(path)}") from None
    energy = samples.double().square().flip(1).cumsum(1).flip(1)
    kept = int((energy > NEGLIGIBLE * energy[:, :1]).sum(dim=1).max())
    return samples[:, :kept].clone()
