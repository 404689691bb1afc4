"""Settings of the clip, and bounds on lengths."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.settings import Settings, setting

MIN_LENGTH = 64  # samples in a clip
LONGEST_CLIP = 86400.0  # seconds
LONGEST_GAP_MS = 100.0  # longer runs of zeros are treated as silence


@dataclass(frozen=True)
class ClipConfig(Settings):
    """Clip: the part of a recording to use."""

    samplerate: int | None = setting(
        16000,
        "working sample rate in Hz; recordings of other rates are resampled",
        at_least=1000,
        at_most=192000,
        none="the recording's own rate",
        brief="working sample rate in Hz; none: that of the recording",
    )
    clip_length: float = setting(
        2.0,
        "seconds to use of each recording; 0 uses the whole recording",
        at_least=0,
        at_most=LONGEST_CLIP,
        brief="seconds of each recording; 0: all",
    )
    trim_start: float = setting(0.0, "seconds to skip at the start of each recording", at_least=0, at_most=LONGEST_CLIP)
    quiet_thresh: float = setting(
        0.2,
        "skip segments with a larger fraction of silence than this "
        "(25 ms frames over 50 dB below the recording's loudest)",
        at_least=0,
        at_most=1,
    )
    align: bool = setting(
        False,
        "align the two recordings of a pair to the nearest sample (lags up to 1 s) and cut both to their common part; "
        "lags of 1 ms and more are always reported",
    )
