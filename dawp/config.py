"""All settings of a command, in groups, and the presets.

The groups are defined beside the code that uses them; the defaults are preset "paper".
"""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, shown
from dawp.io.settings import LONGEST_CLIP, LONGEST_GAP_MS, ClipConfig
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig, StopConfig
from dawp.metrics.settings import MetricConfig
from dawp.parallel.settings import WorkConfig
from dawp.report.settings import ReportConfig
from dawp.restoration.settings import RestoreConfig
from dawp.runs.settings import RunConfig
from dawp.settings import Settings, flag_of, setting

Metres = tuple[float, float, float]
SMALLEST_ROOM: Metres = (3.0, 3.0, 2.4)  # bounds of a drawn room
LARGEST_ROOM: Metres = (6.0, 5.0, 3.2)
FROM_WALLS, NEAREST, FARTHEST = 0.5, 0.5, 2.0  # metres: drawn places from the walls, and from each other


def metres(place: Metres) -> str:
    """A place or a size as its flag takes it.

    Example:
        >>> metres((5.0, 4.0, 2.5))
        '5,4,2.5'
    """
    return ",".join(f"{length:.4g}" for length in place)


_DRAWN_PLACE = f"drawn, {FROM_WALLS:g} m and more from the walls, {NEAREST:g} to {FARTHEST:g} m from the"


@dataclass(frozen=True)
class CorruptionConfig(Settings, ABC):
    """How clean clips are corrupted."""

    @abstractmethod
    def label(self) -> str:
        """A few readable words for the name of a run."""

    @property
    def sources_are_corrupted(self) -> bool:
        """Whether a recording without a twin is the corrupted one, so that there is no clean clip."""
        return False

    @property
    def missing(self) -> float | None:
        """Seconds from which on zeros in a corrupted recording count as missing; None where nothing can be missing."""
        return None


def _stretches(name: str, text: str, expected: str) -> list[tuple[float, float]]:
    """Parse ``START:LENGTH,START:LENGTH,...`` as start and length in seconds of each stretch.

    Raises:
        BadInput: the text is no such list; the message names the setting.
    """
    try:
        pairs = [tuple(float(number) for number in stretch.split(":")) for stretch in text.split(",")]
        stretches = [(start, length) for start, length in pairs]
    except ValueError:
        stretches = []
    if not stretches or not all(abs(number) <= LONGEST_CLIP for pair in stretches for number in pair):  # nor NaN
        raise BadInput(f"{name} must be {expected} in seconds, got {shown(text)}")
    return stretches


@dataclass(frozen=True)
class NoiseConfig(CorruptionConfig):
    """Noise: how clean clips are corrupted (pairs come with their own noise)."""

    noise_class: str = setting("GAUSSIAN", "kind of noise", choices=("GAUSSIAN", "UNIFORM"))
    noise_source: Path | None = setting(
        None,
        "sound file, or folder of sound files, to take real noise from in place of --noise_class: "
        "a random stretch, looped if short",
        none="drawn noise",
    )
    snr: float | None = setting(
        2.5,
        "signal-to-noise ratio of the corrupted clip in dB",
        at_least=-100,
        at_most=100,
        none="the noise gets --noise_std",
    )
    noise_std: float = setting(
        0.1,
        "standard deviation of the noise; without effect unless --snr none, since mixing sets the level",
        above=0,
        at_most=1000,
    )
    level_dbfs: float | None = setting(
        None, "RMS level of the corrupted clip in dBFS", at_least=-100, at_most=0, none="drawn from -35 to -15"
    )
    noise_profile: str | None = setting(
        None,
        "stretches of a recording to restore that hold noise alone, as START:LENGTH,START:LENGTH,... in seconds; the "
        "spectrum of the noise is measured there",
        none="the noise is estimated from each block and 3 s on either side of it",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for start, length in self.profile:
            if start < 0 or length <= 0:
                raise BadInput(
                    "noise_profile must have stretches that start at 0 s or later and last longer than 0 s, "
                    f"got {start:g}:{length:g}"
                )
        if self.noise_source is not None and not self.noise_source.exists():
            raise BadInput(f"noise_source must be a sound file or a folder of them, got {shown(self.noise_source)}")

    def identity(self) -> dict[str, Any]:
        without_effect = {
            "noise_class": self.noise_source is not None,
            "noise_std": self.snr is not None,
            "noise_profile": self.noise_profile is None,
        }
        return {name: value for name, value in super().identity().items() if not without_effect.get(name)}

    @property
    def profile(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each stretch of ``noise_profile``."""
        if self.noise_profile is None:
            return []
        return _stretches("noise_profile", self.noise_profile, "START:LENGTH,START:LENGTH,...")

    def label(self) -> str:
        noise = self.noise_source.resolve().stem if self.noise_source else self.noise_class.lower()
        return f"{noise}-std{self.noise_std:g}" if self.snr is None else f"{noise}-{self.snr:g}dB"


@dataclass(frozen=True)
class ReverbConfig(CorruptionConfig):
    """Reverb: the room that clean clips are put into (pairs come with their own reverberation)."""

    rt60: float = setting(
        0.2, "reverberation time of the simulated room in seconds; the paper has 0.1, 0.2 and 0.5", above=0, at_most=10
    )
    room_dim: Metres | None = setting(
        None,
        "length, width and height of the room in metres, as X,Y,Z",
        at_least=1,
        at_most=100,
        none=f"drawn, from {metres(SMALLEST_ROOM)} to {metres(LARGEST_ROOM)}",
    )
    source_pos: Metres | None = setting(
        None,
        "place of the source in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} microphone",
    )
    mic_pos: Metres | None = setting(
        None,
        "place of the microphone in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} source",
    )
    ray_tracing: bool = setting(
        False, "ray tracing for all but the first three reflections, in place of the image method alone"
    )
    rir_source: Path | None = setting(
        None,
        "sound file, or folder of sound files, to take measured impulse responses from in place of a simulated room",
        none="a simulated room",
    )
    reference: str = setting(
        "direct",
        "what counts as clean: the sound by the direct path alone, the dry clip at the direct path's delay and gain, "
        "or the dry clip as the simulation is given it, sooner than it is heard",
        choices=("direct", "dry", "unaligned"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rir_source is not None and not self.rir_source.exists():
            raise BadInput(f"rir_source must be a sound file or a folder of them, got {shown(self.rir_source)}")

    def identity(self) -> dict[str, Any]:
        room = ("rt60", "room_dim", "source_pos", "mic_pos", "ray_tracing") if self.rir_source else ()
        return {name: value for name, value in super().identity().items() if name not in room}

    def label(self) -> str:
        return self.rir_source.resolve().stem if self.rir_source else f"rt60-{self.rt60:g}s"


@dataclass(frozen=True)
class GapConfig(CorruptionConfig):
    """Gap: the stretches that are taken out of clean clips (damaged recordings come with their own)."""

    gap_ms: float = setting(
        2.0, "length of each gap in milliseconds; the paper has 1, 2 and 5", above=0, at_most=LONGEST_GAP_MS
    )
    n_gaps: int = setting(1, "gaps in each clip, placed where it is not silent", at_least=1, at_most=1000)
    gaps: str | None = setting(
        None,
        "the gaps as START:LENGTH,START:LENGTH,... in seconds from the beginning of the clip (with --restore, of the "
        "recording); or auto: the sources are damaged recordings, and their drop-outs the gaps",
        none="--n_gaps drawn from the seed; with --restore, auto",
    )
    min_gap_ms: float = setting(
        1.0,
        f"shortest run of zeros that counts as a drop-out of a damaged recording, in milliseconds; runs over "
        f"{LONGEST_GAP_MS:g} ms, and those that do not break into sound, are silence",
        above=0,
        at_most=LONGEST_GAP_MS,
    )
    raw_output: bool = setting(
        False,
        "take the network's output everywhere, also outside the gaps, where the observed samples are kept otherwise",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        latest = 0.0
        for start, length in sorted(self.given):
            if start < 0 or length <= 0:
                raise BadInput(
                    f"gaps must begin at 0 s or later and last longer than 0 s, got {shown(f'{start:g}:{length:g}')}"
                )
            if start < latest - 1e-9:  # seconds: 0.1 + 0.2 is more than 0.3
                raise BadInput(f"gaps must not overlap, got {shown(f'{start:g}:{length:g}')} after one to {latest:g} s")
            latest = start + length

    @property
    def given(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each gap of ``gaps``; empty where it names none.

        Raises:
            BadInput: it is neither ``auto`` nor such a list.
        """
        if self.gaps is None or self.gaps == "auto":
            return []
        return _stretches("gaps", self.gaps, "auto or START:LENGTH,START:LENGTH,...")

    @property
    def sources_are_corrupted(self) -> bool:
        return self.gaps == "auto"

    @property
    def missing(self) -> float | None:
        return self.min_gap_ms / 1000

    def identity(self) -> dict[str, Any]:
        drawn = ("gap_ms", "n_gaps") if self.gaps else ()
        return {name: value for name, value in super().identity().items() if name not in drawn}

    def label(self) -> str:
        if self.gaps:
            return "gaps-auto" if self.gaps == "auto" else f"gaps-{len(self.given)}-given"
        return f"gaps-{self.n_gaps}x{self.gap_ms:g}ms"


NOT_OF_THE_NUMBERS = tuple(
    setting.name for group in (WorkConfig, ReportConfig) for setting in dataclasses.fields(group)
)
"""Settings on which no number depends, but for rounding."""

CORRUPTIONS: dict[str, type[CorruptionConfig]] = {
    "denoise": NoiseConfig,
    "dereverb": ReverbConfig,
    "inpaint": GapConfig,
}
"""The settings of each task's corruption."""

_FAST = {
    "epochs": 500,
    "lr": 5e-3,
    "crit": "L2",
    "channels": 32,
    "lstm_layers": 0,
    "resample": False,
    "pesq_every": 10,
}
_FAST_GAPS = {**_FAST, "lr": 1e-3, "crit": "L1", "channels": 64, "lstm_layers": 1}
_BLIND = {"samplerate": None, "stop": "holdout", "patience": 100}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": _FAST,
    "restore": {**_FAST, **_BLIND, "estimate": "mask", "highpass": None},
}
"""What each preset sets differently from the defaults."""

PRESETS_OF_TASK: dict[tuple[str, str], dict[str, Any]] = {
    ("fast", "inpaint"): _FAST_GAPS,
    ("restore", "inpaint"): {**_FAST_GAPS, **_BLIND, "stop": "wmv"},
    ("restore", "dereverb"): {**_FAST, **_BLIND},
}
"""Presets that set something else for one task: gaps are not filled by convolutions alone, the mask takes out noise."""


def preset_of(task: str, name: str) -> dict[str, Any]:
    """What a preset sets differently from the defaults for a task."""
    return PRESETS_OF_TASK.get((name, task), PRESETS[name])


@dataclass(frozen=True)
class Config:
    """All settings of one command, in groups."""

    task: str
    preset: str
    run: RunConfig
    restoration: RestoreConfig
    clip: ClipConfig
    corruption: CorruptionConfig
    generator: GeneratorConfig
    fit: FitConfig
    stop: StopConfig
    metrics: MetricConfig
    work: WorkConfig
    report: ReportConfig

    @classmethod
    def of(cls, task: str, preset: str = "paper", **settings: Any) -> Config:
        """The preset, with single settings changed by name.

        Raises:
            BadInput: an unknown preset or setting, or a value out of bounds.

        Example:
            >>> Config.of("denoise", "fast", epochs=10).fit.epochs
            10
        """
        if preset not in PRESETS:
            raise BadInput(f"preset must be one of {', '.join(PRESETS)}, got {shown(preset)}")
        groups = groups_of(task)
        names = {setting.name for group in groups.values() for setting in dataclasses.fields(group)}
        for name in settings.keys() - names:
            near = difflib.get_close_matches(name, names, n=1)
            raise BadInput(f"there is no setting {shown(name)}" + (f": did you mean {near[0]}?" if near else ""))
        values = {**preset_of(task, preset), **settings}
        made: dict[str, Any] = {
            key: group(**{s.name: values[s.name] for s in dataclasses.fields(group) if s.name in values})
            for key, group in groups.items()
        }
        config = cls(task=task, preset=preset, **made)
        if task != "denoise" and config.stop.estimate == "mask":
            raise BadInput(f"estimate mask takes noise out and does nothing else: got it for the task {task}")
        if task == "inpaint" and config.fit.highpass != 0:
            got = flag_of("highpass", config.fit.highpass).removeprefix("--highpass ")
            raise BadInput(f"highpass must be 0 where gaps are filled, got {got}")
        return config

    def effective(self) -> dict[str, Any]:
        """The settings that have an effect with the others as they are, by name."""
        settings: dict[str, Any] = {"task": self.task}
        for key in groups_of(self.task):
            settings |= getattr(self, key).identity()
        if self.restoration.restore:  # nothing is chosen, corrupted or judged
            kept = (RestoreConfig, GeneratorConfig, FitConfig, StopConfig, WorkConfig)
            names = {setting.name for group in kept for setting in dataclasses.fields(group)}
            names |= {"task", "source", "overwrite", "samplerate", "ema", "gaps", "min_gap_ms", "raw_output"}
            names |= {"noise_profile"} if self.stop.estimate == "mask" else set()
            names |= {"quiet", "json"}
            settings = {name: value for name, value in settings.items() if name in names}
            if settings.get("gaps") not in (None, "auto"):  # without any they are looked for, too
                settings.pop("min_gap_ms")
            if self.task == "inpaint":  # filled samples are taken as they are
                settings.pop("strength")
        else:
            settings.pop("noise_profile", None)
        return settings


def groups_of(task: str) -> dict[str, type[Settings]]:
    """The groups of settings of a task, by their names in ``Config``, in the order a reader meets them."""
    return {
        "run": RunConfig,
        "restoration": RestoreConfig,
        "clip": ClipConfig,
        "corruption": CORRUPTIONS[task],
        "generator": GeneratorConfig,
        "fit": FitConfig,
        "stop": StopConfig,
        "metrics": MetricConfig,
        "work": WorkConfig,
        "report": ReportConfig,
    }
