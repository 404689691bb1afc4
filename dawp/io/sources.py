"""Find the recordings of ``--source``: a sound file, a folder, a list of files or a list of pairs."""

from __future__ import annotations

import codecs
import csv
import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dawp.errors import BadInput, printable
from dawp.io.files import is_restored, run_identity, safe_name

log = logging.getLogger(__name__)

SOUND_SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist".split()
)
"""Suffixes of the files that the sound library (libsndfile) can read."""

UNREAD_SUFFIXES = frozenset(
    (
        ".m4a .m4b .mp4 .m4v .mov .aac .wma .wmv .asf .mka .mkv .webm .ogv .avi .flv .3gp .mpg .mpeg .mp2 "
        ".ac3 .eac3 .dts .amr .ape .wv .tta .mpc .ra .rm .dsf .dff .spx"
    ).split()
)
"""Suffixes of audio files that the sound library cannot read; messages name them."""

CONVERT = "convert them with ffmpeg -i FILE FILE.wav"

SAMPLES = Path(__file__).parents[1] / "samples"
NO_LIST = "neither a sound file (by its suffix) nor a text list of recordings in UTF-8"
MAX_LIST_SIZE = 16 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Recording:
    """A clean file, a corrupted file, or a pair of both.

    Raises:
        ValueError: both are None.
    """

    clean: Path | None
    corrupted: Path | None = None

    def __post_init__(self) -> None:
        if self.clean is None and self.corrupted is None:
            raise ValueError("a recording must have a file, got none")

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.clean, self.corrupted) if path]

    @property
    def path(self) -> Path:
        """The file to name in messages: the clean one if there is one."""
        return self.paths[0]

    @property
    def name(self) -> str:
        """The file's name without suffix, as a valid folder name."""
        return safe_name(self.path.stem)


def find_recordings(source: Path | None, corrupted: bool = False) -> list[Recording]:
    """Find all recordings of a source, in order.

    Args:
        source: a sound file; a folder, searched recursively for sound files; a text file with one sound file or one
            ``clean,corrupted`` pair per line (blank lines and lines that start with # are ignored; relative paths are
            relative to the folder of the list, or else to the working folder); None for the bundled clips.
        corrupted: treat single files as corrupted instead of clean recordings.

    Raises:
        BadInput: the source does not exist, is required but missing, is a folder without sound files, or is a list
            that is empty, is not text or names a missing file.
    """
    if source is None and corrupted:
        raise BadInput("source must be given for corrupted recordings (the bundled clips are clean), got none")
    recordings = _find_recordings(SAMPLES if source is None else source)
    return [Recording(None, found.clean) if corrupted and not found.corrupted else found for found in recordings]


def _find_recordings(source: Path) -> list[Recording]:
    if source.is_dir():
        return [Recording(path) for path in sounds_in(source)]
    if not source.exists():
        raise BadInput(f"{printable(source)}: no such file or folder", code="not_found")
    if not source.is_file():
        raise BadInput(f"{printable(source)}: is neither a file nor a folder", code="not_found")
    _refuse_unread(source)
    return [Recording(source)] if source.suffix.lower() in SOUND_SUFFIXES else _read_list(source)


def sounds_at(source: Path) -> list[Path]:
    """Return the file itself, or the sound files in a folder (see ``sounds_in``).

    Raises:
        BadInput: the folder has no sound files, or the format of the file is not supported.
    """
    if source.is_dir():
        return sounds_in(source)
    _refuse_unread(source)
    return [source]


def _refuse_unread(path: Path) -> None:
    if reason := unread_reason(path):
        raise BadInput(f"{printable(path)}: {reason}", code="unreadable_input")


def unread_reason(path: Path) -> str:
    """Return why a file with this suffix cannot be read; empty if the sound library may read it."""
    suffix = path.suffix.lower()
    return f"the format {suffix} is not supported; {CONVERT}" if suffix in UNREAD_SUFFIXES else ""


def sounds_in(folder: Path) -> list[Path]:
    """Find the sound files in a folder and its subfolders, sorted.

    Hidden files and folders, links to folders, run folders and restored files are skipped. Files of unsupported formats
    are counted in a log message.

    Raises:
        BadInput: there are no sound files.
    """
    sounds: list[Path] = []
    unread: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(  # os.walk visits these next
            name for name in folders if not name.startswith(".") and not run_identity(Path(parent, name))
        )
        visible = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        found = (path for path in visible if path.suffix.lower() in SOUND_SUFFIXES and path.is_file())
        sounds += [path for path in found if not is_restored(path)]
        unread.update(suffix for path in visible if (suffix := path.suffix.lower()) in UNREAD_SUFFIXES)
    counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
    skipped = f"files of formats that are not supported: {counts}; {CONVERT}" if unread else ""
    if not sounds:
        looked_for = skipped or f"looked for {' '.join(sorted(SOUND_SUFFIXES))}"
        raise BadInput(f"{printable(folder)}: no sound files in this folder ({looked_for})", code="not_found")
    if skipped:
        log.info("%s: %s", printable(folder), skipped)
    return sounds


def _read_list(path: Path) -> list[Recording]:
    recordings = []
    for number, line in enumerate(read_list_text(path).split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            recordings.append(_read_line(line, path.parent, f"{printable(path)} line {number}"))
    if not recordings:
        raise BadInput(f"{printable(path)}: the list is empty", code="invalid_list")
    return recordings


def read_list_text(path: Path) -> str:
    """Read a list of recordings as text.

    Raises:
        BadInput: it is too large, not text in UTF-8, or cannot be read.
    """
    if path.stat().st_size > MAX_LIST_SIZE:
        raise BadInput(
            f"{printable(path)}: has no suffix of a sound format and is too large for a list of recordings",
            code="invalid_list",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(_not_utf8(path, error), code="invalid_list") from None
    except OSError as error:
        raise BadInput(f"{printable(path)}: cannot be read ({error.strerror})", code="unreadable_input") from None
    if "\0" in text:
        raise BadInput(f"{printable(path)}: {NO_LIST}", code="invalid_list")
    return text


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Return the error message for a list that is not UTF-8."""
    content, expected = error.object, "a list of recordings must be UTF-8 text"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{printable(path)}: {expected}, got UTF-16"
    if b"\0" in content:
        return f"{printable(path)}: {NO_LIST}"
    line = content.count(b"\n", 0, error.start) + 1
    return f"{printable(path)} line {line}: {expected}, got the byte 0x{content[error.start]:02x}, as in Latin-1"


def _read_line(line: str, folder: Path, where: str) -> Recording:
    """Parse a line of a list: a path, or two paths separated by a comma, with quotes as in CSV files."""
    path = find_listed(line, folder)
    if path:
        return Recording(path)
    try:
        fields = [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    except csv.Error:  # for example, a field of more than 128 kB
        raise BadInput(
            f"{where}: expected one path or a clean,corrupted pair, got {printable(line[:80])}...", code="invalid_list"
        ) from None
    if len(fields) == 2 and not fields[1]:
        fields.pop()
    if len(fields) > 2 or not fields[0]:
        raise BadInput(
            f"{where}: expected one path or a clean,corrupted pair, got {printable(line)}", code="invalid_list"
        )
    paths = []
    for field in fields:
        found = find_listed(field, folder)
        if found is None:
            raise BadInput(f"{where}: no such file: {printable(field)}", code="not_found")
        paths.append(found)
    return Recording(*paths)


def find_listed(name: str, folder: Path) -> Path | None:
    """Find a file relative to the folder of the list, or else to the working folder; None if there is none."""
    for candidate in (folder / name, Path(name)):
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):  # an invalid file name, for example one that is too long
            continue
    return None
