"""Which recording goes into which file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dawp.config import Config
from dawp.errors import BadInput, shown
from dawp.io.files import is_restored
from dawp.io.formats import FORMATS
from dawp.io.sources import SOUND_SUFFIXES, Recording
from dawp.restoration.block_cache import _kept_folder

DEFAULT_OUTPUT = Path("restored")
LONGEST_NAME = 255 - len(".12345678.") - len(".json")  # bytes of an output's name: its record's has more, for a time


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
