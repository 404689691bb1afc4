"""Restoration of a waveform that is in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from dawp.config import Config, WorkConfig
from dawp.errors import BadInput
from dawp.parallel.workers import Bars, do
from dawp.restoration.blocks import Sound, _blocks_of, _where, faded
from dawp.restoration.channels import Piece, _pieces, _UnderWay
from dawp.restoration.context import _block_of, _is_intact, _noise_profile


def restore_waveform(waveform: Tensor, sample_rate: int, config: Config, progress: str | None = None) -> Tensor:
    """Restore a waveform that is in memory.

    Args:
        waveform: ``[channels, T]``, corrupted; NaN for samples that are missing (task inpaint).
        sample_rate: in Hz.
        config: all settings.
        progress: title of a progress bar on standard error; None for no bar.

    Returns:
        ``[channels, T]``.

    Raises:
        BadInput: the waveform cannot be used.
        FitDiverged: a fit did not end.
    """
    if config.work.executor != "local":
        raise BadInput(f"executor must be local for a waveform in memory, got {config.work.executor}")
    power = torch.where(waveform.isfinite(), waveform, 0).double().square().mean(dim=1)
    sound = Sound("waveform", sample_rate, power, waveform.shape[1], lambda start, stop: waveform[:, start:stop])
    blocks = _blocks_of(sound, config)
    if _is_intact(sound, config, blocks):
        return waveform.clone()
    profile = _noise_profile(sound, config)
    under_way: dict[int, _UnderWay] = {}
    fits = len(blocks) * len(power) * config.stop.fits
    here = WorkConfig(workers=1, threads=torch.get_num_threads())  # a program that calls is not to be run twice
    with Bars(fits, config.fit.epochs, progress, forecast=True) as bars:

        def jobs() -> Iterator[Piece]:
            for index, block in enumerate(blocks):
                under_way[index] = _UnderWay(*_block_of(sound, config, block), config, profile)
                bars.pass_over(config.stop.fits * (len(power) - len(under_way[index].to_fit)))
                yield from _pieces(sound, block, under_way[index], config, index, None)

        for piece, value, failure in do(jobs(), dataclasses.replace(config, work=here), fits, bars):
            if failure:
                raise failure
            under_way[piece.block].take(piece.channel, value)
    done = [
        (block, under_way[index].restored(_where(sound, block), power).samples) for index, block in enumerate(blocks)
    ]
    return torch.cat(list(faded(done)), dim=1)
