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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dawp import audio
from dawp.config import LONGEST_GAP_MS, MIN_LENGTH, Config, CorruptionConfig, GapConfig
from dawp.corruptions import pose
from dawp.errors import BadInput, FitDiverged, shown
from dawp.experiment import Outcome, circumstances, memory_as_bad_input, said_device
from dawp.files import check_writable, held, is_restored, whole, write_json
from dawp.fitting import Epoch, pick_device
from dawp.formats import FORMATS, Form, form_of, write
from dawp.randomness import seeded
from dawp.solver import Bar, History, progress_bar, solve
from dawp.sources import SOUND_SUFFIXES, Recording

log = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("restored")
NOT_OF_THE_SAMPLES = ("source", "overwrite", "restore", "output", "output_format", "subtype", "clip_mode")
"""Settings that the restored samples do not depend on."""

LOWEST_RATE = 1000  # Hz
LONGEST_NAME = 255 - len(".12345678.") - len(".json")  # bytes of an output's name: its record's has more, for a time
WARM_UP, TIMED = 3, 10  # epochs before the time that a restoration takes is told, and epochs that tell it
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
    power = torch.where(waveform.isfinite(), waveform, 0).double().square().mean(dim=1)
    sound = Sound("waveform", sample_rate, power, waveform.shape[1], lambda start, stop: waveform[:, start:stop])
    with memory_as_bad_input("waveform"):
        blocks = _blocks_of(sound, config)
        done = [(block, restored.samples) for block, restored in _restore_blocks(sound, blocks, config, progress)]
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


def _restore_blocks(
    sound: Sound, blocks: Sequence[Block], config: Config, progress: str | None, kept: _Kept | None = None
) -> Iterator[tuple[Block, Restored]]:
    """Every block with what becomes of it; those that are kept already are not computed again."""
    channels = len(sound.power)
    epochs_per_block = channels * config.stop.fits * config.fit.epochs
    with progress_bar(len(blocks) * epochs_per_block, progress) as bar:
        clock = _Clock(bar, sound.name) if progress else None
        for index, block in enumerate(blocks):
            done = kept.get(index, block, channels) if kept else None
            if done is None:
                samples = _marked(sound, config.corruption, block)
                where = f"{sound.name}: {block.start / sound.rate:.2f} to {block.stop / sound.rate:.2f} s"
                try:
                    done = _restore_block(samples, sound.rate, config, index, bar, clock)
                except (BadInput, FitDiverged) as failure:
                    raise type(failure)(f"{where}: {failure}") from None
                if (samples.isnan() | (samples == 0)).all() and samples.isnan().any():
                    log.warning("%s: nothing is known around the gap, which stays silent; try a longer block", where)
                if kept:
                    kept.put(index, done)
            bar.update((index + 1) * epochs_per_block - bar.n)
            yield block, done


class _Clock:
    """Tells, after the first epochs, how long a restoration will take."""

    def __init__(self, bar: Bar, name: str) -> None:
        self._bar, self._name = bar, name
        self._began = 0.0
        self._told = False

    def __call__(self, step: Epoch, history: History) -> None:
        if self._told:
            return
        if step.epoch == WARM_UP:
            self._began = time.perf_counter()
        if step.epoch == WARM_UP + TIMED:
            seconds = (time.perf_counter() - self._began) / TIMED * (self._bar.total - self._bar.n)
            log.info("%s: about %s to go, less where fits stop early", self._name, duration(seconds))
            self._told = True


def duration(seconds: float) -> str:
    """A time to wait, to two digits.

    Example:
        >>> duration(4000)
        '1 h 07 min'
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


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


def _restore_block(samples: Tensor, rate: int, config: Config, index: int, bar: Bar, clock: _Clock | None) -> Restored:
    """Each channel by itself; equal ones, as of a mono recording in a stereo file, stay equal."""
    restored: list[Tensor] = []
    epochs: list[int] = []
    known = samples.nan_to_num()  # what is missing is missing from all channels
    for number, channel in enumerate(samples):
        twin = next((other for other in range(number) if torch.equal(known[other], known[number])), None)
        if twin is not None:
            restored.append(restored[twin])
            epochs.append(epochs[twin])
            continue
        waveform, epoch = _restore_channel(channel, rate, config, index, bar, clock)
        restored.append(waveform)
        epochs.append(epoch)
    return Restored(torch.stack(restored), epochs)


def _restore_channel(
    channel: Tensor, rate: int, config: Config, index: int, bar: Bar, clock: _Clock | None
) -> tuple[Tensor, int]:
    """One channel ``[T]`` of one block, and the epoch at which its fit was stopped (0 if there was nothing to fit)."""
    as_it_is, corruption = channel.nan_to_num(), config.corruption
    if isinstance(corruption, GapConfig):
        if not channel.isnan().any():
            return as_it_is, 0
        corruption = dataclasses.replace(corruption, gaps=None)  # they are NaN here
    if not as_it_is.any():
        return as_it_is, 0
    working_rate = config.clip.samplerate or rate
    rng = seeded(config.fit.seed, "corruption", index)
    own = pose(config.task, None, channel, rate, corruption, rng)
    problem = own
    if working_rate != rate:
        resampled = audio.resample(channel, rate, working_rate)
        problem = pose(config.task, None, resampled, working_rate, corruption, rng)
    result = solve(problem, config, index, bar, clock)
    if result.restored is None or result.error:
        raise FitDiverged(result.error or "the fit ended before it had an estimate; more epochs are needed")
    output = audio.resample(result.restored.waveform, working_rate, rate)[: len(channel)]
    return own.estimate(output), result.restored.epoch or 0


# Files


@dataclass(frozen=True)
class Job:
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
    pick_device(config.fit.device)
    jobs = plan(config, recordings)
    for folder in dict.fromkeys(job.output.parent for job in jobs):
        check_writable(folder)
    done, skipped = 0, 0
    failures: list[str] = []
    for number, job in enumerate(jobs, start=1):
        if job.output.exists() and not config.run.overwrite:
            log.info("%s: is there already (--overwrite makes it anew)", shown(job.output))
            skipped += 1
            continue
        try:
            with memory_as_bad_input(shown(job.path)):
                _restore_file(job, config, command, progress, f"{number} of {len(jobs)}: " if len(jobs) > 1 else "")
            done += 1
        except (BadInput, FitDiverged) as failure:
            failures.append(str(failure))
            log.error("%s", failure)
    folder = jobs[0].output if len(jobs) == 1 else Path(os.path.commonpath([job.output.parent for job in jobs]))
    return Outcome(folder, done, skipped, failures)


def plan(config: Config, recordings: Sequence[Recording]) -> list[Job]:
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
    jobs: dict[Path, Job] = {}
    for path in paths:
        place = output if named else output / _plain(path).relative_to(_plain(base))
        if suffix and not named:
            place = place.with_suffix(suffix)
        if len(os.fsencode(place.name)) > LONGEST_NAME:
            raise BadInput(f"{shown(place)}: the name is too long for an output, of at most {LONGEST_NAME} bytes")
        if place in jobs:
            raise BadInput(f"{shown(place)}: would be the output of {shown(jobs[place].path)} and of {shown(path)}")
        jobs[place] = Job(path, place)
    inputs = {path.resolve() for path in paths}
    for place in jobs:
        if place.resolve() in inputs:
            raise BadInput(f"{shown(place)}: is a recording of this command and cannot be its output")
        if place.is_dir():
            raise BadInput(f"{shown(place)}: is a folder, expected a file to write")
        record = jobs[place].record
        if record.exists() and not is_restored(place) and not config.run.overwrite:
            raise BadInput(f"{shown(record)}: is there already and no restoration's (--overwrite replaces it)")
    if len(jobs) == 1 and named and output.exists() and not config.run.overwrite:
        raise BadInput(f"{shown(output)}: is there already (--overwrite replaces it)")
    return list(jobs.values())


def _plain(path: Path) -> Path:
    """A path from the root, without dots, and with its links as they are."""
    return Path(os.path.normpath(path.absolute()))


def _restore_file(job: Job, config: Config, command: Sequence[str], progress: bool, count: str) -> None:
    began = time.perf_counter()
    sound, source, tags = _survey(job.path, missing_allowed=isinstance(config.corruption, GapConfig))
    form = form_of(job.output, source, config.restoration.subtype, sound.rate, len(sound.power), sound.frames)
    blocks = _blocks_of(sound, config)
    settings = {name: value for name, value in config.effective().items() if name not in NOT_OF_THE_SAMPLES}
    about = circumstances(config, command)
    identity = {"settings": settings, "recording": _digest(job.path), "torch": about["versions"]["torch"]}
    length = sound.frames / sound.rate
    said = f"{length:.1f} s of sound, blocks: {len(blocks)}, device: {said_device(config)}"
    log.info("%s%s: %s", count, sound.name, said)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with _kept_for(job.output, identity) as kept:
        if job.output.exists() and not config.run.overwrite:
            raise BadInput(f"{shown(job.output)}: is there already, from another command (--overwrite replaces it)")
        title = shown(job.path.name) if progress else None
        told = [
            {"start": block.start, "stop": block.stop, "epochs": restored.epochs}
            for block, restored in _restore_blocks(sound, blocks, config, title, kept)
        ]

        def samples() -> Iterator[Tensor]:
            return faded((block, kept.again(index, block, len(sound.power))) for index, block in enumerate(blocks))

        gain = write(job.output, samples, sound.rate, form, config.restoration.clip_mode, tags)
        seconds = time.perf_counter() - began
        record = {
            "recording": str(job.path),
            "sha256": identity["recording"],
            "sample_rate": sound.rate,
            "channels": len(sound.power),
            "samples": sound.frames,
            "format": form.format,
            "subtype": form.subtype,
            "clip_mode": config.restoration.clip_mode,
            "gain": gain,
            "blocks": told,
            "seconds": seconds,
            **about,
            "settings": settings,
        }
        write_json(job.record, record)
        kept.remove()
    log.info("%s: done in %s", shown(job.output), duration(seconds))


def _survey(path: Path, missing_allowed: bool) -> tuple[Sound, Form, dict[str, str]]:
    """What there is to know of a file before its blocks are taken: the sound, what it is stored as, its tags.

    Raises:
        BadInput: it cannot be read, is silent or too short, or lacks samples where that is not allowed.
    """
    squares = torch.zeros(1, dtype=torch.float64)
    frames = 0
    with audio.sound_file(path) as file:
        rate, form, tags = int(file.samplerate), Form(file.format, file.subtype), file.copy_metadata()
        for part in file.blocks(SURVEYED_AT_ONCE, dtype="float32", always_2d=True):
            samples = torch.from_numpy(part)
            if not missing_allowed and not torch.isfinite(samples).all():
                raise BadInput(f"{shown(path)}: holds samples that are NaN or infinite")
            squares = squares + samples.double().nan_to_num(posinf=0, neginf=0).square().sum(dim=0)
            frames += len(samples)

    def read(start: int, stop: int) -> Tensor:
        with audio.sound_file(path) as file:
            file.seek(start)
            part = file.read(stop - start, dtype="float32", always_2d=True)
        if len(part) != stop - start:
            raise BadInput(f"{shown(path)}: ends early, at {(start + len(part)) / rate:.3f} s")
        return torch.from_numpy(part.T.copy())

    return Sound(shown(path), rate, squares / max(1, frames), frames, read), form, tags


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
                with suppress(OSError):
                    kept.folder.rmdir()
    finally:
        with suppress(OSError):
            folder.rmdir()


class _Kept:
    """Finished blocks in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)

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
