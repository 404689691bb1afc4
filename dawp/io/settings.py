"""Settings of the clip, and the bounds of lengths."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.settings import Settings, setting

MIN_LENGTH = 64  # samples: the shortest clip
LONGEST_CLIP = 86400.0  # seconds
LONGEST_GAP_MS = 100.0  # of zeros: a longer run is silence


@dataclass(frozen=True)
class ClipConfig(Settings):
    """Clip: the stretch of a recording that is worked on."""

    samplerate: int | None = setting(
        16000,
        "working sample rate in Hz; recordings of other rates are resampled",
        at_least=1000,
        at_most=192000,
        none="each recording's own",
        brief="working sample rate in Hz; none: that of the recording",
    )
    clip_length: float = setting(
        2.0,
        "seconds taken of each recording; 0 takes it whole",
        at_least=0,
        at_most=LONGEST_CLIP,
        brief="seconds of each recording; 0: all",
    )
    trim_start: float = setting(
        0.0, "seconds to leave out at the start of each recording", at_least=0, at_most=LONGEST_CLIP
    )
    quiet_thresh: float = setting(
        0.2,
        "skip segments with a larger fraction of silence than this "
        "(25 ms frames over 50 dB below the recording's loudest)",
        at_least=0,
        at_most=1,
    )
    align: bool = setting(
        False,
        "remove the lag between the two recordings of a pair, of up to 1 s, to the nearest sample, and cut both to "
        "their common part; a lag from 1 ms is reported in any case",
    )
