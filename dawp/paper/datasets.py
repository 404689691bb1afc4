"""Layouts of the paper's data sets: which of their files are speech, singing and instruments."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from dawp.errors import BadInput, printable
from dawp.io.reader import Reader
from dawp.io.sources import Recording, find_recordings

log = logging.getLogger(__name__)

VOICES = ("singer", "rapper", "speaker", "vocalists", "choir", "crowd", "fx/processed sound", "main system")
"""Words in MedleyDB instrument names that exclude a stem: voices, or several sources at once."""


class Layout(NamedTuple):
    """Layout of a data set on disk.

    Attributes:
        name: for reports.
        recognised: returns whether a folder has this layout.
        files: for each kind of sound, returns its files in a folder.
        parts: names of subfolders that contain several kinds of sound and are refused as a source.
        doubts: returns warnings about a folder.
    """

    name: str
    recognised: Callable[[Path], bool]
    files: dict[str, Callable[[Path], list[Path]]]
    parts: tuple[str, ...] = ()
    doubts: Callable[[Path], list[str]] = lambda _: []


def _is_clean_part(folder: Path) -> bool:
    return folder.is_dir() and fnmatch(folder.resolve().name, "clean_*set_*wav")


def _valentini(folder: Path) -> list[Path]:
    if _is_clean_part(folder):
        return sorted(folder.glob("*.wav"))
    test = sorted(folder.glob("clean_testset_wav/*.wav"))
    return test or sorted(folder.glob("clean_trainset_*wav/*.wav"))


def _vocals(folder: Path) -> list[Path]:
    return sorted(folder.glob("test/*/vocals.wav")) or sorted(folder.glob("train/*/vocals.wav"))


def _stems(folder: Path) -> list[Path]:
    """Return MedleyDB's stems of single instruments; all stems of tracks without metadata."""
    stems = []
    for track in _tracks(folder):
        about = _metadata(folder, track)
        for stem in sorted(track.glob("*_STEMS/*.wav")):
            if stem.name.startswith("._"):  # macOS resource forks
                continue
            names = [entry.get("instrument") for entry in about.values() if entry.get("filename") == stem.name]
            instrument = str(names[0]).lower() if names else ""
            if not any(word in instrument for word in VOICES):
                stems.append(stem)
    return stems


def _tracks(folder: Path) -> list[Path]:
    return sorted({path.parent for path in folder.glob("Audio/*/*_STEMS")})


def _metadata_doubts(folder: Path) -> list[str]:
    """Return a warning if tracks of MedleyDB have no metadata, so that stems may contain voices."""
    tracks = _tracks(folder)
    without = [track.name for track in tracks if _metadata_file(folder, track) is None]
    if not without:
        return []
    some = f"{len(without)} of {len(tracks)} tracks, first {printable(without[0])}"
    return [f"no metadata (Metadata/*_METADATA.yaml) for {some}: their stems may contain voices"]


def _metadata_file(folder: Path, track: Path) -> Path | None:
    name = f"{track.name}_METADATA.yaml"
    return next((path for path in (folder / "Metadata" / name, track / name) if path.is_file()), None)


def _metadata(folder: Path, track: Path) -> dict[str, dict[str, Any]]:
    """Read the stems of a track from its YAML file; empty if there is no file."""
    import yaml

    path = _metadata_file(folder, track)
    if path is None:
        return {}
    try:
        stems = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))["stems"]
        return {key: entry for key, entry in stems.items() if isinstance(entry, dict)}
    except (yaml.YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise BadInput(f"{printable(path)}: cannot be read as MedleyDB's metadata", code="unreadable_input") from None


LAYOUTS = (
    Layout(
        "Valentini et al., noisy speech database (clean recordings)",
        lambda folder: any(map(_is_clean_part, (folder, *folder.glob("clean_*set_*wav")))),
        {"speech": _valentini},
    ),
    Layout(
        "MUSDB18-HQ (vocals)",
        lambda folder: any(folder.glob("test/*/vocals.wav")) or any(folder.glob("train/*/vocals.wav")),
        {"singing": _vocals},
        ("test", "train"),
    ),
    Layout(
        "MedleyDB (stems)", lambda folder: bool(_tracks(folder)), {"instruments": _stems}, ("Audio",), _metadata_doubts
    ),
)


def find(kind: str, path: Path) -> list[Recording]:
    """Find the clean recordings of a kind of sound.

    Args:
        kind: ``speech``, ``singing`` or ``instruments``.
        path: a data set in the layout of its distributor, or a sound file, folder or list.

    Returns:
        The data set's recordings of that kind; all recordings of any other source.

    Raises:
        BadInput: no recordings of that kind, a list with pairs, or compressed stems.
    """
    layout = recognise(path)
    if layout is None:
        if path.is_dir() and any(path.glob("*/*.stem.mp4")):
            raise BadInput(
                f"{printable(path)}: contains MUSDB18's compressed stems; use MUSDB18-HQ (WAV files)",
                code="unreadable_input",
            )
        _check_level(path)
        recordings = _without_repeats(find_recordings(path))
        pair = next((recording for recording in recordings if recording.corrupted), None)
        if pair:
            clean, corrupted = map(printable, pair.paths)
            raise BadInput(
                f"{printable(path)}: contains a pair, {clean} and {corrupted}; studies corrupt the clips themselves, "
                "list only clean recordings",
                code="invalid_list",
            )
        return recordings
    if kind not in layout.files:
        raise BadInput(f"{printable(path)}: {layout.name} is used for {' and '.join(layout.files)}, not for {kind}")
    files = layout.files[kind](path)
    if not files:
        raise BadInput(
            f"{printable(path)}: looks like {layout.name}, but contains none of its sound files", code="not_found"
        )
    return [Recording(file) for file in files]


def _check_level(path: Path) -> None:
    """Refuse a subfolder of a data set and a folder that contains one: these mix kinds of sound."""
    if not path.is_dir():
        return
    parent, name = path.resolve().parent, path.resolve().name
    layout = recognise(parent)
    if layout and name in layout.parts:
        raise BadInput(f"{printable(path)}: is a subfolder of {layout.name}; use {printable(parent)}")
    for child in sorted(path.glob("*")):
        layout = recognise(child)
        if layout:
            raise BadInput(f"{printable(path)}: contains {layout.name}; use {printable(child)}")


def _without_repeats(recordings: Sequence[Recording]) -> list[Recording]:
    """Drop repeated recordings: their clips are not independent."""
    unique: dict[tuple[Path, ...], Recording] = {}
    for recording in recordings:
        unique.setdefault(tuple(path.resolve() for path in recording.paths), recording)
    repeats = len(recordings) - len(unique)
    if repeats:
        log.info("repeated recordings ignored: %d", repeats)
    return list(unique.values())


def recognise(path: Path) -> Layout | None:
    """Return the layout of a data set; None for any other source."""
    return next((layout for layout in LAYOUTS if path.is_dir() and layout.recognised(path)), None)


def doubts(path: Path) -> list[str]:
    """Return warnings about the recordings of a data set."""
    layout = recognise(path)
    return layout.doubts(path) if layout else []


def report(path: Path) -> str:
    """Describe the recordings of a source in a few lines.

    Raises:
        BadInput: no usable recording.
    """
    layout = recognise(path)
    kinds = list(layout.files) if layout else ["speech"]
    lines = [f"{printable(path)}: {layout.name if layout else 'not a known data set; all its sound files'}"]
    for kind in kinds:
        recordings = find(kind, path)
        seconds, rates, broken = 0.0, Counter[int](), 0
        for recording in recordings:
            try:
                with Reader(recording.path) as file:
                    seconds += file.stated_frames / file.rate
                    rates[file.rate] += 1
            except BadInput:
                broken += 1
        by_rate = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
        label = kind if layout else "sounds"
        lines.append(f"  {label}: {len(recordings)} recordings, {seconds / 60:.1f} min; {by_rate}")
        if broken == len(recordings):
            raise BadInput(
                f"{printable(path)}: none of its {broken} sound files can be read, "
                f"first {printable(recordings[0].path)}",
                code="unreadable_input",
            )
        if broken:
            lines.append(f"  unreadable: {broken}")
        lines.append(f"  first: {printable(recordings[0].path)}")
    lines += [f"  {doubt}" for doubt in doubts(path)]
    return "\n".join(lines)
