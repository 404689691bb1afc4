"""The section of a report for each repetition."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp.errors import printable
from dawp.methods.deep_prior.stopping.base import RULES
from dawp.metrics.base import OUTPUT, Measurement, measurements
from dawp.parallel.progress import format_duration
from dawp.report import pictures
from dawp.report.assets import Assets, Picture, encode_webp
from dawp.report.gaps import gap_errors, spans_of
from dawp.report.tables import format_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FRAMES = 500  # of a spectrogram
MAX_GAP_ROWS = 20
FAINT = 0.25  # RMS relative to the corrupted clip (-12 dB): fainter sounds do not lower the volume of the others

UNITS = {
    "snr_db": "SNR (dB)",
    "level_dbfs": "level (dBFS)",
    "rt60": "RT60 (s)",
    "rt60_asked": "requested RT60 (s)",
    "drr_db": "direct to reverberant (dB)",
    "room_dim": "room (m)",
    "source_pos": "source at (m)",
    "mic_pos": "microphone at (m)",
}
"""Names and units of the numbers of a corruption."""


@dataclass(frozen=True)
class Sound:
    """A sound with its player and its spectrogram.

    Attributes:
        volume: of the player, such that all sounds of a clip have the same RMS level.
        values: its metrics.
    """

    title: str
    src: str
    volume: float
    spectrogram: Picture
    values: list[str]


@dataclass(frozen=True)
class Curves:
    """The picture of the curves, and the position of its axis as fractions of its width."""

    picture: Picture
    epochs: int
    left: float = pictures.MARGINS[0] / pictures.WIDTH
    right: float = 1 - pictures.MARGINS[1] / pictures.WIDTH


@dataclass(frozen=True)
class GapTable:
    """SNR and SI-SNR of each sound in the gaps.

    Attributes:
        sounds: titles of the sounds.
        rows: a label, and the SNR and the SI-SNR of each sound as text.
    """

    sounds: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


@dataclass
class Clip:
    """A repetition."""

    number: int
    name: str
    path: str = ""
    missing: list[str] = field(default_factory=list)
    error: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    curves: Curves | None = None
    gaps: GapTable | None = None
    figures: list[Picture] = field(default_factory=list)
    rate: int = 0
    length: float = 0.0  # seconds


def make_clip(repetition_dir: Path, facts: dict[str, Any] | None, epochs: int, assets: Assets) -> Clip:
    """Return the section of a repetition. ``facts`` is None if it is not finished."""
    number, _, name = repetition_dir.name.partition("_")
    clip = Clip(int(number), name)
    columns: dict[str, NDArray[Any]] = {}
    if (repetition_dir / "metrics.csv").is_file():
        columns = pictures.read_columns(repetition_dir / "metrics.csv")
    if facts:
        clip.name, clip.path = printable(Path(facts["recording"]).name), printable(facts["recording"])
        clip.error, clip.facts = facts["error"], _facts_of_clip(facts)
    else:
        done = len(columns["epoch"]) if columns else 0
        clip.missing.append(f"the fit is not finished: metrics up to epoch {done} of {epochs} so far")
    sounds = pictures.load_sounds(repetition_dir)
    loaded = {path: samples for path, (samples, _) in sounds.items()}
    for samples, rate in sounds.values():
        clip.rate, clip.length = rate, len(samples) / rate
    expected = ["corrupted", "restored", *(["clean"] if facts and facts["best"] else [])]
    clip.missing += [f"{what}.wav" for what in expected if facts and repetition_dir / f"{what}.wav" not in loaded]
    if loaded:
        _add_sounds(repetition_dir, clip, loaded, facts, columns, assets)
    if columns and len(columns["epoch"]):
        alt = f"Metrics and loss of {clip.name} against the epoch{_describe_curves(facts or {})}"
        clip.curves = Curves(
            assets.repetition_picture(repetition_dir, "curves.png", pictures.draw_curves, facts, alt),
            len(columns["epoch"]),
        )
    if facts and facts["corruption"].get("gaps"):
        alt = f"Waveforms around the first gaps of {clip.name}, as they were and as they were filled"
        clip.figures.append(assets.repetition_picture(repetition_dir, "gaps.png", pictures.draw_gaps, facts, alt))
        clip.gaps = _gap_table(repetition_dir, loaded, clip.rate, facts["corruption"]["gaps"])
    if facts and (repetition_dir / "rir.wav").is_file():
        alt = f"Impulse response of the room of {clip.name}, and its decay"
        clip.figures.append(assets.repetition_picture(repetition_dir, "room.png", pictures.draw_room, facts, alt))
    return clip


def _add_sounds(
    repetition_dir: Path,
    clip: Clip,
    loaded: dict[Path, NDArray[Any]],
    facts: dict[str, Any] | None,
    columns: dict[str, NDArray[Any]],
    assets: Assets,
) -> None:
    """Add the sounds and the saved outputs to a clip."""
    import numpy as np
    from PIL.Image import fromarray

    scale = 1 / max(1.0, *(float(np.abs(samples).max()) for samples in loaded.values()))
    magnitudes = dict(zip(loaded, pictures.magnitudes(loaded.values(), MAX_FRAMES), strict=True))
    loudest = max(float(magnitude.max()) for magnitude in magnitudes.values())
    volumes = _volumes({path: float(np.sqrt(np.mean(np.square(s)))) for path, s in loaded.items()}, repetition_dir)
    for path, samples in loaded.items():
        epoch = int(path.stem.removeprefix("epoch_")) if path.parent != repetition_dir else None
        title = pictures.title_of(path.stem) if epoch is None else f"the output at epoch {epoch}"
        alt = f"Spectrogram of {title} of {clip.name}, 0 to {clip.rate / 2000:g} kHz, {clip.length:.2f} s"
        pixels = pictures.spectrogram_pixels(magnitudes[path], loudest)
        sound = Sound(
            title,
            assets.sound(path, samples, clip.rate, scale),
            volumes[path],
            assets.picture(encode_webp(fromarray(pixels)), alt),
            _values(path.stem, facts) if epoch is None else _values_at(epoch, columns),
        )
        if epoch is None:
            clip.sounds.append(sound)
        else:
            clip.outputs.append({**vars(sound), "epoch": epoch, "spectrogram": vars(sound.spectrogram)})


def _volumes(rms: dict[Path, float], repetition_dir: Path) -> dict[Path, float]:
    """Return the volumes from 0 to 1 at which all sounds have the RMS level of the softest one.

    Faint sounds, such as the first outputs, do not count: they would make all others faint.
    """
    loud = rms.get(repetition_dir / "corrupted.wav", max(rms.values()))
    softest = min((level for level in rms.values() if level >= FAINT * loud), default=loud)
    return {path: min(1.0, softest / level) if level else 1.0 for path, level in rms.items()}


def _describe_curves(facts: dict[str, Any]) -> str:
    """Describe the curves in words."""
    parts = [
        f"{measurement.label} of the corrupted clip {format_number(facts['input'][name])}, "
        f"best {format_number(best['value'])} at epoch {best['epoch']}"
        for name, best in (facts.get("best") or {}).items()
        if (measurement := Measurement.parse(name)).estimate == OUTPUT and best["epoch"] is not None
    ]
    if facts.get("restored"):
        parts.append(f"blind stop at epoch {facts['restored']['epoch']}")
    parts += [
        f"smallest {RULES[name].label or name} at epoch {stop['epoch']}"
        for name, stop in (facts.get("blind") or {}).items()
        if name in RULES and RULES[name].has_curve
    ]
    return "".join(f"; {part}" for part in parts)


def _values(name: str, facts: dict[str, Any] | None) -> list[str]:
    """Return the metrics of a sound, by the name of its file."""
    if not facts:
        return []
    kind, _, what = name.partition("_")
    if kind == "best":
        best = facts["best"].get(what)
        if not best or best["epoch"] is None:
            return []
        measurement = Measurement.parse(what)
        check = measurement.check
        checked = [f"{check.label} {format_number(best[check.metric])}"] if check and check.metric in best else []
        value = f"{measurement.label} {format_number(best['value'])} ({format_number(best['gain'], '+.2f')})"
        return [f"epoch {best['epoch']}", value, *checked]
    if kind == "corrupted":
        return [f"{Measurement.parse(metric).label} {format_number(value)}" for metric, value in facts["input"].items()]
    evaluation = facts["restored"] if kind == "restored" else facts["baselines"].get(what)
    if not evaluation:
        return []
    epoch = [f"epoch {evaluation['epoch']}"] if evaluation["epoch"] is not None else []
    return epoch + [
        f"{measurement.label} {format_number(value['value'])} ({format_number(value['gain'], '+.2f')})"
        for metric, value in evaluation["metrics"].items()
        if (measurement := Measurement.parse(metric)).estimate == OUTPUT
    ]


def _gap_table(folder: Path, loaded: dict[Path, NDArray[Any]], rate: int, gaps: list[list[float]]) -> GapTable | None:
    """Return the errors in the gaps, the mean over all gaps first; None without a clean clip to compare with."""
    import numpy as np

    paths = {name: folder / f"{name}.wav" for name in pictures.fills_of(folder)}
    sounds = {name: loaded[path] for name, path in paths.items() if path in loaded}
    if len(sounds) < 2 or "clean" not in sounds:
        return None
    errors = gap_errors(sounds, spans_of(gaps, rate))

    def values(which: slice) -> list[tuple[str, str]]:
        pairs = [(np.array(error.snr[which]), np.array(error.si_snr[which])) for error in errors.values()]
        means = [[float(v[np.isfinite(v)].mean()) if np.isfinite(v).any() else None for v in pair] for pair in pairs]
        return [(format_number(snr), format_number(si_snr)) for snr, si_snr in means]

    rows = [(f"mean of {len(gaps)}", values(slice(None)))]
    for index, (start, length) in enumerate(gaps[:MAX_GAP_ROWS]):
        rows.append((f"{start:.3f} s, {1000 * length:.3g} ms", values(slice(index, index + 1))))
    return GapTable([pictures.title_of(name) for name in errors], rows)


def _values_at(epoch: int, columns: dict[str, NDArray[Any]]) -> list[str]:
    """Return the metrics of the output of an epoch."""
    if not columns or epoch > len(columns["epoch"]):
        return []
    present = [one for one in measurements() if one.name in columns]
    values = ((one.label, float(columns[one.name][epoch - 1])) for one in present)
    return [f"{label} {format_number(value)}" for label, value in values if math.isfinite(value)]


def _facts_of_clip(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers of the corruption and of the fit."""
    rows = [
        (UNITS.get(name, name.replace("_", " ")), _fact(value))
        for name, value in facts["corruption"].items()
        if name != "gaps"
    ]
    gaps = facts["corruption"].get("gaps")
    if gaps:
        rows.append(("gaps", f"{len(gaps)}, {1000 * sum(length for _, length in gaps):.3g} ms in all"))
    length = f"{facts['samples'] / facts['sample_rate']:.2f} s at {facts['sample_rate']} Hz"
    return [
        *rows,
        ("length", length),
        ("epochs run", str(facts["epochs_run"])),
        ("time", format_duration(facts["seconds"])),
    ]


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_fact(part) for part in value)
    if isinstance(value, float):
        return format_number(value, ".3g")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else printable(value)
