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

from dawp import audio
from dawp.checkpoints import Checkpoints
from dawp.config import LONGEST_GAP_MS, MIN_LENGTH, NOT_OF_THE_NUMBERS, Config, CorruptionConfig, GapConfig, WorkConfig
from dawp.corruptions import pose
from dawp.errors import BadInput, FitDiverged, shown
from dawp.experiment import Outcome, check_device, circumstances, memory_as_bad_input, said_device
from dawp.files import changed_at, check_writable, held, is_restored, whole, write_json
from dawp.formats import FORMATS, Form, form_of, write
from dawp.io.reader import Reader
from dawp.randomness import seeded
from dawp.solver import fit_ahead, solve
from dawp.sources import SOUND_SUFFIXES, Recording
from dawp.workers import Bars, Job, Line, do, duration

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
    *NOT_OF_THE_NUMBERS,
)
"""Settings that the restored samples do not depend on."""

LOWEST_RATE = 1000  # Hz
LONGEST_NAME = 255 - len(".12345678.") - len(".json")  # bytes of an output's name: its record's has more, for a time
SURVEYED_AT_ONCE = 1 << 16  # samples
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
    under_way: dict[int, _UnderWay] = {}
    fits = len(blocks) * len(power) * config.stop.fits
    here = WorkConfig(workers=1, threads=torch.get_num_threads())  # a program that calls is not to be run twice
    with Bars(fits, config.fit.epochs, progress, forecast=True) as bars:

        def jobs() -> Iterator[Piece]:
            for index, block in enumerate(blocks):
                under_way[index] = _UnderWay(_marked(sound, config.corruption, block), config)
                bars.pass_over(config.stop.fits * (len(power) - len(under_way[index].to_fit)))
                yield from _pieces(sound, block, under_way[index], config, index, None)

        for piece, value, failure in do(jobs(), dataclasses.replace(config, work=here), fits, bars):
            if failure:
                raise failure
            under_way[piece.block].take(piece.channel, value)
    done = [(block, under_way[index].restored(_where(sound, block)).samples) for index, block in enumerate(blocks)]
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
    """The blocks of a recording, which is refused if it cannot be worked on or has nothing to restore."""
    try:
        blocks = cut(sound.frames, sound.rate, config)
        working_rate = config.clip.samplerate or sound.rate
        for rates in ((sound.rate, working_rate), (working_rate, sound.rate)):
            audio.resample(torch.zeros(1), *rates)
    except BadInput as refusal:
        raise BadInput(f"{sound.name}: {refusal}") from None
    gaps = config.corruption
    if isinstance(gaps, GapConfig):
        for start, length in gaps.given:
            first, stop = round(start * sound.rate), round((start + length) * sound.rate)
            if stop > sound.frames:
                seconds = sound.frames / sound.rate
                raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} lies outside the recording of {seconds:g} s")
            if first == stop:
                raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} holds no sample at {sound.rate} Hz")
        if not any(_marked(sound, gaps, block).isnan().any() for block in blocks):
            raise BadInput(
                f"{sound.name}: no drop-outs: neither NaN nor a run of zeros from {gaps.min_gap_ms:g} to "
                f"{LONGEST_GAP_MS:g} ms that breaks into sound; gaps can name what is to be filled"
            )
    return blocks


def _where(sound: Sound, block: Block) -> str:
    """A block, in words."""
    return f"{sound.name}: {block.start / sound.rate:.2f} to {block.stop / sound.rate:.2f} s"


def _marked(sound: Sound, config: CorruptionConfig, block: Block) -> Tensor:
    """A block's samples ``[channels, n]``, with NaN for those that are missing from any channel."""
    if not isinstance(config, GapConfig):
        return sound.read(*block)
    # With what lies around it: a drop-out at its edge is one by what is beside it.
    margin = math.ceil((LONGEST_GAP_MS / 1000 + audio.BESIDE_SECONDS) * sound.rate) + 1
    first, last = max(0, block.start - margin), min(sound.frames, block.stop + margin)
    samples = sound.read(first, last)
    if config.given:
        samples = torch.where(torch.isfinite(samples).all(dim=0), samples, torch.nan)
        for start, length in config.given:
            begin, end = round(start * sound.rate), round((start + length) * sound.rate)
            samples[:, max(0, begin - first) : max(0, end - first)] = torch.nan
    else:
        samples = audio.mark_missing(samples.T, sound.rate, config.min_gap_ms / 1000, sound.power).T
    return samples[:, block.start - first : block.stop - first]


@dataclass(frozen=True, eq=False)
class Piece(Job):
    """The job of restoring one channel of one block."""

    block: int
    channel: int


class _UnderWay:
    """A block of which some channels are still to be restored.

    Equal channels, as of a mono recording in a stereo file, are restored once and stay equal; those in which nothing
    is to be restored stay what they are.

    Attributes:
        samples: ``[channels, n]``, NaN for those that are missing.
        to_fit: the channels that have to be fitted.
    """

    def __init__(self, samples: Tensor, config: Config) -> None:
        self.samples = samples
        known = samples.nan_to_num()  # what is missing is missing from all channels
        channels = range(len(samples))
        self._twins = [next(other for other in channels if torch.equal(known[other], known[own])) for own in channels]
        needed = isinstance(config.corruption, GapConfig) and not samples.isnan().any()
        self.to_fit = [own for own in channels if self._twins[own] == own and not needed and known[own].any()]
        self._done = {own: (known[own], 0) for own in channels if own not in self.to_fit}

    def take(self, channel: int, restored: tuple[Tensor, int]) -> None:
        """What has become of a channel, and the epoch at which its fit was stopped."""
        self._done[channel] = restored

    @property
    def is_done(self) -> bool:
        return len(self._done) == len(self.samples)

    def restored(self, where: str) -> Restored:
        """The block, of which every channel is done."""
        if (self.samples.isnan() | (self.samples == 0)).all() and self.samples.isnan().any():
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
        args = (under_way.samples[channel], sound.rate, config, index, where)
        yield Piece(where, folder, _restore_channel, args, config.stop.fits, index, channel)


def _restore_channel(
    folder: Path | None,
    line: Line,
    part: int | None,
    channel: Tensor,
    rate: int,
    config: Config,
    index: int,
    where: str,
) -> tuple[Tensor, int] | None:
    """One channel ``[T]`` of one block, and the epoch at which its fit was stopped; or one of its fits.

    Args:
        folder: for checkpoints; None for none.
        line: told how far it is.
        part: which of the fits to do ahead; None for what is left of them, and the channel.
        channel: NaN for samples that are missing.
        rate: in Hz.
        config: all settings.
        index: of the block.
        where: the block, in words.
    """
    try:
        with memory_as_bad_input("not restored"):
            corruption = config.corruption
            if isinstance(corruption, GapConfig):
                corruption = dataclasses.replace(corruption, gaps=None)  # they are NaN here
            working_rate = config.clip.samplerate or rate
            rng = seeded(config.fit.seed, "corruption", index)
            own = pose(config.task, None, channel, rate, corruption, rng)
            problem = own
            if working_rate != rate:
                resampled = audio.resample(channel, rate, working_rate)
                problem = pose(config.task, None, resampled, working_rate, corruption, rng)
            checkpoints = Checkpoints(folder, line.saved) if folder else None
            if part is not None and checkpoints:
                fit_ahead(problem, config, index, part, line, None, checkpoints)
                return None
            result = solve(problem, config, index, line, None, checkpoints)
            if result.restored is None or result.error:
                raise FitDiverged(result.error or "the fit ended before it had an estimate; more epochs are needed")
            output = audio.resample(result.restored.waveform, working_rate, rate)[: len(channel)]
            return own.estimate(output), result.restored.epoch or 0
    except (BadInput, FitDiverged) as failure:
        raise type(failure)(f"{where}: {failure}") from None


# Files


@dataclass(frozen=True)
class Target:
    """A recording to restore.

    Attributes:
        path: the recording.
        output: the file to write.
    """

    path: Path
    output: Path

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
    for folder in dict.fromkeys(target.output.parent for target in targets):
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

    Recordings that lie in the output folder are the results of an earlier command and left out.

    Raises:
        BadInput: an output is a recording itself, is asked for twice, or is there already and alone.
    """
    source, output = config.run.source, config.restoration.output or DEFAULT_OUTPUT
    paths = [recording.corrupted or recording.path for recording in recordings]
    paths = list({_plain(path): path for path in paths}.values())
    if source is not None and source.is_dir():
        base = source
        paths = [path for path in paths if output.resolve() not in path.resolve().parents]
        if not paths:
            raise BadInput(f"{shown(source)}: all sound files in this folder are in the output folder {shown(output)}")
    else:
        base = Path(os.path.commonpath([_plain(path).parent for path in paths]))
    named = output.suffix.lower() in SOUND_SUFFIXES and not output.is_dir()
    if named and len(paths) > 1:
        raise BadInput(f"output must be a folder for {len(paths)} recordings, got {shown(output)}")
    like_a_file = len(paths) == 1 and re.fullmatch(r"\.[A-Za-z]\w{1,4}", output.suffix) and not output.is_dir()
    if not named and (like_a_file or (output.exists() and not output.is_dir())):
        suffixes = " ".join(FORMATS)
        raise BadInput(f"output must be a folder, or a file with one of the suffixes {suffixes}, got {shown(output)}")
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
        targets[place] = Target(path, place)
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
    return list(targets.values())


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
            sound = self._sound = _survey(file, target.path, isinstance(config.corruption, GapConfig))
            source, self._tags = Form(file.format, file.subtype), file.tags
            self._form = form_of(
                target.output, source, config.restoration.subtype, sound.rate, len(sound.power), sound.frames
            )
            self._blocks = _blocks_of(sound, config)
            self._settings = {
                name: value for name, value in config.effective().items() if name not in NOT_OF_THE_SAMPLES
            }
            self._about = circumstances(config, command)
            self._sha256 = _digest(target.path)
            length = sound.frames / sound.rate
            said = f"{length:.1f} s of sound, blocks: {len(self._blocks)}, device: {said_device(config)}"
            log.info("%s%s: %s", count, sound.name, said)
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
        for index, block in enumerate(self._blocks):
            if self.failed:
                bars.pass_over(fits * channels * (len(self._blocks) - index))
                return
            kept = self._kept.get(index, block, channels)
            if kept is not None:
                self._epochs[index] = kept.epochs
                bars.pass_over(fits * channels)
                continue
            with memory_as_bad_input(_where(self._sound, block)):
                under_way = _UnderWay(_marked(self._sound, self._config.corruption, block), self._config)
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
            done = self._under_way.pop(index).restored(_where(self._sound, self._blocks[index]))
            self._kept.put(index, done)
            self._epochs[index] = done.epochs

    def finish(self) -> None:
        """Write the output, and its record."""
        target, sound, blocks, clip_mode = self._target, self._sound, self._blocks, self._config.restoration.clip_mode

        def samples() -> Iterator[Tensor]:
            return faded(
                (block, self._kept.again(index, block, len(sound.power))) for index, block in enumerate(blocks)
            )

        gain = write(target.output, samples, sound.rate, self._form, clip_mode, self._tags)
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


@contextmanager
def _kept_for(output: Path, identity: dict[str, Any]) -> Iterator[_Kept]:
    """The finished blocks of an output in a hidden folder beside it, which other commands keep out of meanwhile.

    The folder is gone afterwards unless it holds blocks: those of other settings stay for the command that made them.
    """
    # Named by a digest, since the output's own name may be as long as names can be.
    folder = output.parent / f".dawp-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:12]}"
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
