"""Pictures of a repetition, drawn from the files in its folder."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp.files import whole
from dawp.stopping import EMA
from dawp.summary import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

N_FFT, HOP = 512, 128
DYNAMIC_RANGE_DB = 80
MOST_GAPS = 6  # in one picture
GAP_CONTEXT = 0.006  # seconds shown on either side of a gap

SOUNDS = {
    "corrupted": "corrupted",
    "best_gap_si_snr": "best (oracle gap SI-SNR)",
    "best_si_snr": "best (oracle SI-SNR)",
    "restored": "restored (blind)",
    "clean": "clean",
}
"""The sounds of a repetition that are drawn, by file name, with their titles."""

# Okabe and Ito's colours, told apart by colour-blind readers too.
OUTPUT, MEAN, CORRUPTED, AGAINST = "#0072B2", "#E69F00", "#D55E00", "#009E73"
CLEAN, GAP_SHADE = "#000000", "#DDDDDD"


def draw_repetition(folder: Path, facts: dict[str, Any]) -> None:
    """Draw every picture whose data lie in the folder: curves, spectrograms, saved outputs not drawn yet.

    Args:
        folder: of one repetition.
        facts: the content of its result.json; empty while the fit is going on.
    """
    draw_curves(folder, facts)
    present = {title: folder / f"{name}.wav" for name, title in SOUNDS.items() if (folder / f"{name}.wav").exists()}
    if facts:
        _draw_sounds(folder / "spectrograms.png", present, _spectrogram)
        gaps = facts["corruption"].get("gaps")
        if gaps:
            _draw_gaps(folder / "gaps.png", present, gaps)
    for output in sorted(folder.glob("outputs/*.wav")):
        epoch = int(output.stem.removeprefix("epoch_"))
        sounds = {"corrupted": present["corrupted"], f"output at epoch {epoch}": output}
        sounds |= {title: path for title, path in present.items() if title == "clean"}
        for kind, panel in (("waveforms", _waveform), ("spectrograms", _spectrogram)):
            picture = output.with_name(f"{output.stem}_{kind}.png")
            if not picture.exists():
                _draw_sounds(picture, sounds, panel)


def draw_curves(folder: Path, facts: dict[str, Any]) -> None:
    """curves.png: each metric and the loss against the epoch, with the corrupted clip's level and the best epoch."""
    columns = _read_columns(folder / "metrics.csv")
    metrics = [name for name in columns if name in LABELS]
    figure, axes = _figure(len(metrics) + 1)
    for axis, metric in zip(axes, metrics, strict=False):
        for name, label, colour in (
            (metric, "output", OUTPUT),
            (EMA + metric, "running mean", MEAN),
            (f"{metric}_vs_corrupted", "output, against the corrupted clip", AGAINST),
        ):
            if name in columns:
                axis.plot(*_measured(columns, name), color=colour, label=label, linewidth=1)
        if facts:
            _mark(axis, facts, metric)
        axis.set_ylabel(LABELS[metric])
        _crop(axis, metric, columns, facts)
        if axis.lines:
            axis.legend(fontsize="x-small")
    axes[-1].plot(*_measured(columns, "loss"), color=OUTPUT, linewidth=1)
    axes[-1].set_ylabel("loss")
    axes[-1].set_xlabel("epoch")
    _save(figure, folder / "curves.png")


def _mark(axis: Axes, facts: dict[str, Any], metric: str) -> None:
    """The corrupted clip's level and the oracle's choice."""
    level, best = facts["input"][metric], facts["best"][metric]
    if level is not None and math.isfinite(level):
        axis.axhline(level, color=CORRUPTED, linestyle="--", linewidth=1, label="corrupted clip")
    if best["epoch"] is not None:
        label = f"oracle best {best['value']:.2f} at epoch {best['epoch']}"
        axis.plot(best["epoch"], best["value"], "o", color=OUTPUT, label=label, markersize=5)


def _crop(axis: Axes, metric: str, columns: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Keep the first epochs, tens of dB below the rest, from flattening a curve in dB."""
    _, values = _measured(columns, metric)
    if not metric.endswith("pesq") and len(values):
        top = float(values.max())
        level = facts["input"][metric] if facts else None
        axis.set_ylim(bottom=max(min(float(values.min()), top - 1), min(top, level if level is not None else top) - 12))


def _draw_sounds(path: Path, sounds: dict[str, Path], panel: Any) -> None:
    """One panel a sound, all on one scale."""
    import soundfile

    loaded = {title: soundfile.read(sound, dtype="float32") for title, sound in sounds.items()}
    figure, axes = _figure(len(loaded), sharey=True)
    panel(figure, axes, loaded)
    for axis, title in zip(axes, loaded, strict=True):
        axis.set_title(title, fontsize="small", loc="left")
    axes[-1].set_xlabel("time (s)")
    _save(figure, path)


def _waveform(figure: Figure, axes: list[Axes], sounds: dict[str, tuple[NDArray[Any], int]]) -> None:
    import numpy as np

    for axis, (samples, rate) in zip(axes, sounds.values(), strict=True):
        axis.plot(np.arange(len(samples)) / rate, samples, color=OUTPUT, linewidth=0.5)
        axis.set_ylabel("amplitude")


def _draw_gaps(path: Path, sounds: dict[str, Path], gaps: list[list[float]]) -> None:
    """The waveforms around the first gaps, each a start and a length in seconds (paper Figure 5)."""
    import numpy as np
    import soundfile

    styles = {"clean": (CLEAN, "-"), "best (oracle gap SI-SNR)": (OUTPUT, "-"), "restored (blind)": (MEAN, "--")}
    loaded = {title: soundfile.read(sounds[title], dtype="float32") for title in styles if title in sounds}
    figure, axes = _figure(min(len(gaps), MOST_GAPS), sharex=False)
    for axis, (start, length) in zip(axes, gaps, strict=False):
        for title, (samples, rate) in loaded.items():
            first = max(0, round((start - GAP_CONTEXT) * rate))
            shown = samples[first : round((start + length + GAP_CONTEXT) * rate)]
            colour, line = styles[title]
            time = (first + np.arange(len(shown))) / rate * 1000
            axis.plot(time, shown, line, color=colour, label=title, linewidth=1)
        axis.axvspan(start * 1000, (start + length) * 1000, color=GAP_SHADE, zorder=0)
        axis.set_ylabel("amplitude")
    if loaded:
        axes[0].legend(fontsize="x-small")
    axes[0].set_title(f"{len(axes)} of {len(gaps)} gaps (shaded)", fontsize="small", loc="left")
    axes[-1].set_xlabel("time (ms)")
    _save(figure, path)


def _spectrogram(figure: Figure, axes: list[Axes], sounds: dict[str, tuple[NDArray[Any], int]]) -> None:
    import librosa
    import numpy as np

    n_fft = min(N_FFT, *(len(samples) for samples, _ in sounds.values()))
    hop = max(1, n_fft * HOP // N_FFT)
    magnitudes = [np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop)) for samples, _ in sounds.values()]
    loudest = max(magnitude.max() for magnitude in magnitudes)
    for axis, magnitude, (samples, rate) in zip(axes, magnitudes, sounds.values(), strict=True):
        image = axis.imshow(
            librosa.amplitude_to_db(magnitude, ref=loudest, top_db=None),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-DYNAMIC_RANGE_DB,
            vmax=0,
            extent=(0, len(samples) / rate, 0, rate / 2000),
        )
        axis.set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=axes, label="dB, relative to the loudest of all")


def _figure(panels: int, sharex: bool = True, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    # Figures of their own, not pyplot's: no display is looked for and none piles up in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2 * panels + 0.6), layout="constrained", dpi=120)
    return figure, list(figure.subplots(panels, 1, sharex=sharex, sharey=sharey, squeeze=False)[:, 0])


def _save(figure: Figure, path: Path) -> None:
    with whole(path) as temporary:
        figure.savefig(temporary, format="png")


def _read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of metrics.csv, NaN where a field is empty."""
    import numpy as np

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    table = np.array([[float(field or "nan") for field in row] for row in rows]).reshape(len(rows), len(header))
    return {name: table[:, i] for i, name in enumerate(header)}


def _measured(columns: dict[str, NDArray[Any]], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Epochs and values of a column, where it has a finite value."""
    import numpy as np

    values = columns.get(name, np.full_like(columns["epoch"], np.nan))
    finite = np.isfinite(values)
    return columns["epoch"][finite], values[finite]
