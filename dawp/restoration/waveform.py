"""Restore a waveform in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from dawp.config import Config
from dawp.errors import BadInput
from dawp.methods.base import check_method
from dawp.parallel.scheduler import run_jobs
from dawp.parallel.settings import WorkConfig
from dawp.problem import Problem
from dawp.restoration.blocks import Sound, overlap_add, plan_blocks
from dawp.restoration.channels import ChannelJob, PendingBlock, channel_jobs, progress_bars
from dawp.restoration.context import is_intact, noise_profile, read_block
from dawp.restoration.hum import remove_hum
from dawp.restoration.inspection import check_length, inspect


def restore_waveform(waveform: Tensor, sample_rate: int, config: Config, progress: str | None = None) -> Tensor:
    """Restore a waveform in memory.

    Args:
        waveform: corrupted, ``[channels, T]``; NaN for missing samples (task inpaint).
        sample_rate: in Hz.
        config: all settings.
        progress: title of a progress bar on standard error; None for no bar.

    Returns:
        ``[channels, T]``, or ``[channels, round(T * r / sample_rate)]`` if the settings have another output rate r.

    Raises:
        BadInput: the waveform or a setting cannot be used.
        FitDiverged: a fit ended without an estimate.
    """
    if config.work.executor != "local":
        raise BadInput(f"executor must be local for a waveform in memory, got {config.work.executor}")
    stages = config.stages
    for stage in stages:
        check_method(stage.task, stage.restoration.method, stage, sample_rate)
        stage.corruption.check_files()
    for stage in stages:
        waveform = _restore(waveform, sample_rate, stage, progress)
    return waveform


def restore_problem(problem: Problem, config: Config) -> Tensor:
    """Return the estimate ``[T]`` of a problem by the stages of a chain."""
    local = dataclasses.replace(config, work=WorkConfig())
    return restore_waveform(problem.observed[None], problem.sample_rate, local)[0]


def _restore(waveform: Tensor, sample_rate: int, config: Config, progress: str | None) -> Tensor:
    """Restore a waveform ``[channels, T]`` by one task."""
    power = torch.where(waveform.isfinite(), waveform, 0).double().square().mean(dim=1)
    sound = Sound("waveform", sample_rate, power, waveform.shape[1], lambda start, stop: waveform[:, start:stop])
    inspected = inspect(sound, config)
    if inspected is None:
        return waveform.clone()
    sound, config = inspected
    sound, _ = remove_hum(sound, config)
    check_length(sound, config)
    blocks = plan_blocks(sound, config)
    if is_intact(sound, config, blocks):
        return waveform.clone()
    profile = noise_profile(sound, config)
    pending: dict[int, PendingBlock] = {}
    fits = len(blocks) * len(power) * config.stop.fits
    # Stay in this process: a new one would import, and so run, the script that calls this function.
    work = WorkConfig(workers=1, threads=torch.get_num_threads())
    with progress_bars(fits, config, progress) as bars:

        def jobs() -> Iterator[ChannelJob]:
            for index, block in enumerate(blocks):
                pending[index] = PendingBlock(*read_block(sound, config, block), config, profile)
                bars.skip_fits(config.stop.fits * (len(power) - len(pending[index].to_fit)))
                yield from channel_jobs(sound, block, pending[index], config, index, None)

        for job, result, failure in run_jobs(jobs(), work, config.fit.device, fits, bars):
            if failure:
                raise failure
            pending[job.block_index].add_result(job.channel, result)
    restored = [
        (block, pending[index].join_channels(sound.block_label(block), power).samples)
        for index, block in enumerate(blocks)
    ]
    return torch.cat(list(overlap_add(restored)), dim=1)
