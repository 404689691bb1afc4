"""Restore the channels of a block, each in a job of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import analyse, frame_hop
from dawp.errors import BadInput, FitDiverged, with_context
from dawp.io import audio
from dawp.methods.base import DEEP_PRIOR, Method, get_method
from dawp.methods.deep_prior.checkpoints import Checkpoints, found
from dawp.methods.deep_prior.solver import fit_ahead, noise_after_prefilter, prefilter, restore_without_fit, solve
from dawp.operators.base import Operator
from dawp.parallel.jobs import Job, ProgressReporter
from dawp.parallel.progress import ProgressBars
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.restoration.block_cache import BlockCache
from dawp.restoration.blocks import Block, RestoredBlock, Sound
from dawp.restoration.context import Context
from dawp.tasks.base import get_task, make_problem

log = logging.getLogger(__name__)

NEIGHBOUR_SECONDS = 0.02  # on either side of a gap, to compare its level with
MAX_FILL_EXCESS_DB = 6.0


@dataclass(frozen=True, eq=False)
class ChannelJob(Job):
    """The job of restoring one channel of one block."""

    block_index: int
    channel: int


class PendingBlock:
    """A block whose channels are not all restored yet.

    Identical channels, as of a mono recording in a stereo file, are restored once and stay identical. Channels with
    nothing to restore are left unchanged: silent ones, and those without a gap where gaps are filled.

    Attributes:
        samples: ``[channels, n]``, NaN where they are missing.
        context: the block and the recording around it; None if it is not needed.
        profile: power of the noise ``[channels, bins]``; None to estimate it.
        operators: for each channel the index of its operator.
        to_fit: indices of the channels that have to be fitted.
    """

    def __init__(self, samples: Tensor, context: Context | None, config: Config, profile: Tensor | None) -> None:
        self.samples, self.context, self.profile = samples, context, profile
        missing, known = samples.isnan(), samples.nan_to_num()
        channels = range(len(samples))
        self.operators = [config.corruption.operator_index(channel, len(samples)) for channel in channels]

        def equal(one: int, other: int) -> bool:
            same = torch.equal(known[one], known[other]) and torch.equal(missing[one], missing[other])
            return same and self.operators[one] == self.operators[other]

        # The first channel that is identical to each channel.
        self._sources = [next(other for other in channels if equal(other, channel)) for channel in channels]
        needs_fit = known.any(dim=1)
        if config.corruption.missing is not None:
            needs_fit &= missing.any(dim=1)
        self.to_fit = [channel for channel in channels if self._sources[channel] == channel and needs_fit[channel]]
        self._results = {channel: (known[channel], 0) for channel in channels if channel not in self.to_fit}

    def add_result(self, channel: int, result: tuple[Tensor, int]) -> None:
        """Store the restored samples ``[n]`` of a channel, and the epoch at which its first fit stopped."""
        self._results[channel] = result

    def others(self, channel: int) -> Tensor | None:
        """Return the channels ``[K, n]`` that are not identical to a channel; None if there are none."""
        others = [other for other, source in enumerate(self._sources) if other == source != self._sources[channel]]
        return self.samples[others] if others else None

    @property
    def is_done(self) -> bool:
        return len(self._results) == len(self.samples)

    def join_channels(self, label: str, power: Tensor) -> RestoredBlock:
        """Return the restored block once all channels are done.

        Args:
            label: the block, for messages.
            power: mean square of each channel over the whole recording, ``[channels]``.
        """
        lost = self.samples.isnan().any(dim=1) & ~self.samples.nan_to_num().any(dim=1)
        if (lost & (power > 0)).any():
            log.warning("%s: the block has no known sample, so the gap is set to zero", label)
        results = [self._results[source] for source in self._sources]
        return RestoredBlock(torch.stack([samples for samples, _ in results]), [epoch for _, epoch in results])


class ChannelContext(NamedTuple):
    """One channel of the context of a block, and its noise.

    Attributes:
        samples: the block and the recording around it, ``[C]``.
        offset: index of the first sample of the block in ``samples``.
        profile: power of the noise ``[bins]``; None to estimate it.
    """

    samples: Tensor
    offset: int
    profile: Tensor | None

    def make_problem(self, length: int, rate: int, working_rate: int, config: Config) -> Problem:
        """Return the problem of the block, at the working rate, with the high-pass applied and the noise known.

        Args:
            length: samples of the block at the sample rate of the recording.
            rate: sample rate of the recording in Hz.
            working_rate: sample rate of the problem in Hz.
            config: all settings.

        Raises:
            BadInput: the block is silent after the high-pass.
        """
        unfiltered = audio.resample(self.samples, rate, working_rate)
        around = prefilter(unfiltered, working_rate, config)
        offset = self.offset * working_rate // rate
        observed = around[offset : offset + math.ceil(length * working_rate / rate)]
        hop = frame_hop(len(observed), working_rate)
        bins, frames = analyse(observed, working_rate).shape
        if self.profile is not None and len(self.profile) == bins:
            return Problem(observed, None, working_rate, noise=self.profile[:, None].expand(bins, frames))
        if hop == frame_hop(len(around), working_rate):
            noise = noise_after_prefilter(unfiltered, around, working_rate, config)[:, offset // hop :][:, :frames]
        else:  # a block shorter than a frame has frames of another length than its context
            noise = torch.from_numpy(estimate_noise(observed, working_rate))
        return Problem(observed, None, working_rate, noise=noise)


def channel_jobs(
    sound: Sound, block: Block, pending: PendingBlock, config: Config, index: int, cache: BlockCache | None
) -> Iterator[ChannelJob]:
    """Yield a job for each channel of a block that has to be fitted.

    Args:
        sound: the recording.
        block: a block of the recording.
        pending: the samples of the block.
        config: all settings.
        index: index of the block.
        cache: where checkpoints are saved; None to save none.
    """
    label = sound.block_label(block)
    is_fitted = config.restoration.method == DEEP_PRIOR
    operator_rate = (is_fitted and config.clip.samplerate) or sound.rate
    for channel in pending.to_fit:
        folder = cache.checkpoint_folder(index, channel) if cache else None
        context = None
        if pending.context:
            profile = None if pending.profile is None else pending.profile[channel]
            context = ChannelContext(pending.context.samples[channel], pending.context.offset, profile)
        others = None if is_fitted else pending.others(channel)
        operator = None
        if config.uses_operator:
            operator = config.corruption.operator(operator_rate, pending.operators[channel])
        args = (pending.samples[channel], context, others, operator, sound.rate, config, index, label)
        yield ChannelJob(label, folder, restore_channel, args, config.stop.fits, index, channel, checkpoints=found)


def progress_bars(fits: int, config: Config, title: str | None) -> ProgressBars:
    """Return progress bars that count the epochs of fits, or the channels of blocks for a method without a fit."""
    if get_method(config.task, config.restoration.method):
        return ProgressBars(fits, 1, title, unit="block")
    return ProgressBars(fits, config.fit.epochs, title, forecast=True)


def restore_channel(
    folder: Path | None,
    progress: ProgressReporter,
    part: int | None,
    channel: Tensor,
    context: ChannelContext | None,
    others: Tensor | None,
    operator: Operator | None,
    rate: int,
    config: Config,
    index: int,
    label: str,
) -> tuple[Tensor, int] | None:
    """Restore one channel of one block, or run one of its fits.

    Args:
        folder: for checkpoints; None to save none.
        progress: receives the progress of the fits.
        part: the fit to run ahead of the others; None to run the remaining fits and return the result.
        channel: ``[T]``, NaN where samples are missing.
        context: the recording around it; None if the method does not need it.
        others: the other channels ``[K, T]``, NaN where samples are missing; None if the method does not need them.
        operator: the forward model, at the rate of the method; None to use that of the task.
        rate: sample rate in Hz.
        config: all settings.
        index: index of the block.
        label: the block, for messages.

    Returns:
        The restored samples ``[T]`` and the epoch at which the first fit stopped, 0 without a fit; None for a single
        fit.

    Raises:
        BadInput: the channel cannot be restored.
        FitDiverged: a fit ended without an estimate.
    """
    try:
        with memory_as_bad_input("not restored", "block"):
            method = get_method(config.task, config.restoration.method)
            if method and part is not None:
                progress.skip(1)
                return None
            original = _make_problem(channel, rate, config, index)
            if original.is_intact:
                progress.skip(_count_epochs(config, part))
                return None if part is not None else (channel, 0)
            if method:
                progress.skip(_count_epochs(config, part))
                return _apply(method, original, context, others, operator, config, index, label), 0
            problem = _working_problem(original, channel, context, config, index)
            problem = replace(problem, operator=operator or problem.operator)
            fitted = _fit(problem, config, index, part, folder, progress)
            if fitted is None:
                return None
            output = audio.resample(fitted[0], problem.sample_rate, rate)[: len(channel)]
            return _combine(original, output, config, label), fitted[1]
    except (BadInput, FitDiverged) as failure:
        raise with_context(failure, label) from None


def _count_epochs(config: Config, part: int | None) -> int:
    """Return the number of epochs that the progress bars count for all fits of a channel, or for a part of them."""
    per_fit = 1 if get_method(config.task, config.restoration.method) else config.fit.epochs
    return per_fit * (config.stop.fits if part is None else 1)


def _fit(
    problem: Problem, config: Config, index: int, part: int | None, folder: Path | None, progress: ProgressReporter
) -> tuple[Tensor, int] | None:
    """Return the estimate ``[T]`` of the deep prior and the epoch of its first fit, 0 if no fit is needed.

    Arguments and errors are those of ``restore_channel``; None after a single fit, whose checkpoint is in the folder.
    """
    checkpoints = Checkpoints(folder, progress.saved) if folder else None
    estimate = restore_without_fit(problem, config)
    if estimate is not None:
        progress.skip(_count_epochs(config, part))
    if part is not None and checkpoints:
        if estimate is None:
            fit_ahead(problem, config, index, part, progress, None, checkpoints)
        return None
    if estimate is not None:
        return estimate, 0
    result = solve(problem, config, index, progress, None, checkpoints)
    if result.restored is None or result.error:
        raise FitDiverged(result.error or "the fit ended without an estimate; use more epochs")
    return result.restored.waveform, result.restored.epoch or 0


def _apply(
    method: Method,
    problem: Problem,
    context: ChannelContext | None,
    others: Tensor | None,
    operator: Operator | None,
    config: Config,
    index: int,
    label: str,
) -> Tensor:
    """Restore the problem of a channel ``[T]`` by a method that needs no fit, at its own rate."""
    whole = _make_problem(context.samples, problem.sample_rate, config, index) if context else problem
    whole = replace(whole, operator=operator or whole.operator, others=None if context else others)
    try:
        estimate = method.restore(whole, config)
    except BadInput as error:
        raise BadInput(f"method {method.name} failed: {error}", code=error.code) from error
    if context:
        estimate = estimate[context.offset :][: len(problem.observed)]
    return _combine(replace(problem, operator=operator or problem.operator), estimate, config, label)


def _make_problem(samples: Tensor, rate: int, config: Config, index: int) -> Problem:
    """Return the problem of samples ``[T]``, NaN where they are missing."""
    rng = seeded(config.fit.seed, "corruption", index)
    return make_problem(config.task, None, samples, rate, config.corruption.for_marked(), rng)


def _working_problem(
    original: Problem, channel: Tensor, context: ChannelContext | None, config: Config, index: int
) -> Problem:
    """Return the problem of a channel at the working rate."""
    rate = original.sample_rate
    working_rate = config.clip.samplerate or rate
    if context:
        return context.make_problem(len(channel), rate, working_rate, config)
    if working_rate == rate:
        return original
    return _make_problem(audio.resample(channel, rate, working_rate), working_rate, config, index)


def _combine(problem: Problem, output: Tensor, config: Config, label: str) -> Tensor:
    """Combine a recording and the output of a method ``[T]``: by strength, or by filling the gaps."""
    if get_task(config.task).has_strength:
        return torch.lerp(problem.observed, problem.estimate(output), config.restoration.strength)
    if problem.blend is not None:
        # Filled samples beyond full scale would lower the gain of the whole file, intact samples included.
        limit = max(1.0, float(problem.observed.abs().max()))
        output = output.clamp(-limit, limit)
        _warn_loud_fills(problem, output, label)
    return problem.estimate(output)


def _warn_loud_fills(problem: Problem, output: Tensor, label: str) -> None:
    """Warn where a filled gap is much louder than the samples on either side."""
    around = round(NEIGHBOUR_SECONDS * problem.sample_rate)
    for start, stop in problem.gaps:
        beside = torch.cat([problem.observed[max(0, start - around) : start], problem.observed[stop : stop + around]])
        if not beside.any():
            continue
        excess = audio.level_dbfs(output[start:stop]) - audio.level_dbfs(beside)
        if excess > MAX_FILL_EXCESS_DB:
            log.warning(
                "%s: the gap at %.3f s was filled with audio %.1f dB louder than its surroundings",
                label,
                start / problem.sample_rate,
                excess,
            )
