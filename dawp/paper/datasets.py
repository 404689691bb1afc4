"""The paper's data sets as their distributors lay them out: which files in them are speech, singing, instruments."""

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
"""Words in the names of what MedleyDB calls instruments but the paper would not, or that are several at once."""


class Layout(NamedTuple):
    """How a data set is recognised, which of its files are of which kind, and what may be wrong with them.

    By the names of ``parts`` its folders are told that hold several kinds.
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
    """MedleyDB's stems of single instruments, by its metadata; without metadata all stems."""
    stems = []
    for track in _tracks(folder):
        about = _metadata(folder, track)
        for stem in sorted(track.glob("*_STEMS/*.wav")):
            if stem.name.startswith("._"):  # what macOS leaves in archives
                continue
            names = [one.get("instrument") for one in about.values() if one.get("filename") == stem.name]
            said = str(names[0]).lower() if names else ""
            if not any(word in said for word in VOICES):
                stems.append(stem)
    return stems


def _tracks(folder: Path) -> list[Path]:
    return sorted({path.parent for path in folder.glob("Audio/*/*_STEMS")})


def _untold(folder: Path) -> list[str]:
    """That voices may be among the stems of MedleyDB, where tracks have no metadata."""
    tracks = _tracks(folder)
    without = [track.name for track in tracks if _metadata_file(folder, track) is None]
    if not without:
        return []
    some = f"{len(without)} of {len(tracks)} tracks, {printable(without[0])} first"
    return [f"no metadata (Metadata/*_METADATA.yaml) of {some}: voices may be among their stems"]


def _metadata_file(folder: Path, track: Path) -> Path | None:
    name = f"{track.name}_METADATA.yaml"
    return next((path for path in (folder / "Metadata" / name, track / name) if path.is_file()), None)


def _metadata(folder: Path, track: Path) -> dict[str, dict[str, Any]]:
    """What a track's YAML file says of its stems."""
    import yaml

    path = _metadata_file(folder, track)
    if path is None:
        return {}
    try:
        stems = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))["stems"]
        return {key: one for key, one in stems.items() if isinstance(one, dict)}
    except (yaml.YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise BadInput(f"{printable(path)}: cannot be read as MedleyDB's metadata") from None


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
    Layout("MedleyDB (stems)", lambda folder: bool(_tracks(folder)), {"instruments": _stems}, ("Audio",), _untold),
)


def find(kind: str, path: Path) -> list[Recording]:
    """The clean recordings of a kind of sound: in a data set those of that kind, elsewhere all that are found.

    Args:
        kind: ``speech``, ``singing`` or ``instruments``.
        path: a data set as it is distributed, or a sound file, a folder or a list.

    Raises:
        BadInput: there are none of that kind, or pairs, or compressed stems.
    """
    layout = recognise(path)
    if layout is None:
        if path.is_dir() and any(path.glob("*/*.stem.mp4")):
            raise BadInput(f"{printable(path)}: holds MUSDB18's compressed stems; MUSDB18-HQ has them as WAV files")
        _check_level(path)
        recordings = _without_repeats(find_recordings(path))
        pair = next((recording for recording in recordings if recording.corrupted), None)
        if pair:
            clean, corrupted = map(printable, pair.paths)
            raise BadInput(
                f"{printable(path)}: names a pair, {clean} and {corrupted}; clips are corrupted as the paper says, "
                "so list clean recordings alone"
            )
        return recordings
    if kind not in layout.files:
        raise BadInput(
            f"{printable(path)}: is {layout.name}, which is taken for {' and '.join(layout.files)}, not {kind}"
        )
    files = layout.files[kind](path)
    if not files:
        raise BadInput(f"{printable(path)}: looks like {layout.name}, but holds none of its sound files")
    return [Recording(file) for file in files]


def _check_level(path: Path) -> None:
    """Refuse a part of a data set, and a folder that one lies in: not all sounds there are of one kind."""
    if not path.is_dir():
        return
    above, name = path.resolve().parent, path.resolve().name
    whole = recognise(above)
    if whole and name in whole.parts:
        raise BadInput(f"{printable(path)}: is a part of {whole.name}; name all of it, {printable(above)}")
    for below in sorted(path.glob("*")):
        part = recognise(below)
        if part:
            raise BadInput(f"{printable(path)}: holds {part.name}; name its own folder, {printable(below)}")


def _without_repeats(recordings: Sequence[Recording]) -> list[Recording]:
    """Each recording once: clips of the same are no independent ones."""
    once: dict[tuple[Path, ...], Recording] = {}
    for recording in recordings:
        once.setdefault(tuple(path.resolve() for path in recording.paths), recording)
    repeats = len(recordings) - len(once)
    if repeats:
        log.info("recordings that are named more than once: %d, each is taken once", repeats)
    return list(once.values())


def recognise(path: Path) -> Layout | None:
    """The data set that a folder holds; None for any other source."""
    return next((layout for layout in LAYOUTS if path.is_dir() and layout.recognised(path)), None)


def doubts(path: Path) -> list[str]:
    """What may be wrong with what is taken of a data set."""
    layout = recognise(path)
    return layout.doubts(path) if layout else []


def report(path: Path) -> str:
    """What a folder holds, in a few lines.

    Raises:
        BadInput: nothing that can be used.
    """
    layout = recognise(path)
    kinds = list(layout.files) if layout else ["speech"]
    lines = [
        f"{printable(path)}: {layout.name if layout else 'no data set that is known here, so all its sound files'}"
    ]
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
        told = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
        lines.append(f"  {kind if layout else 'sounds'}: {len(recordings)} recordings, {seconds / 60:.1f} min; {told}")
        if broken == len(recordings):
            raise BadInput(
                f"{printable(path)}: none of its sound files can be read: {broken}, "
                f"{printable(recordings[0].path)} first"
            )
        if broken:
            lines.append(f"  {broken} of them cannot be read as sound")
        lines.append(f"  first: {printable(recordings[0].path)}")
    lines += [f"  {doubt}" for doubt in doubts(path)]
    return "\n".join(lines)
