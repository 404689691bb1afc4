"""Restoration: recordings that have no clean version, of any length, each into one file.

A recording is cut into blocks that overlap. Each block is read, fitted by itself, and kept in a folder beside the
output until all are there; then they are faded into one another. So memory does not grow with the recording, and an
interrupted restoration goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dawp.config import NOT_OF_THE_NUMBERS, Config
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import SMALLEST_POWER, analyse, frame_hop
from dawp.errors import BadInput, FitDiverged, shown
from dawp.io import audio
from dawp.io.files import changed_at, check_writable, held, is_restored, whole, write_json
from dawp.io.formats import FORMATS, Form, form_of, write
from dawp.io.metadata import read_metadata
from dawp.io.reader import Reader
from dawp.io.settings import LONGEST_GAP_MS, MIN_LENGTH
from dawp.io.sources import SOUND_SUFFIXES, Recording
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.solver import fit_ahead, prefilter, restore_without_fit, solve
from dawp.parallel.settings import WorkConfig
from dawp.parallel.workers import Bars, Job, Line, do, duration
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.restoration.removed import Removed, difference, measure
from dawp.runs.experiment import Outcome, check_device, circumstances, memory_as_bad_input, said_device
from dawp.tasks.base import CorruptionConfig, get_task, make_problem

log = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("restored")
NOT_OF_THE_SAMPLES = (
    "source",
    "overwrite",
    "restore",
    "output",
    "output_format",
    "subtype",
    "clip_mode",
    "save_removed",
    *NOT_OF_THE_NUMBERS,
)
"""Settings that the restored samples do not depend on."""

LOWEST_RATE = 1000  # Hz
LONGEST_NAME = 255 - len(".12345678.") - len(".json")  # bytes of an output's name: its record's has more, for a time
SURVEYED_AT_ONCE = 1 << 16  # samples
CONTEXT_SECONDS = 3.0  # of the recording on either side of a block, for the noise estimate and the high-pass
MIN_PROFILE_SECONDS = 0.1
BESIDE_GAP_SECONDS, MAX_FILL_EXCESS_DB = 0.02, 6.0
HASHED_AT_ONCE = 1 << 20  # bytes


class Block(NamedTuple):
    """First sample of a block and the one after its last."""

    start: int
    stop: int


@dataclass(frozen=True)
class Sound:
    """A recording as blocks are taken from it.

    Attributes:
        name: for messages.
        rate: in Hz.
        power: ``[channels]``, mean square of each.
        frames: samples of each channel.
        read: the samples ``[channels, stop - start]`` from ``start`` to ``stop``.
    """

    name: str
    rate: int
    power: Tensor
    frames: int
    read: Callable[[int, int], Tensor]

    def __post_init__(self) -> None:
        if self.frames < MIN_LENGTH:
            raise BadInput(f"{self.name}: is too short, of {self.frames} samples; at least {MIN_LENGTH} are needed")
        if self.rate < LOWEST_RATE:
            raise BadInput(f"{self.name}: must have a rate of at least {LOWEST_RATE} Hz, got {self.rate}")
        if not self.power.any():
            raise BadInput(f"{self.name}: is silent, all samples are zero or missing")


class Restored(NamedTuple):
    """A block that is done."""

    samples: Tensor  # [channels, stop - start]
    epochs: list[int]  # of each channel, where its first fit was stopped; 0 if there was nothing to fit


# One waveform


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


def cut(frames: int, rate: int, config: Config) -> list[Block]:
    """The blocks of a recording of ``frames`` samples: of one size, evenly spaced, the last one at its end.

    Raises:
        BadInput: blocks of so few seconds hold too few samples.
    """
    size = round(config.restoration.block * rate)
    overlap = round(config.restoration.overlap * rate)
    lowest = min(rate, config.clip.samplerate or rate)
    if min(size, frames) * lowest < MIN_LENGTH * rate:
        seconds = min(config.restoration.block, frames / rate)
        raise BadInput(f"block must hold at least {MIN_LENGTH} samples, got {seconds:g} s at {lowest} Hz")
    if frames <= size:
        return [Block(0, frames)]
    count = math.ceil((frames - overlap) / (size - overlap))
    size = math.ceil((frames + (count - 1) * overlap) / count)
    starts = [index * (frames - size) // (count - 1) for index in range(count)]
    return [Block(start, start + size) for start in starts]


def faded(parts: Iterable[tuple[Block, Tensor]]) -> Iterator[Tensor]:
    """The blocks as one waveform, in pieces ``[channels, n]``: where two overlap, the gains of both add up to 1.

    Args:
        parts: blocks in order, with their samples ``[channels, stop - start]``.
    """
    tail: Tensor | None = None
    begin = 0
    for block, samples in parts:
        if tail is not None:
            yield tail[:, : block.start - begin]
            ending = tail[:, block.start - begin :]
            length = ending.shape[1]
            gain = torch.arange(1, length + 1) / (length + 1)
            samples = torch.cat([torch.lerp(ending, samples[:, :length], gain), samples[:, length:]], dim=1)
        tail, begin = samples, block.start
    if tail is not None:
        yield tail


def _blocks_of(sound: Sound, config: Config) -> list[Block]:
    """The blocks of a recording, which is refused if it cannot be worked on."""
    try:
        blocks = cut(sound.frames, sound.rate, config)
        working_rate = config.clip.samplerate or sound.rate
        for rates in ((sound.rate, working_rate), (working_rate, sound.rate)):
            audio.resample(torch.zeros(1), *rates)
    except BadInput as refusal:
        raise BadInput(f"{sound.name}: {refusal}") from None
    for start, length in config.corruption.given:
        first, stop = round(start * sound.rate), round((start + length) * sound.rate)
        if stop > sound.frames:
            seconds = sound.frames / sound.rate
            raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} lies outside the recording of {seconds:g} s")
        if first == stop:
            raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} holds no sample at {sound.rate} Hz")
    return blocks


def _is_intact(sound: Sound, config: Config, blocks: Sequence[Block]) -> bool:
    """Whether gaps are to be filled and the recording has none, which is logged."""
    gaps = config.corruption
    if gaps.missing is None or any(_marked(sound, gaps, block).isnan().any() for block in blocks):
        return False
    log.info(
        "%s: no drop-outs (NaN, or a run of zeros from %g to %g ms that breaks into sound): left unchanged; "
        "--gaps START:LENGTH names what to fill",
        sound.name,
        gaps.missing * 1000,
        LONGEST_GAP_MS,
    )
    return True


def _where(sound: Sound, block: Block) -> str:
    """A block, in words."""
    return f"{sound.name}: {block.start / sound.rate:.2f} to {block.stop / sound.rate:.2f} s"


class Context(NamedTuple):
    """A block with the recording around it."""

    samples: Tensor  # [channels, C]
    offset: int  # of the block in it


def _block_of(sound: Sound, config: Config, block: Block) -> tuple[Tensor, Context | None]:
    """A block's samples ``[channels, n]``, NaN for those that are missing, and its context if it is needed."""
    if config.corruption.missing is not None:
        return _marked(sound, config.corruption, block), None
    if config.stop.estimate != "mask":
        return sound.read(*block), None
    # Whole frames of the noise estimate, at the working rate, lie between the start of the context and the block.
    rate = config.clip.samplerate or sound.rate
    common = math.gcd(sound.rate, rate)
    step = math.lcm(rate // common, frame_hop(block.stop - block.start, rate)) // (rate // common)
    step *= sound.rate // common
    offset = min(block.start, round(CONTEXT_SECONDS * sound.rate)) // step * step
    stop = min(sound.frames, block.stop + round(CONTEXT_SECONDS * sound.rate))
    samples = sound.read(block.start - offset, stop)
    return samples[:, offset : offset + block.stop - block.start], Context(samples, offset)


def _noise_profile(sound: Sound, config: Config) -> Tensor | None:
    """Mean power ``[channels, bins]`` of the stretches that ``--noise_profile`` names, at the working rate.

    Raises:
        BadInput: a stretch lies outside the recording, or they are too short.
    """
    stretches = config.corruption.profile
    if not stretches or config.stop.estimate != "mask":
        return None
    powers = []
    for start, length in sorted(stretches):
        first, stop = round(start * sound.rate), round((start + length) * sound.rate)
        if stop > sound.frames:
            seconds = sound.frames / sound.rate
            raise BadInput(
                f"{sound.name}: noise_profile: {start:g}:{length:g} lies outside the recording of {seconds:g} s"
            )
        if stop - first < MIN_PROFILE_SECONDS * sound.rate:
            raise BadInput(
                f"{sound.name}: noise_profile: each stretch must last at least {MIN_PROFILE_SECONDS:g} s, "
                f"got {start:g}:{length:g}"
            )
        rate = config.clip.samplerate or sound.rate
        noise = audio.resample(sound.read(first, stop), sound.rate, rate)
        silent = [channel for channel, power in enumerate(sound.power) if power and not noise[channel].any()]
        if silent:
            raise BadInput(
                f"{sound.name}: noise_profile: {start:g}:{length:g} is silent in channel {silent[0] + 1}, "
                "expected a stretch that holds noise"
            )
        powers.append([torch.from_numpy(analyse(channel, rate)).abs().square() for channel in noise])
    # Stretches of one recording: the frames of all count alike.
    profile = torch.stack([torch.cat(channel, dim=1).mean(dim=1) for channel in zip(*powers, strict=True)])
    return profile.clamp(min=SMALLEST_POWER)


def _marked(sound: Sound, config: CorruptionConfig, block: Block) -> Tensor:
    """A block's samples ``[channels, n]``, with NaN for those that are missing."""
    # With what lies around it: a drop-out at its edge is one by what is beside it.
    margin = math.ceil((LONGEST_GAP_MS / 1000 + audio.BESIDE_SECONDS) * sound.rate) + 1
    first, last = max(0, block.start - margin), min(sound.frames, block.stop + margin)
    samples = sound.read(first, last)
    if config.given:
        samples = torch.where(samples.isfinite(), samples, torch.nan)
        for start, length in config.given:
            begin, end = round(start * sound.rate), round((start + length) * sound.rate)
            samples[:, max(0, begin - first) : max(0, end - first)] = torch.nan
    elif config.missing is not None:
        samples = audio.mark_missing(samples.T, sound.rate, config.missing, sound.power).T
    return samples[:, block.start - first : block.stop - first]


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
        if config.corruption.missing is not None:
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
    corruption = config.corruption.for_marked()
    working_rate = config.clip.samplerate or rate
    rng = seeded(config.fit.seed, "corruption", index)
    own = make_problem(config.task, None, channel, rate, corruption, rng)
    if noisy:
        return own, noisy.problem(len(channel), rate, working_rate, config)
    if working_rate == rate:
        return own, own
    return own, make_problem(
        config.task, None, audio.resample(channel, rate, working_rate), working_rate, corruption, rng
    )


def _merged(problem: Problem, output: Tensor, config: Config, where: str) -> Tensor:
    """The restored channel ``[T]`` of an output of the method: what is kept of the recording, and the rest."""
    if get_task(config.task).has_strength:
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


# Files


@dataclass(frozen=True)
class Target:
    """A recording to restore.

    Attributes:
        path: the recording.
        output: the file to write.
        removed: the file to write with what was removed; None for none.
    """

    path: Path
    output: Path
    removed: Path | None = None

    @property
    def record(self) -> Path:
        """The file that tells how the output was made."""
        return self.output.with_name(f"{self.output.name}.json")


def run(
    config: Config, recordings: Sequence[Recording], command: Sequence[str] = (), progress: bool = False
) -> Outcome:
    """Restore recordings, each into one file; those whose file is there already are passed over.

    Args:
        config: all settings.
        recordings: the corrupted ones.
        command: the command line, for the records.
        progress: show a bar on standard error.

    Raises:
        BadInput: the device is not there, or an output cannot be what was asked for.
        KeyboardInterrupt: the blocks that are finished are kept.
    """
    check_device(config)
    targets = plan(config, recordings)
    outputs = [path for target in targets for path in (target.output, target.removed) if path]
    for folder in dict.fromkeys(path.parent for path in outputs):
        check_writable(folder)
    title = f"{len(targets)} recordings" if len(targets) > 1 else shown(targets[0].path.name)
    with (
        _Files(targets, config, command) as files,
        Bars(files.fits, config.fit.epochs, title if progress else None, forecast=True) as bars,
        closing(do(files.jobs(bars), config, files.fits, bars)) as over,
    ):
        for piece, value, failure in over:
            files.take(piece, value, failure)
    folder = (
        targets[0].output
        if len(targets) == 1
        else Path(os.path.commonpath([target.output.parent for target in targets]))
    )
    return Outcome(folder, files.done, files.skipped, files.failures)


def plan(config: Config, recordings: Sequence[Recording]) -> list[Target]:
    """Where each recording goes: the output itself, or its place in a tree that mirrors that of the recordings.

    Recordings in the output folder, or in that of what was removed, are results of an earlier command and left out.

    Raises:
        BadInput: an output is a recording itself, is asked for twice, or is there already and alone.
    """
    source, output = config.run.source, config.restoration.output or DEFAULT_OUTPUT
    paths = [recording.corrupted or recording.path for recording in recordings]
    paths = list({_plain(path): path for path in paths}.values())
    if source is not None and source.is_dir():
        base = source
        results = {folder.resolve() for folder in (output, config.restoration.save_removed) if folder}
        paths = [path for path in paths if results.isdisjoint(path.resolve().parents)]
        if not paths:
            raise BadInput(f"{shown(source)}: all sound files in this folder are in the output folder {shown(output)}")
    else:
        base = Path(os.path.commonpath([_plain(path).parent for path in paths]))
    named = _is_file("output", output, len(paths))
    save_removed = config.restoration.save_removed
    one_removed = save_removed is not None and _is_file("save_removed", save_removed, len(paths))
    asked = config.restoration.output_format
    suffix = f".{asked}" if asked else None
    if asked and named and FORMATS[output.suffix.lower()] != asked.upper():
        raise BadInput(f"output_format {asked} does not go with the suffix of {shown(output)}")
    targets: dict[Path, Target] = {}
    for path in paths:
        place = output if named else output / _plain(path).relative_to(_plain(base))
        if suffix and not named:
            place = place.with_suffix(suffix)
        if len(os.fsencode(place.name)) > LONGEST_NAME:
            raise BadInput(f"{shown(place)}: the name is too long for an output, of at most {LONGEST_NAME} bytes")
        if place in targets:
            raise BadInput(f"{shown(place)}: would be the output of {shown(targets[place].path)} and of {shown(path)}")
        relative = Path(place.name) if named else place.relative_to(output)
        targets[place] = Target(
            path, place, save_removed if one_removed or not save_removed else save_removed / relative
        )
    inputs = {path.resolve() for path in paths}
    for place in targets:
        if place.resolve() in inputs:
            raise BadInput(f"{shown(place)}: is a recording of this command and cannot be its output")
        if place.is_dir():
            raise BadInput(f"{shown(place)}: is a folder, expected a file to write")
        record = targets[place].record
        if record.exists() and not is_restored(place) and not config.run.overwrite:
            raise BadInput(f"{shown(record)}: is there already and no restoration's (--overwrite replaces it)")
    if len(targets) == 1 and named and output.exists() and not config.run.overwrite:
        raise BadInput(f"{shown(output)}: is there already (--overwrite replaces it)")
    outputs = {place.resolve() for place in targets}
    for target in targets.values():
        if target.removed is None:
            continue
        if target.removed.resolve() in inputs | outputs:
            raise BadInput(f"save_removed must not be a recording or an output, got {shown(target.removed)}")
        if target.removed.is_dir():
            raise BadInput(f"{shown(target.removed)}: is a folder, expected a file to write")
        is_resumed = _kept_folder(target.output).is_dir()  # it may have been interrupted after writing this file
        if target.removed.exists() and not (target.output.exists() or config.run.overwrite or is_resumed):
            raise BadInput(f"{shown(target.removed)}: is there already (--overwrite replaces it)")
    return list(targets.values())


def _is_file(name: str, path: Path, recordings: int) -> bool:
    """Whether a setting names a sound file to write, not a folder.

    Raises:
        BadInput: it is neither, or a file for several recordings.
    """
    is_file = path.suffix.lower() in SOUND_SUFFIXES and not path.is_dir()
    if is_file and recordings > 1:
        raise BadInput(f"{name} must be a folder for {recordings} recordings, got {shown(path)}")
    like_a_file = recordings == 1 and re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix) and not path.is_dir()
    if not is_file and (like_a_file or (path.exists() and not path.is_dir())):
        suffixes = " ".join(FORMATS)
        raise BadInput(f"{name} must be a folder, or a file with one of the suffixes {suffixes}, got {shown(path)}")
    return is_file


def _plain(path: Path) -> Path:
    """A path from the root, without dots, and with its links as they are."""
    return Path(os.path.normpath(path.absolute()))


def _fits_of(path: Path, config: Config) -> int:
    """How many fits a recording takes at most; 0 if it cannot be used."""
    try:
        with Reader(path) as file:
            blocks = cut(file.stated_frames, file.rate, config)
            return len(blocks) * file.channels * config.stop.fits
    except BadInput:
        return 0


class _File:
    """A recording that is being restored; other commands keep out of its output until ``hold`` is closed.

    Attributes:
        hold: to be closed at the end, whatever that is.
        going: the jobs that are under way.
        all_given: there are no more jobs to come.
        failed: one of the jobs has failed.

    Raises:
        BadInput: the recording cannot be restored, or not into this output.
    """

    def __init__(self, target: Target, config: Config, command: Sequence[str], count: str) -> None:
        self._began = time.perf_counter()
        self._target, self._config = target, config
        self.going: set[Piece] = set()
        self.all_given = self.failed = False
        self._under_way: dict[int, _UnderWay] = {}
        self._epochs: dict[int, list[int]] = {}
        with ExitStack() as hold:
            file = hold.enter_context(Reader(target.path))
            sound = self._sound = _survey(file, target.path, config.corruption.missing is not None)
            self._source, self._metadata = Form(file.format, file.subtype), read_metadata(target.path)
            size = sound.rate, len(sound.power), sound.frames
            self._form = form_of(target.output, self._source, config.restoration.subtype, *size)
            self._removed_form = target.removed and form_of(target.removed, self._source, None, *size)
            self._blocks = _blocks_of(sound, config)
            self._profile = _noise_profile(sound, config)
            self._settings = {
                name: value for name, value in config.effective().items() if name not in NOT_OF_THE_SAMPLES
            }
            self._about = circumstances(config, command)
            self._sha256 = _digest(target.path)
            length = sound.frames / sound.rate
            said = f"{length:.1f} s of sound, blocks: {len(self._blocks)}, device: {said_device(config)}"
            log.info("%s%s: %s", count, sound.name, said)
            self._intact = _is_intact(sound, config, self._blocks)
            if self._intact:
                self._epochs = {index: [0] * len(sound.power) for index in range(len(self._blocks))}
            target.output.parent.mkdir(parents=True, exist_ok=True)
            identity = {
                "settings": self._settings,
                "recording": self._sha256,
                "torch": self._about["versions"]["torch"],
            }
            self._kept = hold.enter_context(_kept_for(target.output, identity))
            if target.output.exists() and not config.run.overwrite:
                raise BadInput(
                    f"{shown(target.output)}: is there already, from another command (--overwrite replaces it)"
                )
            self.hold = hold.pop_all()

    def jobs(self, bars: Bars) -> Iterator[Piece]:
        """What there is to do, one channel of one block after the other; ends early if one of them fails."""
        channels, fits = len(self._sound.power), self._config.stop.fits
        if self._intact:
            bars.pass_over(fits * channels * len(self._blocks))
        for index, block in enumerate([] if self._intact else self._blocks):
            if self.failed:
                bars.pass_over(fits * channels * (len(self._blocks) - index))
                return
            kept = self._kept.get(index, block, channels)
            if kept is not None:
                self._epochs[index] = kept.epochs
                bars.pass_over(fits * channels)
                continue
            with memory_as_bad_input(_where(self._sound, block)):
                under_way = _UnderWay(*_block_of(self._sound, self._config, block), self._config, self._profile)
            self._under_way[index] = under_way
            bars.pass_over(fits * (channels - len(under_way.to_fit)))
            self._put(index)
            pieces = _pieces(self._sound, block, under_way, self._config, index, self._kept)
            while not self.failed and (piece := next(pieces, None)):
                self.going.add(piece)
                yield piece
        self.all_given = True

    def take(self, piece: Piece, restored: tuple[Tensor, int], failure: BadInput | FitDiverged | None) -> None:
        """What came of a job."""
        self.going.discard(piece)
        if failure is None:
            self._under_way[piece.block].take(piece.channel, restored)
            self._put(piece.block)
        else:
            self.failed = True
        if piece.folder and not isinstance(failure, BadInput):  # what wanted memory, say, may go on another time
            shutil.rmtree(piece.folder, ignore_errors=True)

    def _put(self, index: int) -> None:
        if self._under_way[index].is_done:
            done = self._under_way.pop(index).restored(_where(self._sound, self._blocks[index]), self._sound.power)
            self._kept.put(index, done)
            self._epochs[index] = done.epochs

    def finish(self) -> None:
        """Write the output, and its record. An intact recording is copied if the output has its format."""
        target, sound, blocks, clip_mode = self._target, self._sound, self._blocks, self._config.restoration.clip_mode

        def restored(index: int, block: Block) -> Tensor:
            return sound.read(*block) if self._intact else self._kept.again(index, block, len(sound.power))

        def samples() -> Iterator[Tensor]:
            return faded((block, restored(index, block)) for index, block in enumerate(blocks))

        removed = self._measure_removed(samples)
        gain = 1.0
        if self._intact and self._form == self._source:
            with whole(target.output) as temporary:
                shutil.copyfile(target.path, temporary)
        else:
            gain = write(target.output, samples, sound.rate, self._form, clip_mode, self._metadata)
        seconds = time.perf_counter() - self._began
        record = {
            "recording": str(target.path),
            "sha256": self._sha256,
            "sample_rate": sound.rate,
            "channels": len(sound.power),
            "samples": sound.frames,
            "format": self._form.format,
            "subtype": self._form.subtype,
            "clip_mode": clip_mode,
            "gain": gain,
            "unchanged": self._intact,
            "removed": removed.facts() if removed else None,
            "blocks": [
                {"start": block.start, "stop": block.stop, "epochs": self._epochs[index]}
                for index, block in enumerate(blocks)
            ],
            "seconds": seconds,
            **self._about,
            "settings": self._settings,
        }
        write_json(target.record, record)
        self._kept.remove()
        log.info("%s: done in %s", shown(target.output), duration(seconds))

    def _measure_removed(self, samples: Callable[[], Iterator[Tensor]]) -> Removed | None:
        """Write what was removed if it is wanted, and report how much it is; None where gaps were filled."""
        target, sound = self._target, self._sound

        def pieces() -> Iterator[Tensor]:
            return (part for _, part in difference(samples(), sound.read))

        if target.removed and self._removed_form:
            target.removed.parent.mkdir(parents=True, exist_ok=True)
            write(target.removed, pieces, sound.rate, self._removed_form, self._config.restoration.clip_mode, None)
        if not get_task(self._config.task).has_strength:
            return None
        removed = measure(difference(samples(), sound.read), sound.rate)
        log.info("%s: %s", shown(target.output), removed)
        if removed.is_suspicious:
            log.warning(
                "%s: more than half of the power above 100 Hz was removed; listen to it (--save_removed), and "
                "lower --strength if it is not noise or reverberation",
                shown(target.output),
            )
        return removed


class _Files:
    """The recordings of a command: begun one after the other, each written when all its blocks are there.

    Attributes:
        fits: in all of them.
        done: how many were written.
        skipped: how many are there already.
        failures: a line for each that could not be restored.
    """

    def __init__(self, targets: Sequence[Target], config: Config, command: Sequence[str]) -> None:
        self._targets, self._config, self._command = targets, config, command
        self._fits = [_fits_of(target.path, config) for target in targets]
        self.fits = sum(self._fits)
        self.done = self.skipped = 0
        self.failures: list[str] = []
        self._open: list[_File] = []
        self._owners: dict[Piece, _File] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            file.hold.close()

    def jobs(self, bars: Bars) -> Iterator[Piece]:
        """What there is to do, one recording after the other; bad ones are told and left out."""
        for number, (target, fits) in enumerate(zip(self._targets, self._fits, strict=True), start=1):
            file = self._begun(target, f"{number} of {len(self._targets)}: " if len(self._targets) > 1 else "")
            if file is None:
                bars.pass_over(fits)
                continue
            self._open.append(file)
            try:
                for piece in file.jobs(bars):
                    self._owners[piece] = file
                    yield piece
            except BadInput as refusal:
                self._fail(refusal)
                file.failed = True
            self._close(file)

    def take(self, piece: Piece, restored: tuple[Tensor, int], failure: BadInput | FitDiverged | None) -> None:
        """What came of a job."""
        file = self._owners.pop(piece)
        if failure is not None and not file.failed:
            self._fail(failure)
        file.take(piece, restored, failure)
        self._close(file)

    def _begun(self, target: Target, count: str) -> _File | None:
        """A recording to restore; None if it is there already, or cannot be restored."""
        if target.output.exists() and not self._config.run.overwrite:
            older = ", older than its recording" if changed_at(target.path) > changed_at(target.output) else ""
            log.info("%s: is there already%s (--overwrite makes it anew)", shown(target.output), older)
            if target.removed and not target.removed.exists():
                log.warning("%s: is not written, since its output is there already", shown(target.removed))
            self.skipped += 1
            return None
        try:
            with memory_as_bad_input(shown(target.path)):
                return _File(target, self._config, self._command, count)
        except BadInput as refusal:
            self._fail(refusal)
            return None

    def _close(self, file: _File) -> None:
        """Write the file if all its blocks are there, and let go of it if nothing of it is under way any more."""
        if file not in self._open or file.going or not (file.all_given or file.failed):
            return
        self._open.remove(file)
        with file.hold:
            try:
                if not file.failed:
                    file.finish()
                    self.done += 1
            except BadInput as refusal:
                self._fail(refusal)

    def _fail(self, failure: Exception) -> None:
        self.failures.append(str(failure))
        log.error("%s", failure)


def _survey(file: Reader, path: Path, missing_allowed: bool) -> Sound:
    """Read a recording once, for what is needed before its blocks are taken.

    Raises:
        BadInput: it cannot be read, is silent or too short, or lacks samples where that is not allowed.
    """
    squares = torch.zeros(1, dtype=torch.float64)
    for part in file.blocks(SURVEYED_AT_ONCE):
        samples = torch.from_numpy(part)
        if not missing_allowed and not torch.isfinite(samples).all():
            raise BadInput(f"{shown(path)}: holds samples that are NaN or infinite")
        squares = squares + samples.double().nan_to_num(posinf=0, neginf=0).square().sum(dim=0)
    frames = file.frames

    def read(start: int, stop: int) -> Tensor:
        part = file.read(start, stop)
        if len(part) != stop - start:
            raise BadInput(f"{shown(path)}: has changed, and ends at {(start + len(part)) / file.rate:.3f} s now")
        return torch.from_numpy(part.T.copy())

    return Sound(shown(path), file.rate, squares / max(1, frames), frames, read)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def _kept_folder(output: Path) -> Path:
    """The hidden folder of an output's finished blocks."""
    # Named by a digest, since the output's own name may be as long as names can be.
    return output.parent / f".dawp-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:12]}"


@contextmanager
def _kept_for(output: Path, identity: dict[str, Any]) -> Iterator[_Kept]:
    """The finished blocks of an output in a hidden folder beside it, which other commands keep out of meanwhile.

    The folder is gone afterwards unless it holds blocks: those of other settings stay for the command that made them.
    """
    folder = _kept_folder(output)
    settings = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    try:
        with held(folder, output):
            kept = _Kept(folder / settings)
            try:
                yield kept
            finally:
                kept.tidy()
    finally:
        with suppress(OSError):
            folder.rmdir()


class _Kept:
    """Finished blocks in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)

    def workplace(self, index: int, channel: int) -> Path:
        """A folder for the checkpoints of one channel of a block."""
        folder = self.folder / f"{index:06d}_{channel}"
        folder.mkdir(exist_ok=True)
        return folder

    def tidy(self) -> None:
        """Take away the folders in which nothing is."""
        for folder in [*self.folder.glob("*_*/"), self.folder]:
            with suppress(OSError):
                folder.rmdir()

    def put(self, index: int, done: Restored) -> None:
        import numpy as np

        with whole(self._path(index)) as temporary, temporary.open("wb") as file:
            np.savez(file, samples=done.samples.numpy(), epochs=np.array(done.epochs, dtype=np.int64))

    def get(self, index: int, block: Block, channels: int) -> Restored | None:
        """A block that was put in, now or by an earlier command; None if it is not there whole."""
        import numpy as np

        try:
            with np.load(self._path(index), allow_pickle=False) as file:
                samples, epochs = file["samples"], file["epochs"]
        except Exception:  # whatever a damaged file makes of its reader
            return None
        wanted = [(channels, block.stop - block.start), (channels,)]
        if [samples.shape, epochs.shape] != wanted or [samples.dtype, epochs.dtype] != [np.float32, np.int64]:
            return None
        return Restored(torch.from_numpy(samples), epochs.tolist()) if np.isfinite(samples).all() else None

    def again(self, index: int, block: Block, channels: int) -> Tensor:
        """The samples of a block that this command has put in or found."""
        done = self.get(index, block, channels)
        if done is None:
            raise OSError(f"{shown(self._path(index))}: is gone; the same command makes it anew")
        return done.samples

    def remove(self) -> None:
        """Take the blocks away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"
