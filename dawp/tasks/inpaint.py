"""Gaps in a clip (paper section 5): cut into a clean one, or found in a damaged one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.config import GapConfig
from dawp.errors import BadInput
from dawp.io.audio import FRAME_SECONDS, stretches
from dawp.io.settings import LONGEST_GAP_MS
from dawp.problem import Problem

CROSSFADE = 0.0005  # seconds on either side of a gap in which the estimate goes over into the observed samples
MARGIN = 0.010  # seconds at least of sound between two drawn gaps, and to the ends of the clip
SILENT_DB = -40.0  # relative to the clip's loudest 25 ms: drawn gaps lie where there is more


def cut_gaps(clean: Tensor, sample_rate: int, config: GapConfig, rng: torch.Generator) -> Problem:
    """Take gaps out of a clean clip.

    In the observed clip the samples of the gaps are zero; the mask keeps them out of the loss, and nothing that
    the clean clip holds there reaches the fit. Drawn gaps lie where the clip is not silent (25 ms around them are
    above -40 dB relative to its loudest 25 ms), at least 10 ms from each other and from the ends.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: how many gaps of which length, or where.
        rng: source of the places.

    Returns:
        The problem, with ``gaps`` (start and length of each in seconds) among its facts.

    Raises:
        BadInput: the clip is silent, a gap lies outside it, or the gaps do not fit in.
    """
    if not clean.any():
        raise BadInput("the clean clip is silent: a gap in it changes nothing")
    missing = _given(len(clean), sample_rate, config)
    if not config.gaps:
        missing = _drawn(clean, sample_rate, config, rng)
    return _with_gaps(clean, clean, missing, sample_rate, config)


def find_gaps(observed: Tensor, clean: Tensor | None, sample_rate: int, config: GapConfig) -> Problem:
    """The problem of a clip that is damaged already.

    Args:
        observed: damaged clip ``[T]``, NaN where a sample is missing (``audio.mark_missing``).
        clean: its undamaged twin ``[T]``, or None.
        sample_rate: of both, in Hz.
        config: ``gaps`` names more samples that are not to be trusted.

    Raises:
        BadInput: there is no gap, or one lies outside the clip.
    """
    missing = observed.isnan() | _given(len(observed), sample_rate, config)
    if not missing.any():
        raise BadInput(
            f"no drop-outs in this clip of {len(observed) / sample_rate:g} s: neither NaN nor a run of zeros from "
            f"{config.min_gap_ms:g} to {LONGEST_GAP_MS:g} ms that breaks into sound; clip_length 0 takes the whole "
            "recording, gaps can name what is to be filled"
        )
    return _with_gaps(observed, clean, missing, sample_rate, config)


def _with_gaps(waveform: Tensor, clean: Tensor | None, missing: Tensor, sample_rate: int, config: GapConfig) -> Problem:
    """The problem of a waveform of which the samples in ``missing`` are gone."""
    if missing.all():
        raise BadInput(f"the gaps cover the whole clip of {len(missing) / sample_rate:.3f} s: nothing is left to fit")
    observed = torch.where(missing, 0, waveform)
    blend = None if config.raw_output else _blend(missing, sample_rate)
    gaps = [[start / sample_rate, (stop - start) / sample_rate] for start, stop in stretches(missing)]
    return Problem(observed, clean, sample_rate, ~missing, blend, facts={"gaps": gaps})


def _given(length: int, sample_rate: int, config: GapConfig) -> Tensor:
    """Which samples of a clip of ``length`` samples lie in the gaps that the settings name."""
    missing = torch.zeros(length, dtype=torch.bool)
    for start, seconds in config.given:
        first, stop = round(start * sample_rate), round((start + seconds) * sample_rate)
        if stop > length:
            raise BadInput(f"gaps: {start:g}:{seconds:g} lies outside the clip of {length / sample_rate:g} s")
        if first == stop:
            raise BadInput(f"gaps: {start:g}:{seconds:g} holds no sample at {sample_rate} Hz")
        missing[first:stop] = True
    return missing


def _drawn(clean: Tensor, sample_rate: int, config: GapConfig, rng: torch.Generator) -> Tensor:
    """Which samples lie in gaps drawn one after the other from all places that are left."""
    length = round(config.gap_ms / 1000 * sample_rate)
    if length < 2:
        raise BadInput(f"gap_ms {config.gap_ms:g} ms is less than two samples at {sample_rate} Hz")
    margin = round(MARGIN * sample_rate)
    if length + 2 * margin > len(clean):
        raise BadInput(
            f"a gap of gap_ms {config.gap_ms:g} ms and 10 ms on either side are longer than the clip of "
            f"{len(clean) / sample_rate:g} s"
        )
    allowed = _loud_enough(clean, sample_rate, length)
    allowed[:margin] = False
    allowed[len(allowed) - margin :] = False
    missing = torch.zeros(len(clean), dtype=torch.bool)
    for drawn in range(config.n_gaps):
        places = allowed.nonzero()[:, 0]
        if not len(places):
            raise BadInput(
                f"only {drawn} of n_gaps {config.n_gaps} gaps of {config.gap_ms:g} ms found a place in the clip of "
                f"{len(clean) / sample_rate:g} s, 10 ms apart and where it is not silent"
            )
        start = int(places[torch.randint(len(places), (), generator=rng)])
        missing[start : start + length] = True
        allowed[max(0, start - length - margin + 1) : start + length + margin] = False
    return missing


def _loud_enough(clean: Tensor, sample_rate: int, length: int) -> Tensor:
    """For each start of a gap ``[T - length + 1]``, whether the gap and the 25 ms around it are not silent."""

    def levels(window: int) -> Tensor:
        """Mean square of every window, in float64 since differences of a running sum lose digits."""
        total = F.pad(clean.double().square().cumsum(0), (1, 0))
        return (total[window:] - total[:-window]) / window

    frame = min(len(clean), max(length, round(FRAME_SECONDS * sample_rate)))
    frames = levels(frame)
    threshold = frames.max() * 10 ** (SILENT_DB / 10)
    starts = torch.arange(len(clean) - length + 1)
    around = (starts - (frame - length) // 2).clamp(0, len(frames) - 1)
    return (frames[around] > threshold) & (levels(length) > threshold / 100)


def _blend(missing: Tensor, sample_rate: int) -> Tensor:
    """1 in the gaps, falling to 0 over 0.5 ms on either side."""
    width = max(1, round(CROSSFADE * sample_rate))
    ramp = torch.arange(1, width + 1) / (width + 1)
    blend = F.pad(missing.float(), (width, width))
    for start, stop in stretches(missing):
        before, after = blend[start : start + width], blend[stop + width : stop + 2 * width]
        before.copy_(torch.maximum(before, ramp))
        after.copy_(torch.maximum(after, ramp.flip(0)))
    return blend[width:-width]
