"""Sounds and pictures of a report: embedded in the page, or in files beside it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dawp.io.files import atomic_write
from dawp.report import pictures
from dawp.runs.folder import repetition_folders

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from PIL.Image import Image

Draw = Callable[[Path, dict[str, Any], Path], None]
"""Draws a picture of a repetition's folder, given the content of its result.json, into a file."""

PICTURES = "report_pictures"
MOST_EMBEDDED = 20_000_000  # bytes of sounds in the page, and as many of pictures
QUALITY = 75  # of pictures


@dataclass(frozen=True)
class Picture:
    """A picture in the page: where it is, and what it shows in words."""

    src: str
    alt: str


class Assets:
    """Puts sounds and pictures into the page, or beside it where they are too many.

    Args:
        folder: of the run.

    Attributes:
        sounds_are_linked: the page plays the sound files that lie in the repetitions' folders.
        written: the files of this page's pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sounds_are_linked = _sound_bytes(folder) > MOST_EMBEDDED
        self._room = MOST_EMBEDDED
        self.written: set[Path] = set()

    def sound(self, path: Path, samples: NDArray[Any], rate: int, scale: float) -> str:
        """The address of a sound, which is scaled if it is put into the page."""
        import soundfile

        if self.sounds_are_linked:
            return quote(path.relative_to(self._folder).as_posix(), errors="surrogateescape")
        packed = io.BytesIO()
        soundfile.write(packed, samples * scale, rate, format="FLAC", subtype="PCM_16")
        return _embedded(packed.getvalue(), "audio/flac")

    def picture(self, content: bytes, alt: str) -> Picture:
        self._room -= len(content) * 4 // 3
        if self._room >= 0:
            return Picture(_embedded(content, "image/webp"), alt)
        # Named by what it shows: an earlier page that is still there goes on showing its own.
        place = self._folder / PICTURES / f"{hashlib.sha256(content).hexdigest()[:16]}.webp"
        self.written.add(place)
        place.parent.mkdir(exist_ok=True)
        with atomic_write(place) as temporary:
            temporary.write_bytes(content)
        return Picture(f"{PICTURES}/{place.name}", alt)

    def clear(self) -> None:
        """Remove the pictures of earlier pages, and their folder if nothing is left in it."""
        there = self._folder / PICTURES
        with suppress(OSError):
            for place in there.glob("[!.]*.webp"):
                if place not in self.written:
                    place.unlink(missing_ok=True)
            there.rmdir()

    def drawn(self, repetition_dir: Path, name: str, draw: Draw, facts: dict[str, Any] | None, alt: str) -> Picture:
        """A picture of a repetition: that in its folder, or drawn now if it is not there or older than its data."""
        from PIL.Image import open as opened

        with TemporaryDirectory() as scratch:
            path, data = repetition_dir / name, repetition_dir / "metrics.csv"
            if not path.is_file() or path.stat().st_mtime_ns < data.stat().st_mtime_ns:
                path = Path(scratch) / name
                draw(repetition_dir, facts or {}, path)
            with opened(path) as picture:
                return self.picture(encode_webp(picture.convert("RGB")), alt)

    def figure(self, figure: Figure, alt: str) -> Picture:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="webp", pil_kwargs={"quality": QUALITY})
        return self.picture(drawn.getvalue(), alt)


def encode_webp(picture: Image) -> bytes:
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY)
    return packed.getvalue()


def _embedded(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sound_bytes(folder: Path) -> int:
    """What all sounds of a run would take in its page, at most: half of what their samples take as floats, as text."""
    return (
        sum(
            path.stat().st_size
            for repetition_dir in repetition_folders(folder)
            for path in pictures.sounds_of(repetition_dir)
        )
        * 2
        // 3
    )
