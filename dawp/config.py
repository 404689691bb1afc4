"""Every setting of the toolkit: its default, its bounds and the sentence that explains it, each written once.

The defaults are preset "paper"; the command line, the library and the README's table of flags are made from
these classes or tested against them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dawp.errors import BadInput, shown
from dawp.io.files import safe_name

MIN_LENGTH = 64  # samples: the shortest clip
LONGEST_CLIP = 86400.0  # seconds
LONGEST_GAP_MS = 100.0

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


def _setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    none: str = "",
    none_word: str = "none",
    short: str | None = None,
) -> Any:
    """A dataclass field with what the command line has to know; ``none`` says what None, or its word, stands for."""
    bounds = [
        (word, bound, test)
        for word, bound, test in (
            ("at least", at_least, operator.ge),
            ("above", above, operator.gt),
            ("at most", at_most, operator.le),
            ("below", below, operator.lt),
        )
        if bound is not None
    ]
    metadata = {
        "help": help,
        "choices": choices,
        "bounds": bounds,
        "none": none,
        "none_word": none_word,
        "short": short,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Base of the groups of settings: checks every value when it is made.

    Raises:
        BadInput: a value of the wrong kind or out of bounds; the message names the setting and the value.
    """

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            object.__setattr__(self, setting.name, _checked(setting, type(self), getattr(self, setting.name)))

    def identity(self) -> dict[str, Any]:
        """The settings that the numbers of a run depend on."""
        return dataclasses.asdict(self)


_types = cache(get_type_hints)  # which evaluates all annotations of a group at each call


def kind_of(setting: dataclasses.Field[Any], group: type) -> type[Any]:
    """The type of a setting's values, None aside."""
    annotation = _types(group)[setting.name]
    if NoneType in get_args(annotation):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    kind: type[Any] = get_origin(annotation) or annotation
    return kind


def may_be_none(setting: dataclasses.Field[Any], group: type) -> bool:
    """Whether None is among a setting's values."""
    return NoneType in get_args(_types(group)[setting.name])


def flag_of(name: str, value: Any) -> str:
    """A setting as it would be given.

    Example:
        >>> flag_of("glu", False), flag_of("lr", 0.001)
        ('--no_glu', '--lr 0.001')
    """
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    if value is None:
        return f"--{name} {_none_words().get(name, 'none')}"
    return f"--{name} {','.join(map(text_of, value)) if isinstance(value, tuple | list) else text_of(value)}"


@cache
def _none_words() -> dict[str, str]:
    """The word that stands for None, by the name of the setting."""
    groups = [group for task in CORRUPTIONS for group in groups_of(task).values()]
    return {setting.name: setting.metadata["none_word"] for group in groups for setting in dataclasses.fields(group)}


def text_of(value: Any) -> str:
    """A setting's value as a flag takes it or a table shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)


def _checked(setting: dataclasses.Field[Any], group: type, value: Any) -> Any:
    """``value`` in the setting's own type, or BadInput."""
    kind, bounds, choices = kind_of(setting, group), setting.metadata["bounds"], setting.metadata["choices"]
    none_word = setting.metadata["none_word"]
    if may_be_none(setting, group) and (value is None or (isinstance(value, str) and value == none_word != "none")):
        return None
    words = {
        **{int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"},
        tuple: "three numbers X,Y,Z, each",
    }
    expected = f"one of {', '.join(choices)}" if choices else words[kind]
    expected += "".join(f"{' and' if i else ''} {word} {bound:g}" for i, (word, bound, _) in enumerate(bounds))
    if setting.metadata["none"]:
        expected += f", or {none_word} ({setting.metadata['none']})"
    refusal = BadInput(f"{setting.name} must be {expected}, got {shown(value)}")

    if kind is Path and isinstance(value, str) and value:
        value = Path(value)
    if kind is tuple:
        value = _three(value, refusal)
    if isinstance(value, numbers.Number) and not isinstance(value, bool):  # numpy's numbers, too
        if kind is float and isinstance(value, numbers.Real):
            try:
                value = float(value)
            except OverflowError:  # a whole number beyond all floats
                raise refusal from None
        if kind is int and isinstance(value, numbers.Integral):
            value = int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise refusal
    if choices and value not in choices:
        raise refusal
    for number in value if kind is tuple else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise refusal
        if not all(test(number, bound) for _, bound, test in bounds):
            raise refusal
    return value


def _three(value: Any, refusal: BadInput) -> Metres:
    """Three numbers, from a sequence or from text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        x, y, z = (float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        raise refusal from None
    return x, y, z


@dataclass(frozen=True)
class ClipConfig(Settings):
    """Clip: the stretch of a recording that is worked on."""

    samplerate: int | None = _setting(
        16000,
        "working sample rate in Hz; recordings of other rates are resampled",
        at_least=1000,
        at_most=192000,
        none="each recording's own",
    )
    clip_length: float = _setting(
        2.0, "seconds taken of each recording; 0 takes it whole", at_least=0, at_most=LONGEST_CLIP
    )
    trim_start: float = _setting(
        0.0, "seconds to leave out at the start of each recording", at_least=0, at_most=LONGEST_CLIP
    )
    quiet_thresh: float = _setting(
        0.2,
        "pass over stretches of which more than this share is silent "
        "(25 ms frames over 50 dB below the recording's loudest)",
        at_least=0,
        at_most=1,
    )
    align: bool = _setting(
        False,
        "remove the lag between the two recordings of a pair, of up to 1 s, to the nearest sample, and cut both to "
        "their common part; a lag from 1 ms is reported in any case",
    )


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

    noise_class: str = _setting("GAUSSIAN", "kind of noise", choices=("GAUSSIAN", "UNIFORM"))
    noise_source: Path | None = _setting(
        None,
        "sound file, or folder of sound files, to take real noise from in place of --noise_class: "
        "a random stretch, looped if short",
        none="drawn noise",
    )
    snr: float | None = _setting(
        2.5,
        "signal-to-noise ratio of the corrupted clip in dB",
        at_least=-100,
        at_most=100,
        none="the noise gets --noise_std",
    )
    noise_std: float = _setting(
        0.1,
        "standard deviation of the noise; without effect unless --snr none, since mixing sets the level",
        above=0,
        at_most=1000,
    )
    level_dbfs: float | None = _setting(
        None, "RMS level of the corrupted clip in dBFS", at_least=-100, at_most=0, none="drawn from -35 to -15"
    )
    noise_profile: str | None = _setting(
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

    rt60: float = _setting(
        0.2, "reverberation time of the simulated room in seconds; the paper has 0.1, 0.2 and 0.5", above=0, at_most=10
    )
    room_dim: Metres | None = _setting(
        None,
        "length, width and height of the room in metres, as X,Y,Z",
        at_least=1,
        at_most=100,
        none=f"drawn, from {metres(SMALLEST_ROOM)} to {metres(LARGEST_ROOM)}",
    )
    source_pos: Metres | None = _setting(
        None,
        "place of the source in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} microphone",
    )
    mic_pos: Metres | None = _setting(
        None,
        "place of the microphone in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} source",
    )
    ray_tracing: bool = _setting(
        False, "ray tracing for all but the first three reflections, in place of the image method alone"
    )
    rir_source: Path | None = _setting(
        None,
        "sound file, or folder of sound files, to take measured impulse responses from in place of a simulated room",
        none="a simulated room",
    )
    reference: str = _setting(
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

    gap_ms: float = _setting(
        2.0, "length of each gap in milliseconds; the paper has 1, 2 and 5", above=0, at_most=LONGEST_GAP_MS
    )
    n_gaps: int = _setting(1, "gaps in each clip, placed where it is not silent", at_least=1, at_most=1000)
    gaps: str | None = _setting(
        None,
        "the gaps as START:LENGTH,START:LENGTH,... in seconds from the beginning of the clip (with --restore, of the "
        "recording); or auto: the sources are damaged recordings, and their drop-outs the gaps",
        none="--n_gaps drawn from the seed; with --restore, auto",
    )
    min_gap_ms: float = _setting(
        1.0,
        f"shortest run of zeros that counts as a drop-out of a damaged recording, in milliseconds; runs over "
        f"{LONGEST_GAP_MS:g} ms, and those that do not break into sound, are silence",
        above=0,
        at_most=LONGEST_GAP_MS,
    )
    raw_output: bool = _setting(
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


@dataclass(frozen=True)
class GeneratorConfig(Settings):
    """Generator: the network."""

    generator: str = _setting(
        "demucs",
        "the paper's waveform Demucs, or its baseline Wave-U-Net with settings of its own",
        choices=("demucs", "waveunet"),
    )
    depth: int = _setting(2, "convolution blocks in the encoder, and in the decoder", at_least=1, at_most=8)
    channels: int = _setting(
        64, "channels of the first block; each further block has twice as many", at_least=2, at_most=4096
    )
    lstm_layers: int = _setting(4, "layers of the bidirectional LSTM at the bottom; 0 for none", at_least=0, at_most=64)
    attention_layers: int = _setting(
        0, "layers of a transformer encoder in the LSTM's place (with --lstm_layers 0)", at_least=0, at_most=64
    )
    attention_heads: int = _setting(2, "attention heads of each transformer layer", at_least=1, at_most=1024)
    glu: bool = _setting(False, "gated linear units in place of the ReLU after the 1x1 and context convolutions")
    skip: bool = _setting(False, "skip connections between encoder and decoder")
    resample: bool = _setting(True, "run the network at twice the sample rate")
    waveunet_levels: int = _setting(
        12, "levels of the Wave-U-Net, each at half the rate of the one above", at_least=1, at_most=16
    )
    waveunet_filters: int = _setting(
        24, "channels that each level of the Wave-U-Net has more than the one above", at_least=1, at_most=4096
    )
    waveunet_output: str = _setting("tanh", "end of the Wave-U-Net", choices=("tanh", "linear"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lstm_layers and self.attention_layers:
            raise BadInput(
                f"lstm_layers ({self.lstm_layers}) and attention_layers ({self.attention_layers}) "
                "cannot both be used: set one of them to 0"
            )
        width = self.channels * 2 ** (self.depth - 1)
        if self.attention_layers and width % self.attention_heads:
            raise BadInput(
                f"attention_heads must divide the {width} channels at the bottom, got {self.attention_heads}"
            )

    def identity(self) -> dict[str, Any]:
        waveunet = self.generator == "waveunet"
        return {
            name: value
            for name, value in super().identity().items()
            if (name == "generator" or name.startswith("waveunet") == waveunet)
            and (name != "attention_heads" or self.attention_layers)
        }


@dataclass(frozen=True)
class FitConfig(Settings):
    """Fit: the loop over epochs."""

    epochs: int = _setting(3000, "epochs: Adam steps on the whole clip", at_least=1, at_most=10**7, short="-e")
    lr: float = _setting(1e-4, "learning rate of Adam", above=0, at_most=1e30)
    crit: str = _setting("L1", "loss: mean absolute (L1) or mean squared (L2) difference", choices=("L1", "L2"))
    normalize: bool = _setting(True, "fit at unit RMS whatever the clip's level; the output is scaled back")
    input_noise: str = _setting("uniform", "distribution of the network's input noise", choices=("gaussian", "uniform"))
    input_std: float | None = _setting(
        None, "standard deviation of the input noise", above=0, at_most=1e6, none="gaussian 0.1, uniform from -1 to 1"
    )
    resample_input: bool = _setting(False, "draw the input noise anew each epoch, as the paper's text says")
    highpass: float | None = _setting(
        0.0,
        "remove what lies below this frequency in Hz before the fit (Butterworth, zero phase); 0 for nothing",
        at_least=0,
        at_most=1000,
        none="20 Hz where there is strong rumble below it, else nothing",
        none_word="auto",
    )
    compile: bool = _setting(
        False, "compile the network before the fit (torch.compile; a C++ compiler is needed): for many epochs on CUDA"
    )
    seed: int = _setting(0, "seed of every random draw", at_least=0, at_most=2**63 - 1)
    device: str = _setting("auto", "auto (CUDA where there is one), cpu, cuda, cuda:N or mps")


@dataclass(frozen=True)
class StopConfig(Settings):
    """Stop: where the fit is stopped without a look at the clean clip, and what is taken then."""

    stop: str = _setting(
        "wmv",
        "what tells that the output begins to follow the corruption: holdout, the error on samples kept out of the "
        "loss; wmv, the windowed moving variance of the outputs; epochs, nothing, so that the last epoch counts",
        choices=("holdout", "wmv", "epochs"),
    )
    holdout: float = _setting(
        0.02, "share of the samples that --stop holdout keeps out of the loss", above=0, at_most=0.5
    )
    patience: int | None = _setting(
        None,
        "end the fit so many epochs after its stop, if none better has come since (looked for every 50 epochs on CUDA)",
        at_least=1,
        at_most=10**7,
        none="all epochs are run",
    )
    estimate: str = _setting(
        "mean",
        "what is taken at the stop: the output; the running mean of outputs, if --ema is not 0; or the mask: that mean "
        "and the corrupted clip put together, and a spectral gain on both (noise only)",
        choices=("output", "mean", "mask"),
    )
    fits: int = _setting(
        1,
        "independent fits of each clip, from other first weights; the mean of what each has at its own stop is taken",
        at_least=1,
        at_most=1000,
    )
    mask_floor: float = _setting(
        -12.0, "gain in dB that the mask never goes below: how much of the noise is left", at_least=-100, at_most=0
    )

    def identity(self) -> dict[str, Any]:
        without = {"holdout": (), "wmv": ("holdout",), "epochs": ("holdout", "patience")}[self.stop]
        if self.estimate != "mask":
            without = (*without, "mask_floor")
        return {name: value for name, value in super().identity().items() if name not in without}


@dataclass(frozen=True)
class MetricConfig(Settings):
    """Metrics: how estimates are judged, by the clean clip."""

    pesq_every: int = _setting(1, "compute PESQ every so many epochs", at_least=1, at_most=10**9)
    ema: float = _setting(
        0.98, "decay of the running mean of outputs, the second estimate; 0 for none", at_least=0, below=1
    )
    zero_mean: bool = _setting(False, "subtract the means before SI-SNR")
    data_range: float | None = _setting(
        2.0,
        "peak of PSNR: the range of amplitudes",
        above=0,
        at_most=1e6,
        none="the clean clip's maximum minus its minimum",
    )
    baselines: bool = _setting(
        False, "also judge what one would use instead: classical methods, from the packages of the extra baselines"
    )
    show_estimates_vs_noise: bool = _setting(
        False, "also track each metric between the estimates and the corrupted clip, and plot it"
    )


@dataclass(frozen=True)
class RunConfig(Settings):
    """Run: where from, where to, how often."""

    source: Path | None = _setting(
        None,
        "sound file, folder (searched in depth), text list of files, or text list of clean,corrupted pairs",
        none="the bundled clips",
    )
    experiment_repetition: int | None = _setting(
        None,
        "number of repetitions, cycling through the recordings",
        at_least=1,
        at_most=10**6,
        none="each recording once",
    )
    output_dir: Path = _setting(Path("evals"), "folder for the results of all runs")
    name: str | None = _setting(None, "name of this run's folder", none="made from the settings")
    overwrite: bool = _setting(
        False, "delete this run's earlier results and begin anew; with --restore, replace restored files that are there"
    )
    show_every: int = _setting(250, "epochs between renewals of metrics.csv and curves.png", at_least=1, at_most=10**9)
    save_outputs: bool = _setting(
        False, "every --show_every epochs also save the output: sound, waveform and spectrogram"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name != safe_name(self.name, longest=100)):
            raise BadInput(
                "name must be a plain folder name of at most 100 letters, digits, dots, dashes and underscores "
                f"with a letter or digit at both ends, got {shown(self.name)}"
            )


@dataclass(frozen=True)
class RestoreConfig(Settings):
    """Restore: recordings that have no clean version, each from beginning to end into one file."""

    restore: bool = _setting(
        False,
        "the sources are corrupted recordings (of a pair the second): nothing is added to them, and each is restored "
        "whole, at its own rate and with its own channels",
    )
    output: Path | None = _setting(
        None,
        "file for one recording, or folder for the restored tree of several; an unfinished restoration goes on where "
        "it was, a finished one is only replaced with --overwrite",
        none="the folder restored",
        short="-o",
    )
    output_format: str | None = _setting(
        None,
        "format of the restored files",
        choices=("wav", "flac", "ogg"),
        none="by the suffix of --output, else the recording's",
    )
    subtype: str | None = _setting(
        None, "sample type of the restored files, as PCM_16, PCM_24 or FLOAT", none="the recording's, or the nearest"
    )
    strength: float = _setting(
        1.0,
        "fraction of the removed signal that is removed (denoise, dereverb): 1 applies the full restoration, 0 returns "
        "the recording",
        at_least=0,
        at_most=1,
    )
    save_removed: Path | None = _setting(
        None,
        "also write what was removed, the recording minus the restored samples before --clip_mode applies, to this "
        "file; for several recordings to files in this folder",
        none="it is not written",
    )
    clip_mode: str = _setting(
        "rescale",
        "what becomes of samples beyond full scale where the sample type ends there: the whole file is made softer, "
        "or they are cut",
        choices=("rescale", "clamp"),
    )
    block: float = _setting(
        4.0, "seconds at most of each block that a recording is cut into, each fitted by itself", above=0, at_most=600
    )
    overlap: float = _setting(
        0.5, "seconds by which blocks overlap, and over which one fades into the next", at_least=0, at_most=300
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and not self.restore:
            raise BadInput(f"output is the file of a restored recording and needs --restore, got {shown(self.output)}")
        if self.save_removed is not None and not self.restore:
            raise BadInput(f"save_removed needs --restore, got {shown(self.save_removed)}")
        if self.overlap > self.block / 2:
            half = f"half the block of {self.block:g} s"
            raise BadInput(f"overlap must be at most {half}, got {self.overlap:g}: a block and an overlap go together")

    def identity(self) -> dict[str, Any]:
        return super().identity() if self.restore else {}


@dataclass(frozen=True)
class WorkConfig(Settings):
    """Work: how fits share processor cores, GPUs and machines, and what an interruption costs."""

    workers: int | None = _setting(
        None,
        "processes that fit at the same time, where there are several fits to do; the numbers do not depend on it",
        at_least=1,
        at_most=4096,
        none="as many as the processor cores, or --fits_per_gpu for each GPU, allow",
        none_word="auto",
    )
    threads: int | None = _setting(
        None,
        "processor threads of each fit; rounding depends on it",
        at_least=1,
        at_most=4096,
        none="all cores for a single fit, 1 where there are several to do",
        none_word="auto",
    )
    fits_per_gpu: int = _setting(1, "fits that share a GPU", at_least=1, at_most=256)
    checkpoint_every: float | None = _setting(
        60.0,
        "seconds between checkpoints of a fit, from which the same command goes on after an interruption; "
        "they are rarer where one takes longer than a twentieth of that",
        above=0,
        at_most=1e6,
        none="no checkpoints",
    )
    executor: str = _setting(
        "local",
        "where fits are done: local, on this machine; ray, on a Ray cluster (extra cluster)",
        choices=("local", "ray"),
    )
    ray_address: str | None = _setting(
        None,
        "the Ray cluster to connect to: auto, HOST:PORT or ray://HOST:PORT",
        none="that of RAY_ADDRESS or of this machine, else one is started here",
    )

    def identity(self) -> dict[str, Any]:
        without = "workers" if self.executor == "ray" else "ray_address"
        return {name: value for name, value in super().identity().items() if name != without}


@dataclass(frozen=True)
class ReportConfig(Settings):
    """Report: what is told of a run, and where."""

    report: bool = _setting(
        True, "write report.html into the run's folder: all sounds, pictures and numbers on one page"
    )
    pictures: bool = _setting(True, "draw the pictures in the repetitions' folders: a second or two for each")
    tensorboard: Path | None = _setting(
        None,
        "folder to write curves, spectrograms and sounds to for TensorBoard (extra tensorboard)",
        none="nothing is written for it",
    )
    quiet: bool = _setting(
        False,
        "no progress bars, notices and tables: only warnings and errors, and on standard output the results' path",
    )
    json: bool = _setting(
        False, "in place of the table write one JSON object to standard output: folder, failures and summary"
    )


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
