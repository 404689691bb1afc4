"""``--source``: a sound file, a folder, a list of files or a list of pairs -> recordings."""

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
"""What the sound library (libsndfile) reads, by file suffix."""

UNREAD_SUFFIXES = frozenset(
    (
        ".m4a .m4b .mp4 .m4v .mov .aac .wma .wmv .asf .mka .mkv .webm .ogv .avi .flv .3gp .mpg .mpeg .mp2 "
        ".ac3 .eac3 .dts .amr .ape .wv .tta .mpc .ra .rm .dsf .dff .spx"
    ).split()
)
"""Other files with sound, by suffix: named in messages, since the sound library does not read them."""

CONVERT = "ffmpeg -i FILE FILE.wav converts one"

SAMPLES = Path(__file__).parents[1] / "samples"
NO_LIST = "neither a sound file (by its suffix) nor a text list of recordings in UTF-8"
LONGEST_LIST = 16 * 1024 * 1024  # bytes: far beyond any list of recordings, far below a machine's memory


@dataclass(frozen=True)
class Recording:
    """One input file, clean or corrupted, or a pair of both.

    Raises:
        ValueError: there is neither.
    """

    clean: Path | None
    corrupted: Path | None = None

    def __post_init__(self) -> None:
        if self.clean is None and self.corrupted is None:
            raise ValueError("a recording needs a file, got none")

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.clean, self.corrupted) if path]

    @property
    def path(self) -> Path:
        """The file that stands for the recording."""
        return self.paths[0]

    @property
    def name(self) -> str:
        """The file's name without suffix, fit for a folder."""
        return safe_name(self.path.stem)


def find_recordings(source: Path | None, corrupted: bool = False) -> list[Recording]:
    """All recordings of a source, in order.

    Args:
        source: a sound file; a folder, searched in depth for sound files; a text file with one sound file or one
            ``clean,corrupted`` pair a line (blank lines and lines beginning with # are passed over, relative
            paths start at the list's folder or else at the working folder); None for the bundled clips.
        corrupted: a file that is not one of a pair is the corrupted recording, in place of the clean one.

    Raises:
        BadInput: nothing there, no source where corrupted recordings are wanted, a folder without sound files, a
            list that is empty, no text, or names a file that is missing.
    """
    if source is None and corrupted:
        raise BadInput("source must name the damaged recordings: the bundled clips are clean")
    recordings = _find_recordings(SAMPLES if source is None else source)
    return [Recording(None, found.clean) if corrupted and not found.corrupted else found for found in recordings]


def _find_recordings(source: Path) -> list[Recording]:
    if source.is_dir():
        return [Recording(path) for path in sounds_in(source)]
    if not source.exists():
        raise BadInput(f"{printable(source)}: no such file or folder")
    if not source.is_file():
        raise BadInput(f"{printable(source)}: neither a file nor a folder")
    _refuse_unread(source)
    return [Recording(source)] if source.suffix.lower() in SOUND_SUFFIXES else _read_list(source)


def sounds_at(source: Path) -> list[Path]:
    """The file itself, or the sound files in a folder and below, as ``sounds_in`` finds them.

    Raises:
        BadInput: the folder has none, or the file is of a format that is not read.
    """
    if source.is_dir():
        return sounds_in(source)
    _refuse_unread(source)
    return [source]


def _refuse_unread(path: Path) -> None:
    if reason := unread_reason(path):
        raise BadInput(f"{printable(path)}: {reason}")


def unread_reason(path: Path) -> str:
    """Why a file cannot be read, by its suffix; empty if the sound library may read it."""
    suffix = path.suffix.lower()
    return f"the format {suffix} is not supported; {CONVERT}" if suffix in UNREAD_SUFFIXES else ""


def sounds_in(folder: Path) -> list[Path]:
    """The sound files in a folder and below, by suffix, sorted.

    Passed over are hidden files and folders, links to folders, the folders of earlier runs, and restored files. Files
    of formats that are not supported are counted in a notice.

    Raises:
        BadInput: there are none.
    """
    sounds: list[Path] = []
    unread: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(  # os.walk goes on with these
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
        raise BadInput(f"{printable(folder)}: no sound files in this folder ({looked_for})")
    if skipped:
        log.info("%s: %s", printable(folder), skipped)
    return sounds


def _read_list(path: Path) -> list[Recording]:
    if path.stat().st_size > LONGEST_LIST:
        raise BadInput(f"{printable(path)}: too large for a list of recordings, and its suffix is of no sound format")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(_not_utf8(path, error)) from None
    except OSError as error:
        raise BadInput(f"{printable(path)}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise BadInput(f"{printable(path)}: {NO_LIST}")
    recordings = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            recordings.append(_read_line(line, path.parent, f"{printable(path)} line {number}"))
    if not recordings:
        raise BadInput(f"{printable(path)}: the list names no recordings")
    return recordings


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Why a file that is not UTF-8 cannot be used as a list."""
    content, expected = error.object, "a list of recordings must be UTF-8 text"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{printable(path)}: {expected}, got UTF-16"
    if b"\0" in content:
        return f"{printable(path)}: {NO_LIST}"
    line = content.count(b"\n", 0, error.start) + 1
    return f"{printable(path)} line {line}: {expected}, got the byte 0x{content[error.start]:02x}, as in Latin-1"


def _read_line(line: str, folder: Path, where: str) -> Recording:
    """One line of a list: a path, or two with a comma between; quotes protect commas, as in any CSV file."""
    whole = _find(line, folder)
    if whole:
        return Recording(whole)
    try:
        fields = [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    except csv.Error:  # a field of over 128 kB, say
        raise BadInput(f"{where}: expected one path or a clean,corrupted pair, got {printable(line[:80])}...") from None
    if len(fields) == 2 and not fields[1]:
        fields.pop()
    if len(fields) > 2 or not fields[0]:
        raise BadInput(f"{where}: expected one path or a clean,corrupted pair, got {printable(line)}")
    paths = []
    for field in fields:
        found = _find(field, folder)
        if found is None:
            raise BadInput(f"{where}: no such file: {printable(field)}")
        paths.append(found)
    return Recording(*paths)


def _find(name: str, folder: Path) -> Path | None:
    """``name`` as a file beside the list, or else from the working folder."""
    for candidate in (folder / name, Path(name)):
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):  # a name no file can have: too long, say
            continue
    return None
