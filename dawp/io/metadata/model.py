"""The metadata of a file, independent of its format."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from dawp.errors import printable

MAX_BYTES = 64 * 1024 * 1024  # of all metadata of a file
LAYOUT = "channel layout"
DEFAULT_MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
"""Layout of a file without a mask, by number of channels: that of FLAC (RFC 9639, section 9.1.3) and Vorbis."""

VORBIS_ORDER = {3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3)}
VORBIS_ORDER[8] = (0, 2, 1, 6, 7, 4, 5, 3)
"""For each channel in the order of Vorbis and Opus, its place in the order of a mask (Vorbis I, section 4.3.9)."""

LEVELS = re.compile("REPLAYGAIN_|R128_|ID3 RVA|ID3 RGAD")


class Extra(NamedTuple):
    """Metadata that only one kind of file holds.

    Attributes:
        kind: family of chunks, ``FLAC`` or ``ID3``; empty or ``RIFX`` (big-endian) for metadata that are never copied.
        name: for messages; empty if the tags contain the same.
        data: identifier and content of a chunk, code and content of a FLAC block, or an ID3 tag of one frame.
    """

    kind: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file.

    Attributes:
        tags: names (as in Vorbis comments, upper case) and values; names may repeat.
        pictures: FLAC picture blocks.
        extras: metadata of one kind of file.
        channel_mask: speakers of the channels as in WAVE_FORMAT_EXTENSIBLE; None if not stated.
        vorbis_order: the channels are in the order of Vorbis, not of the mask.
    """

    tags: tuple[tuple[str, str], ...] = ()
    pictures: tuple[bytes, ...] = ()
    extras: tuple[Extra, ...] = ()
    channel_mask: int | None = None
    vorbis_order: bool = False

    def without_levels(self) -> tuple[Metadata, list[str]]:
        """Return the metadata without ReplayGain and similar values, which a change of level invalidates, and names for
        messages.
        """
        tags = tuple(tag for tag in self.tags if not LEVELS.match(tag[0]))
        extras = tuple(extra for extra in self.extras if not LEVELS.match(extra.name))
        lost = ["ReplayGain (the level has changed)"] if (tags, extras) != (self.tags, self.extras) else []
        return dataclasses.replace(self, tags=tags, extras=extras), lost

    def channel_order(self, format: str, channels: int) -> list[int] | None:
        """Return the recording's channel for each channel of a new file; None if the order is the same.

        Args:
            format: libsndfile's name of the format to write.
            channels: number of channels.
        """
        to_vorbis, order = format == "OGG", VORBIS_ORDER.get(channels)
        if order is None or to_vorbis == self.vorbis_order:
            return None
        if self.channel_mask is not None and without_sides(self.channel_mask) != without_sides(DEFAULT_MASKS[channels]):
            return None
        return list(order) if to_vorbis else [order.index(place) for place in range(channels)]


def is_default(mask: int | None, channels: int) -> bool:
    """Return whether a mask equals the default layout. A zero mask is the default for one or two channels."""
    return mask is None or mask == DEFAULT_MASKS.get(channels) or (mask == 0 and channels <= 2)


def without_sides(mask: int) -> int:
    """Return a mask with side speakers moved to the back if it has no back speakers: formats without masks have one
    pair.
    """
    return mask & ~0x600 | 0x30 if mask & 0x630 == 0x600 else mask


def merge_tags(tags: list[tuple[str, str]], others: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return ``tags``, and those of ``others`` with other names."""
    names = {name for name, _ in tags}
    return (*tags, *(tag for tag in others if tag[0] not in names))


def decode_text(content: bytes) -> str:
    """Decode text up to the first zero byte as UTF-8, or else as Windows-1252."""
    content = content.split(b"\0", 1)[0]
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def reason(error: Exception) -> str:
    return printable(error) or type(error).__name__
