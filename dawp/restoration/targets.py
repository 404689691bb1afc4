"""Choose and check the output file of each recording."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawp.config import Config
from dawp.errors import BadInput, printable
from dawp.io.files import is_restored
from dawp.io.formats import FORMATS
from dawp.io.sources import SOUND_SUFFIXES, Recording
from dawp.restoration.block_cache import cache_folder

DEFAULT_OUTPUT = Path("restored")
MAX_NAME_BYTES = 255 - len(".12345678.") - len(".json")  # the rest is for the temporary name of the record


@dataclass(frozen=True)
class ChainStage:
    """A stage of the restoration of a recording by a chain.

    Attributes:
        recording: the recording.
        label: number and task, for messages.
        folder: of the intermediate outputs, which is deleted after the last stage.
        output: of the last stage.
        is_last: whether it is the last stage.
        record: entries of the record of the output.
    """

    recording: Path
    label: str
    folder: Path
    output: Path
    is_last: bool
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A recording to restore and the files to write.

    Attributes:
        path: the file to restore.
        output: the restored file.
        removed: the file for the removed signal; None to write none.
        stage: the stage of a chain that restores the file; None for other tasks.
    """

    path: Path
    output: Path
    removed: Path | None = None
    stage: ChainStage | None = None

    @property
    def recording(self) -> Path:
        """The recording to restore."""
        return self.stage.recording if self.stage else self.path

    @property
    def final(self) -> Path:
        """The restored file: the output, or that of the last stage of a chain."""
        return self.stage.output if self.stage else self.output

    @property
    def is_intermediate(self) -> bool:
        """Whether the output is the input of the next stage of a chain."""
        return self.stage is not None and not self.stage.is_last

    @property
    def label(self) -> str:
        """The output, or the recording and the stage of a chain, for messages."""
        return f"{printable(self.recording)}, {self.stage.label}" if self.stage else printable(self.output)

    @property
    def record(self) -> Path:
        """The JSON file that describes how the output was made."""
        return self.output.with_name(f"{self.output.name}.json")


def plan_targets(config: Config, recordings: Sequence[Recording]) -> list[Target]:
    """Choose the output of each recording: the named file, or its place in a mirrored folder tree.

    Recordings inside the output folders are results of an earlier command and are left out.

    Raises:
        BadInput: an output is also a recording, has two recordings, already exists, or cannot be written.
    """
    paths, base = _select_recordings(config, recordings)
    targets = _assign_outputs(config, paths, base)
    check_outputs(config, targets)
    check_removed(config, targets)
    return targets


def common_folder(targets: Sequence[Target]) -> Path:
    """Return the output of a single target, or the folder that contains all outputs."""
    if len(targets) == 1:
        return targets[0].output
    return Path(os.path.commonpath([target.output.parent for target in targets]))


def output_of(config: Config) -> Path:
    """Return the output file or folder of a command."""
    return config.restoration.output or DEFAULT_OUTPUT


def _select_recordings(config: Config, recordings: Sequence[Recording]) -> tuple[list[Path], Path]:
    """Return the recordings to restore, without duplicates, and the folder that their tree starts from."""
    source, output = config.run.source, output_of(config)
    paths = [recording.corrupted or recording.path for recording in recordings]
    paths = list({_absolute(path): path for path in paths}.values())
    if source is None or not source.is_dir():
        return paths, Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    results = {folder.resolve() for folder in (output, config.restoration.save_removed) if folder}
    paths = [path for path in paths if results.isdisjoint(path.resolve().parents)]
    if not paths:
        raise BadInput(
            f"{printable(source)}: all sound files in this folder are in the output folder {printable(output)}",
            code="not_found",
        )
    return paths, source


def _assign_outputs(config: Config, paths: Sequence[Path], base: Path) -> list[Target]:
    """Choose the outputs of recordings in the folder ``base``."""
    output, save_removed = output_of(config), config.restoration.save_removed
    output_is_file = _is_file("output", output, len(paths))
    removed_is_file = save_removed is not None and _is_file("save_removed", save_removed, len(paths))
    output_format = config.restoration.output_format
    if output_format and output_is_file and FORMATS[output.suffix.lower()] != output_format.upper():
        raise BadInput(f"output_format {output_format} does not match the suffix of {printable(output)}")
    targets: dict[Path, Target] = {}
    for path in paths:
        relative = Path(output.name) if output_is_file else _absolute(path).relative_to(_absolute(base))
        if output_format and not output_is_file:
            relative = relative.with_suffix(f".{output_format}")
        place = output if output_is_file else output / relative
        if len(os.fsencode(place.name)) > MAX_NAME_BYTES:
            raise BadInput(f"{printable(place)}: the file name must have at most {MAX_NAME_BYTES} bytes")
        if place in targets:
            raise BadInput(
                f"{printable(place)}: would be the output of both {printable(targets[place].path)} "
                f"and {printable(path)}"
            )
        removed = save_removed if removed_is_file or not save_removed else save_removed / relative
        targets[place] = Target(path, place, removed)
    return list(targets.values())


def check_outputs(config: Config, targets: Sequence[Target]) -> None:
    """Refuse outputs that are recordings, folders or files of other programs."""
    overwrite = config.run.overwrite
    inputs = {target.path.resolve() for target in targets}
    for target in targets:
        place, record = target.output, target.record
        if place.resolve() in inputs:
            raise BadInput(f"{printable(place)}: is a recording to restore and cannot be an output")
        if place.is_dir():
            raise BadInput(f"{printable(place)}: is a folder, expected a file to write", code="output_exists")
        if record.exists() and not is_restored(place) and not overwrite:
            raise BadInput(
                f"{printable(record)}: already exists and is not a restoration record (use --overwrite to replace it)",
                code="output_exists",
            )
    output = output_of(config)
    if [target.output for target in targets] == [output] and output.exists() and not overwrite:
        raise BadInput(f"{printable(output)}: already exists (use --overwrite to replace it)", code="output_exists")


def check_removed(config: Config, targets: Sequence[Target]) -> None:
    """Refuse files for the removed signal that are recordings, outputs or folders, or that already exist."""
    taken = {path.resolve() for target in targets for path in (target.path, target.output)}
    for target in targets:
        if target.removed is None:
            continue
        if target.removed.resolve() in taken:
            raise BadInput(f"save_removed must not be a recording or an output, got {printable(target.removed)}")
        if target.removed.is_dir():
            raise BadInput(f"{printable(target.removed)}: is a folder, expected a file to write", code="output_exists")
        # An earlier command may have been interrupted after it had written this file.
        is_resumed = cache_folder(target.output).is_dir()
        if target.removed.exists() and not (target.output.exists() or config.run.overwrite or is_resumed):
            raise BadInput(
                f"{printable(target.removed)}: already exists (use --overwrite to replace it)", code="output_exists"
            )


def _is_file(name: str, path: Path, recordings: int) -> bool:
    """Return True if a setting names a sound file to write, False if it names a folder.

    Args:
        name: of the setting.
        path: its value.
        recordings: number of recordings to restore.

    Raises:
        BadInput: it names neither, or one file for several recordings.
    """
    is_file = path.suffix.lower() in SOUND_SUFFIXES and not path.is_dir()
    if is_file and recordings > 1:
        raise BadInput(f"{name} must be a folder for {recordings} recordings, got {printable(path)}")
    like_a_file = recordings == 1 and re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix) and not path.is_dir()
    if not is_file and (like_a_file or (path.exists() and not path.is_dir())):
        suffixes = " ".join(FORMATS)
        raise BadInput(f"{name} must be a folder, or a file with one of the suffixes {suffixes}, got {printable(path)}")
    return is_file


def _absolute(path: Path) -> Path:
    """Return an absolute path without ``.`` and ``..``, and with symbolic links left unresolved."""
    return Path(os.path.normpath(path.absolute()))
