"""Restoration: recordings that have no clean version, of any length, each into one file.

A recording is cut into blocks that overlap. Each block is read, fitted by itself, and kept in a folder beside the
output until all are there; then they are faded into one another. So memory does not grow with the recording, and an
interrupted restoration goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from torch import Tensor

from dawp.config import NOT_OF_THE_NUMBERS, Config, GapConfig
from dawp.errors import BadInput, FitDiverged, shown
from dawp.io.files import changed_at, check_writable, whole, write_json
from dawp.io.formats import Form, form_of, write
from dawp.io.metadata import read_metadata
from dawp.io.reader import Reader
from dawp.io.sources import Recording
from dawp.parallel.workers import Bars, do, duration
from dawp.restoration.block_cache import _kept_for
from dawp.restoration.blocks import Block, _blocks_of, _survey, _where, cut, faded
from dawp.restoration.channels import Piece, _pieces, _UnderWay
from dawp.restoration.context import _block_of, _is_intact, _noise_profile
from dawp.restoration.removed import Removed, difference, measure
from dawp.restoration.targets import Target, plan
from dawp.runs.experiment import Outcome, check_device, circumstances, memory_as_bad_input, said_device

log = logging.getLogger(__name__)

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
HASHED_AT_ONCE = 1 << 20  # bytes


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
        if isinstance(self._config.corruption, GapConfig):
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


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()
