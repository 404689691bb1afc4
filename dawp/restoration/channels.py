"""The channels of a block: each is a job for a process."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import Config, GapConfig
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import analyse, frame_hop
from dawp.errors import BadInput, FitDiverged
from dawp.io import audio
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.solver import fit_ahead, prefilter, restore_without_fit, solve
from dawp.parallel.workers import Job, Line
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.restoration.block_cache import _Kept
from dawp.restoration.blocks import Block, Restored, Sound, _where
from dawp.restoration.context import Context
from dawp.runs.experiment import memory_as_bad_input
from dawp.tasks import pose

log = logging.getLogger(__name__)

BESIDE_GAP_SECONDS, MAX_FILL_EXCESS_DB = 0.02, 6.0


@dataclass(frozen=True, eq=False)
class Piece(Job):
    """The job of restoring one channel of one block."""

    block: int
    channel: int


class _UnderWay:
    """A block of which some channels are still to be restored.

    Equal channels, as of a mono recording in a stereo file, are restored once and stay equal; those in which nothing
    is to be restored (silent ones and, where gaps are filled, those without a gap) stay as they are.

    Attributes:
        samples: ``[channels, n]``, NaN for those that are missing.
        context: the block with the recording around it; None if it is not needed.
        profile: ``[channels, bins]``, power of the noise, if the user says where it is.
        to_fit: the channels that have to be fitted.
    """

    def __init__(self, samples: Tensor, context: Context | None, config: Config, profile: Tensor | None) -> None:
        self.samples, self.context, self.profile = samples, context, profile
        missing, known = samples.isnan(), samples.nan_to_num()
        channels = range(len(samples))

        def equal(one: int, other: int) -> bool:
            return torch.equal(known[one], known[other]) and torch.equal(missing[one], missing[other])

        self._twins = [next(other for other in channels if equal(other, own)) for own in channels]
        wanted = known.any(dim=1)
        if isinstance(config.corruption, GapConfig):
            wanted &= missing.any(dim=1)
        self.to_fit = [own for own in channels if self._twins[own] == own and wanted[own]]
        self._done = {own: (known[own], 0) for own in channels if own not in self.to_fit}

    def take(self, channel: int, restored: tuple[Tensor, int]) -> None:
        """What has become of a channel, and the epoch at which its fit was stopped."""
        self._done[channel] = restored

    @property
    def is_done(self) -> bool:
        return len(self._done) == len(self.samples)

    def restored(self, where: str, power: Tensor) -> Restored:
        """The block, of which every channel is done.

        Args:
            where: the block, in words.
            power: ``[channels]``, mean square of each over the whole recording.
        """
        lost = self.samples.isnan().any(dim=1) & ~self.samples.nan_to_num().any(dim=1)
        if (lost & (power > 0)).any():
            log.warning("%s: nothing is known around the gap, which stays silent; try a longer block", where)
        done = [self._done[twin] for twin in self._twins]
        return Restored(torch.stack([samples for samples, _ in done]), [epoch for _, epoch in done])


def _pieces(
    sound: Sound, block: Block, under_way: _UnderWay, config: Config, index: int, kept: _Kept | None
) -> Iterator[Piece]:
    """What there is to do of a block: one job for each channel that has to be fitted."""
    where = _where(sound, block)
    for channel in under_way.to_fit:
        folder = kept.workplace(index, channel) if kept else None
        noisy = None
        if under_way.context:
            profile = None if under_way.profile is None else under_way.profile[channel]
            noisy = NoisyBlock(under_way.context.samples[channel], under_way.context.offset, profile)
        args = (under_way.samples[channel], noisy, sound.rate, config, index, where)
        yield Piece(where, folder, _restore_channel, args, config.stop.fits, index, channel)


class NoisyBlock(NamedTuple):
    """What is known of the noise in one channel of a block."""

    context: Tensor  # [C], the recording around it
    offset: int  # of the block in it
    profile: Tensor | None  # [bins], power of the noise, if the user says where it is

    def problem(self, length: int, rate: int, working_rate: int, config: Config) -> Problem:
        """The problem of a block of ``length`` samples, high-passed and with its noise, at the working rate.

        Raises:
            BadInput: the block is silent after the high-pass.
        """
        around = prefilter(audio.resample(self.context, rate, working_rate), working_rate, config)
        offset = self.offset * working_rate // rate
        observed = around[offset : offset + math.ceil(length * working_rate / rate)]
        hop = frame_hop(len(observed), working_rate)
        frames = analyse(observed, working_rate).shape
        if self.profile is not None and len(self.profile) == frames[0]:
            return Problem(observed, None, working_rate, noise=self.profile[:, None].expand(frames))
        if hop == frame_hop(len(around), working_rate):
            noise = estimate_noise(around, working_rate)[:, offset // hop :][:, : frames[1]]
        else:  # a block shorter than a frame
            noise = estimate_noise(observed, working_rate)
        return Problem(observed, None, working_rate, noise=torch.from_numpy(noise))


def _restore_channel(
    folder: Path | None,
    line: Line,
    part: int | None,
    channel: Tensor,
    noisy: NoisyBlock | None,
    rate: int,
    config: Config,
    index: int,
    where: str,
) -> tuple[Tensor, int] | None:
    """One channel ``[T]`` of one block, and the epoch at which its fit was stopped; or one of its fits.

    Args:
        folder: for checkpoints; None for none.
        line: for progress.
        part: which of the fits to do ahead; None for what is left of them, and the channel.
        channel: NaN for samples that are missing.
        noisy: its surroundings, where the method needs them.
        rate: in Hz.
        config: all settings.
        index: of the block.
        where: the block, in words.
    """
    try:
        with memory_as_bad_input("not restored"):
            own, problem = _problems(channel, noisy, rate, config, index)
            checkpoints = Checkpoints(folder, line.saved) if folder else None
            estimate, epoch = restore_without_fit(problem, config), 0
            if estimate is not None:
                line.skip(config.fit.epochs * (config.stop.fits if part is None else 1))
            if part is not None and checkpoints:
                if estimate is None:
                    fit_ahead(problem, config, index, part, line, None, checkpoints)
                return None
            if estimate is None:
                result = solve(problem, config, index, line, None, checkpoints)
                if result.restored is None or result.error:
                    raise FitDiverged(result.error or "the fit ended before it had an estimate; more epochs are needed")
                estimate, epoch = result.restored.waveform, result.restored.epoch or 0
            output = audio.resample(estimate, problem.sample_rate, rate)[: len(channel)]
            return _merged(own, output, config, where), epoch
    except (BadInput, FitDiverged) as failure:
        raise type(failure)(f"{where}: {failure}") from None


def _problems(
    channel: Tensor, noisy: NoisyBlock | None, rate: int, config: Config, index: int
) -> tuple[Problem, Problem]:
    """The problem of a channel at its own rate, and the one that is solved, at the working rate."""
    corruption = config.corruption
    if isinstance(corruption, GapConfig):
        corruption = dataclasses.replace(corruption, gaps=None)  # they are NaN here
    working_rate = config.clip.samplerate or rate
    rng = seeded(config.fit.seed, "corruption", index)
    own = pose(config.task, None, channel, rate, corruption, rng)
    if noisy:
        return own, noisy.problem(len(channel), rate, working_rate, config)
    if working_rate == rate:
        return own, own
    return own, pose(config.task, None, audio.resample(channel, rate, working_rate), working_rate, corruption, rng)


def _merged(problem: Problem, output: Tensor, config: Config, where: str) -> Tensor:
    """The restored channel ``[T]`` of an output of the method: what is kept of the recording, and the rest."""
    if not isinstance(config.corruption, GapConfig):
        return torch.lerp(problem.observed, output, config.restoration.strength)
    if problem.blend is not None:
        # Filled samples beyond full scale would make the whole file softer, and the intact ones with it.
        limit = max(1.0, float(problem.observed.abs().max()))
        output = output.clamp(-limit, limit)
        _warn_of_loud_fills(problem, output, where)
    return problem.estimate(output)


def _warn_of_loud_fills(problem: Problem, output: Tensor, where: str) -> None:
    """Warn of gaps whose filling is much louder than the sound on either side."""
    around = round(BESIDE_GAP_SECONDS * problem.sample_rate)
    for start, stop in problem.gaps:
        beside = torch.cat([problem.observed[max(0, start - around) : start], problem.observed[stop : stop + around]])
        if not beside.any():
            continue
        excess = audio.level_dbfs(output[start:stop]) - audio.level_dbfs(beside)
        if excess > MAX_FILL_EXCESS_DB:
            log.warning(
                "%s: the gap at %.3f s is filled with sound that is %.1f dB louder than what surrounds it",
                where,
                start / problem.sample_rate,
                excess,
            )
