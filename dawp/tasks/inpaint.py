"""Gaps in a clip (paper section 5): cut into a clean one, or found in a damaged one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dawp.errors import BadInput
from dawp.io.settings import LONGEST_GAP_MS
from dawp.settings import setting
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, parse_intervals, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.problem import Problem

CROSSFADE = 0.0005  # seconds on either side of a gap over which the estimate is cross-faded with the observed samples


@dataclass(frozen=True)
class GapConfig(CorruptionConfig):
    """Gap: the samples to remove from clean clips, and the gaps of damaged recordings."""

    gap_ms: float = setting(
        2.0,
        "length of each gap in milliseconds (1, 2 and 5 in the paper)",
        above=0,
        at_most=LONGEST_GAP_MS,
        brief="length of each gap in ms",
    )
    n_gaps: int = setting(
        1, "number of gaps in each clip, outside silence", at_least=1, at_most=1000, brief="gaps in each clip"
    )
    gaps: str | None = setting(
        None,
        "gaps as START:LENGTH,START:LENGTH,... in seconds from the beginning of the clip (with --restore, of the "
        "recording), or auto: the sources are damaged recordings, and their drop-outs are the gaps",
        none="--n_gaps drawn from the seed; with --restore, auto",
        brief="auto, or START:LENGTH,... in seconds",
    )
    min_gap_ms: float = setting(
        1.0,
        "shortest drop-out of a damaged recording (zeros, near silence, a repeated value or noise), in milliseconds; "
        f"runs over {LONGEST_GAP_MS:g} ms, and those not surrounded by sound, are silence",
        above=0,
        at_most=LONGEST_GAP_MS,
    )
    raw_output: bool = setting(
        False,
        "use the output of the network everywhere; by default observed samples are kept outside the gaps",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        latest = 0.0
        for start, length in sorted(self.given):
            if start < 0 or length <= 0:
                raise BadInput(f"gaps must begin at 0 s or later and last longer than 0 s, got {start:g}:{length:g}")
            if start < latest - 1e-9:  # seconds: 0.1 + 0.2 is more than 0.3
                raise BadInput(f"gaps must not overlap, got {start:g}:{length:g} after one to {latest:g} s")
            latest = start + length

    @property
    def given(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each gap of ``gaps``; empty where it names none.

        Raises:
            BadInput: it is neither ``auto`` nor such a list.
        """
        if self.gaps is None or self.gaps == "auto":
            return []
        return parse_intervals("gaps", self.gaps, "auto or START:LENGTH,START:LENGTH,...")

    @property
    def sources_are_corrupted(self) -> bool:
        return self.gaps == "auto"

    @property
    def missing(self) -> float | None:
        return self.min_gap_ms / 1000

    def identity(self) -> dict[str, Any]:
        drawn = ("gap_ms", "n_gaps") if self.gaps else ()
        return {name: value for name, value in super().identity().items() if name not in drawn}

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        # Gaps are found where none are given, too.
        names = ("gaps", "raw_output") if self.given else ("gaps", "min_gap_ms", "raw_output")
        return {name: value for name, value in super().identity().items() if name in names}

    def for_marked(self) -> GapConfig:
        return dataclasses.replace(self, gaps=None)

    def label(self) -> str:
        if self.gaps:
            return "gaps-auto" if self.gaps == "auto" else f"gaps-{len(self.given)}-given"
        return f"gaps-{self.n_gaps}x{self.gap_ms:g}ms"


def cut_gaps(clean: Tensor, sample_rate: int, config: GapConfig, rng: torch.Generator) -> Problem:
    """Cut gaps into a clean clip.

    In the observed clip the samples of the gaps are zero, and the mask excludes them from the loss, so that the fit
    does not depend on the clean samples there. Drawn gaps lie where the clip is not silent (25 ms around them are above
    -40 dB relative to its loudest 25 ms), at least 10 ms from each other and from the ends.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: number and length of the gaps, or their positions.
        rng: source of the positions.

    Returns:
        The problem, whose facts include ``gaps`` (start and length of each in seconds).

    Raises:
        BadInput: the clip is silent, a gap lies outside it, or there is not enough space for the gaps.
    """
    from dawp.simulate.gaps import draw_gaps

    if not clean.any():
        raise BadInput("the clean clip is silent: a gap in it changes nothing", code="unusable_recording")
    missing = _given(len(clean), sample_rate, config)
    if not config.gaps:
        missing = draw_gaps(clean, sample_rate, config.gap_ms, config.n_gaps, rng)
    return _with_gaps(clean, clean, missing, sample_rate, config)


def find_gaps(observed: Tensor, clean: Tensor | None, sample_rate: int, config: GapConfig) -> Problem:
    """Return the problem of a damaged clip.

    Args:
        observed: damaged clip ``[T]``, NaN where a sample is missing (``audio.mark_missing``).
        clean: its undamaged version ``[T]``, or None.
        sample_rate: of both, in Hz.
        config: ``gaps`` adds further gaps.

    Raises:
        BadInput: there is no gap, or one lies outside the clip.
    """
    missing = observed.isnan() | _given(len(observed), sample_rate, config)
    if not missing.any():
        raise BadInput(
            f"no drop-outs in this clip of {len(observed) / sample_rate:g} s: neither NaN nor zeros, near "
            f"silence, a repeated value or noise from {config.min_gap_ms:g} to {LONGEST_GAP_MS:g} ms between sounds; "
            "clip_length 0 uses the whole recording, gaps sets the intervals to fill",
            code="unusable_recording",
        )
    return _with_gaps(observed, clean, missing, sample_rate, config)


def _with_gaps(waveform: Tensor, clean: Tensor | None, missing: Tensor, sample_rate: int, config: GapConfig) -> Problem:
    """Return the problem of a waveform whose samples in ``missing`` are lost."""
    from dawp.io.audio import true_runs
    from dawp.operators.mask import Mask
    from dawp.problem import Problem

    if missing.all():
        raise BadInput(
            f"the gaps cover the whole clip of {len(missing) / sample_rate:.3f} s: no sample is known",
            code="unusable_recording",
        )
    observed = waveform.masked_fill(missing, 0)
    blend = None if config.raw_output else _blend(missing, sample_rate)
    gaps = [[start / sample_rate, (stop - start) / sample_rate] for start, stop in true_runs(missing)]
    return Problem(observed, clean, sample_rate, Mask(~missing), blend, facts={"gaps": gaps})


def _given(length: int, sample_rate: int, config: GapConfig) -> Tensor:
    """Return which samples of a clip of ``length`` samples lie in the gaps of the settings."""
    import torch

    missing = torch.zeros(length, dtype=torch.bool)
    for start, seconds in config.given:
        first, stop = round(start * sample_rate), round((start + seconds) * sample_rate)
        if stop > length:
            raise BadInput(f"gaps: {start:g}:{seconds:g} lies outside the clip of {length / sample_rate:g} s")
        if first == stop:
            raise BadInput(f"gaps: {start:g}:{seconds:g} holds no sample at {sample_rate} Hz")
        missing[first:stop] = True
    return missing


def _blend(missing: Tensor, sample_rate: int) -> Tensor:
    """1 in the gaps, falling to 0 over 0.5 ms on either side."""
    import torch
    from torch.nn import functional as F

    from dawp.io.audio import true_runs

    width = max(1, round(CROSSFADE * sample_rate))
    ramp = torch.arange(1, width + 1) / (width + 1)
    blend = F.pad(missing.float(), (width, width))
    for start, stop in true_runs(missing):
        before, after = blend[start : start + width], blend[stop + width : stop + 2 * width]
        before.copy_(torch.maximum(before, ramp))
        after.copy_(torch.maximum(after, ramp.flip(0)))
    return blend[width:-width]


# Convolutions alone do not fill gaps.
FAST_GAPS = {**FAST, "lr": 1e-3, "crit": "L1", "channels": 64, "lstm_layers": 1}

register(
    Task(
        name="inpaint",
        about="Fill gaps: cut them into clean recordings, or find them in damaged ones, and fill them.",
        settings=GapConfig,
        examples=(
            "damaged.wav --restore -o restored.wav",
            "damaged.wav --restore --gaps 12.5:0.02,31:0.005",
            "clean.wav --gap_ms 5 --n_gaps 8 --preset fast",
        ),
        corrupt=cut_gaps,
        adopt=find_gaps,
        is_local=True,
        presets={"fast": FAST_GAPS, "restore": {**FAST_GAPS, **BLIND, "stop": "wmv", "method": "auto"}},
        allows_highpass=False,
        has_strength=False,
    )
)
