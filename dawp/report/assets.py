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
"""Draws a picture of a repetition: ``draw(repetition_dir, content of result.json, path of the picture)``."""

PICTURES = "report_pictures"
MAX_EMBEDDED = 20_000_000  # bytes of sounds in the page, and of pictures
QUALITY = 75  # of pictures


@dataclass(frozen=True)
class Picture:
    """A picture in the page: its address and its text alternative."""

    src: str
    alt: str


class Assets:
    """Embeds sounds and pictures in the page, or links files beside the page if they are too large.

    Args:
        folder: of the run.

    Attributes:
        sounds_are_linked: the page links the sound files in the folders of the repetitions.
        written: the picture files of this page.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sounds_are_linked = _sound_bytes(folder) > MAX_EMBEDDED
        self._bytes_left = MAX_EMBEDDED
        self.written: set[Path] = set()

    def sound(self, path: Path, samples: NDArray[Any], rate: int, scale: float) -> str:
        """Return the address of a sound. An embedded sound is multiplied by ``scale``."""
        import soundfile

        if self.sounds_are_linked:
            return quote(path.relative_to(self._folder).as_posix(), errors="surrogateescape")
        packed = io.BytesIO()
        soundfile.write(packed, samples * scale, rate, format="FLAC", subtype="PCM_16")
        return _data_url(packed.getvalue(), "audio/flac")

    def picture(self, content: bytes, alt: str) -> Picture:
        """Add a picture in WebP format."""
        self._bytes_left -= len(content) * 4 // 3
        if self._bytes_left >= 0:
            return Picture(_data_url(content, "image/webp"), alt)
        # Named by its content, so that an earlier page that is still open keeps its own pictures.
        place = self._folder / PICTURES / f"{hashlib.sha256(content).hexdigest()[:16]}.webp"
        self.written.add(place)
        place.parent.mkdir(exist_ok=True)
        with atomic_write(place) as temporary:
            temporary.write_bytes(content)
        return Picture(f"{PICTURES}/{place.name}", alt)

    def clear(self) -> None:
        """Delete the pictures of earlier pages, and their folder if it is empty."""
        there = self._folder / PICTURES
        with suppress(OSError):
            for place in there.glob("[!.]*.webp"):
                if place not in self.written:
                    place.unlink(missing_ok=True)
            there.rmdir()

    def repetition_picture(
        self, repetition_dir: Path, name: str, draw: Draw, facts: dict[str, Any] | None, alt: str
    ) -> Picture:
        """Add a picture of a repetition, drawn again if its file is missing or older than its data."""
        from PIL.Image import open as opened

        with TemporaryDirectory() as scratch:
            path, data = repetition_dir / name, repetition_dir / "metrics.csv"
            if not path.is_file() or path.stat().st_mtime_ns < data.stat().st_mtime_ns:
                path = Path(scratch) / name
                draw(repetition_dir, facts or {}, path)
            with opened(path) as picture:
                return self.picture(encode_webp(picture.convert("RGB")), alt)

    def figure(self, figure: Figure, alt: str) -> Picture:
        """Add a figure."""
        content = io.BytesIO()
        figure.savefig(content, format="webp", pil_kwargs={"quality": QUALITY})
        return self.picture(content.getvalue(), alt)


def encode_webp(picture: Image) -> bytes:
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY)
    return packed.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sound_bytes(folder: Path) -> int:
    """Return an upper bound of the bytes that all sounds of a run take in a page.

    FLAC at 16 bits takes at most half of the float32 samples, and base64 adds a third.
    """
    return (
        sum(
            path.stat().st_size
            for repetition_dir in repetition_folders(folder)
            for path in pictures.sounds_of(repetition_dir)
        )
        * 2
        // 3
    )
