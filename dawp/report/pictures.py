"""Plot a repetition or a run from the files in its folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dawp.dsp.reverberation import energy_decay
from dawp.io.files import OUTPUTS, atomic_write
from dawp.methods.deep_prior.stopping.base import RULES
from dawp.metrics.base import CORRUPTED as CORRUPTED_CLIP
from dawp.metrics.base import GAPS, Measurement, measurements
from dawp.metrics.base import MEAN as RUNNING_MEAN
from dawp.report.gaps import gap_errors, spans_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

N_FFT, HOP = 512, 128
DYNAMIC_RANGE_DB = 80
SMALLEST = 1e-10  # magnitude
MAX_GAPS = 6  # per picture
MAX_OUTPUTS = 5  # per picture
GAP_CONTEXT = 0.006  # seconds shown on either side of a gap
WIDTH = 6.4  # inches
MARGINS = (0.8, 0.15, 0.1, 0.5)  # inches around the curves: left, right, above, below
LABEL_PLACE = 0.62  # inches from the centre of a vertical label to the axes

BEST, BEST_ON_GAPS = (f"best_{Measurement('si_snr', *region).name}" for region in ([], [GAPS]))
DRAWN = ("corrupted", BEST_ON_GAPS, BEST, "restored", "clean")
"""File names of the sounds of a repetition that are drawn in one picture."""

# The palette of Okabe and Ito, which is safe for colour-blind readers.
OUTPUT, MEAN, CORRUPTED, AGAINST, BLIND = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7"
CLEAN, GAP_SHADE = "#000000", "#DDDDDD"


def title_of(name: str) -> str:
    """Return the title of a sound of a repetition.

    Example:
        >>> title_of("best_si_snr")
        'best (oracle SI-SNR)'
    """
    kind, _, what = name.partition("_")
    titles = {
        "restored": "restored (blind stop)",
        "best": f"best (oracle {Measurement.parse(what).title})",
        "baseline": f"baseline {what}",
    }
    return titles.get(kind, name)


def sounds_of(folder: Path) -> list[Path]:
    """Return the sounds of a repetition from corrupted to clean, then the saved outputs by epoch."""
    names = ["corrupted", *(f"best_{measurement.name}" for measurement in measurements()), "restored"]
    names += sorted(path.stem for path in folder.glob("baseline_*.wav"))
    places = [folder / f"{name}.wav" for name in [*names, "clean"]]
    outputs = (path for path in folder.glob(f"{OUTPUTS}/epoch_*.wav") if path.stem.removeprefix("epoch_").isdecimal())
    return [path for path in places if path.is_file()] + sorted(outputs)


def load_sounds(folder: Path) -> dict[Path, tuple[NDArray[Any], int]]:
    """Load the sounds of a repetition, with their sample rates; skip unreadable files and files of other lengths."""
    import soundfile

    loaded = {}
    for path in sounds_of(folder):
        with suppress(soundfile.SoundFileError):
            loaded[path] = soundfile.read(path, dtype="float32")
    longest = max((len(samples) for samples, _ in loaded.values()), default=0)
    return {path: (samples, rate) for path, (samples, rate) in loaded.items() if len(samples) == longest > 0}


def draw_repetition(folder: Path, facts: dict[str, Any]) -> None:
    """Draw all pictures for which the folder has data: curves, spectrograms and new saved outputs.

    Args:
        folder: folder of a repetition.
        facts: content of its result.json; empty during the fit.
    """
    draw_curves(folder, facts, folder / "curves.png")
    present = {title_of(name): path for name in DRAWN if (path := folder / f"{name}.wav").exists()}
    if facts:
        _draw_sounds(folder / "spectrograms.png", present, _spectrogram)
        draw_outputs(folder, folder / "outputs.png")
        if facts["corruption"].get("gaps"):
            draw_gaps(folder, facts, folder / "gaps.png")
        if (folder / "rir.wav").exists():
            draw_room(folder, facts, folder / "room.png")
    for output in (path for path in sounds_of(folder) if path.parent != folder):
        sounds = {"corrupted": present["corrupted"], f"output at epoch {_epoch_of(output)}": output}
        sounds |= {title: path for title, path in present.items() if title == "clean"}
        for kind, panel in (("waveforms", _waveform), ("spectrograms", _spectrogram)):
            picture = output.with_name(f"{output.stem}_{kind}.png")
            if not picture.exists():
                _draw_sounds(picture, sounds, panel)


def draw_outputs(folder: Path, to: Path) -> None:
    """Draw spectrograms of up to five saved outputs, between those of the corrupted and of the clean clip."""
    import numpy as np

    outputs = [path for path in sounds_of(folder) if path.parent != folder]
    if not outputs:
        return
    shown = np.unique(np.linspace(0, len(outputs) - 1, min(MAX_OUTPUTS, len(outputs))).round().astype(int))
    sounds = {"corrupted": folder / "corrupted.wav"}
    sounds |= {f"output at epoch {_epoch_of(outputs[index])}": outputs[index] for index in shown}
    if (folder / "clean.wav").exists():
        sounds["clean"] = folder / "clean.wav"
    _draw_sounds(to, sounds, _spectrogram)


def _epoch_of(output: Path) -> int:
    """Return the epoch of a saved output."""
    return int(output.stem.removeprefix("epoch_"))


def draw_nothing(folder: Path, facts: dict[str, Any]) -> None:
    """Draw no pictures; a replacement for ``draw_repetition``."""


def draw_curves(folder: Path, facts: dict[str, Any], to: Path) -> None:
    """Plot each metric, the loss and the stopping rules against the epoch, with the oracle and the blind stop.

    The axes span the width between the margins, so that the report page can locate an epoch in the picture.
    """
    columns = read_columns(folder / "metrics.csv")
    metrics = [measurement for measurement in measurements() if measurement.name in columns]
    rules = [name for name in RULES if name in columns and len(measured(columns, name)[1])]
    panels = len(metrics) + 1 + len(rules)
    figure, axes = new_figure(panels, layout=None)  # twice as fast as the constrained layout
    for axis, metric in zip(axes, metrics, strict=False):
        for curve, label, colour in (
            (metric, "output", OUTPUT),
            (replace(metric, estimate=RUNNING_MEAN), "running mean", MEAN),
            (replace(metric, target=CORRUPTED_CLIP), "output, against the corrupted clip", AGAINST),
        ):
            if curve.name in columns:
                axis.plot(*measured(columns, curve.name), color=colour, label=label, linewidth=1)
        if facts:
            _mark(axis, facts, metric.name)
        axis.set_ylabel(metric.label)
        _crop(axis, metric, columns, facts)
        if axis.lines:
            axis.legend(fontsize="x-small")
    _plot_loss_and_rules(axes[len(metrics) :], rules, columns, facts)
    axes[-1].set_xlabel("epoch")
    epochs = columns["epoch"]
    if len(epochs) > 1:
        axes[-1].set_xlim(epochs[0], epochs[-1])
    width, height = figure.get_size_inches()
    left, right, above, below = MARGINS
    figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - above / height, hspace=0.1)
    for axis in axes:  # tick labels of any width must not move the labels out of the picture
        axis.yaxis.set_label_coords(-LABEL_PLACE / (width - left - right), 0.5)
    save(figure, to)


def _plot_loss_and_rules(
    axes: list[Axes], rules: Sequence[str], columns: dict[str, NDArray[Any]], facts: dict[str, Any]
) -> None:
    """Plot the loss, and the quantity and the stop of each stopping rule that has values."""
    for axis, name in zip(axes, ["loss", *rules], strict=True):
        epochs, values = measured(columns, name)
        axis.plot(epochs, values, color=OUTPUT, linewidth=1, marker="." if len(values) == 1 else "")
        axis.set_ylabel(name if name == "loss" else RULES[name].label or name)
        axis.ticklabel_format(axis="y", scilimits=(-2, 4))
        if name in rules and len(values) and values.min() > 0:
            axis.set_yscale("log")
        stop = facts.get("blind", {}).get(name)
        if stop:
            title = f"stop at epoch {stop['epoch']}"
            axis.axvline(stop["epoch"], color=BLIND, linestyle=":", linewidth=1.2, label=title)
            axis.legend(fontsize="x-small")


def _mark(axis: Axes, facts: dict[str, Any], metric: str) -> None:
    """Mark the corrupted clip's value, the oracle stop and the blind stop."""
    level, best = facts["input"][metric], facts["best"][metric]
    if level is not None and math.isfinite(level):
        axis.axhline(level, color=CORRUPTED, linestyle="--", linewidth=1, label="corrupted clip")
    if best["epoch"] is not None:
        label = f"oracle best {best['value']:.2f} at epoch {best['epoch']}"
        axis.plot(best["epoch"], best["value"], "o", color=OUTPUT, label=label, markersize=5)
    if facts["restored"]:
        epoch = facts["restored"]["epoch"]
        axis.axvline(epoch, color=BLIND, linestyle=":", linewidth=1.2, label=f"blind stop at epoch {epoch}")


def _crop(axis: Axes, metric: Measurement, columns: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Limit the axis of a curve in dB, because the first epochs can lie tens of dB below the others."""
    _, values = measured(columns, metric.name)
    if metric.kind.unit == "dB" and metric.kind.higher_is_better and len(values):
        top = float(values.max())
        level = facts["input"][metric.name] if facts else None
        axis.set_ylim(bottom=max(min(float(values.min()), top - 1), min(top, level if level is not None else top) - 12))


def _draw_sounds(path: Path, sounds: dict[str, Path], panel: Any) -> None:
    """Draw one panel per sound, on a common scale."""
    import soundfile

    loaded = {title: soundfile.read(sound, dtype="float32") for title, sound in sounds.items()}
    figure, axes = new_figure(len(loaded), sharey=True)
    panel(figure, axes, loaded)
    for axis, title in zip(axes, loaded, strict=True):
        axis.set_title(title, fontsize="small", loc="left")
    axes[-1].set_xlabel("time (s)")
    save(figure, path)


def _waveform(figure: Figure, axes: list[Axes], sounds: dict[str, tuple[NDArray[Any], int]]) -> None:
    import numpy as np

    for axis, (samples, rate) in zip(axes, sounds.values(), strict=True):
        axis.plot(np.arange(len(samples)) / rate, samples, color=OUTPUT, linewidth=0.5)
        axis.set_ylabel("amplitude")


def draw_gaps(folder: Path, facts: Mapping[str, Any], to: Path) -> None:
    """Draw the first gaps into a file."""
    save(gaps(folder, facts), to)


def gaps(folder: Path, facts: Mapping[str, Any]) -> Figure:
    """Plot the waveforms around the first gaps (paper, Figure 5), and the mean error by position in the gap."""
    import numpy as np
    import soundfile

    positions: list[list[float]] = facts["corruption"]["gaps"]  # start and length in seconds
    paths = {name: path for name in fills_of(folder) if (path := folder / f"{name}.wav").exists()}
    loaded = {name: soundfile.read(path, dtype="float32") for name, path in paths.items()}
    styles = dict(zip(loaded, _gap_styles(loaded), strict=True))
    is_compared = len(loaded) > 1 and "clean" in loaded
    figure, axes = new_figure(min(len(positions), MAX_GAPS) + is_compared, sharex=False)
    shown = axes[: len(axes) - is_compared]
    for axis, (start, length) in zip(shown, positions, strict=False):
        for name, (samples, rate) in loaded.items():
            first = max(0, round((start - GAP_CONTEXT) * rate))
            near = samples[first : round((start + length + GAP_CONTEXT) * rate)]
            time = (first + np.arange(len(near))) / rate * 1000
            axis.plot(time, near, color=styles[name][0], linestyle=styles[name][1], label=title_of(name), linewidth=1)
        axis.axvspan(start * 1000, (start + length) * 1000, color=GAP_SHADE, zorder=0)
        axis.set_ylabel("amplitude")
    if loaded:
        shown[0].legend(fontsize="x-small")
    shown[0].set_title(f"{len(shown)} of {len(positions)} gaps (shaded)", fontsize="small", loc="left")
    shown[-1].set_xlabel("time (ms)")
    if is_compared:
        rate = loaded["clean"][1]
        errors = gap_errors({name: samples for name, (samples, _) in loaded.items()}, spans_of(positions, rate))
        for name, error in errors.items():
            places = (np.arange(len(error.by_position)) + 0.5) / len(error.by_position)
            colour, line = styles[name]
            axes[-1].plot(places, error.by_position, color=colour, linestyle=line, linewidth=1)
        axes[-1].set_ylabel("error (dB)")
        axes[-1].set_xlabel("position in the gap (0: start, 1: end), mean of all gaps")
    return figure


def fills_of(folder: Path) -> list[str]:
    """Return the file names of the sounds that are compared in the gaps, the clean one first."""
    baselines = sorted(path.stem for path in folder.glob("baseline_*.wav"))
    return ["clean", BEST_ON_GAPS, "restored", *baselines]


def _gap_styles(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return a colour and a line style for each sound in the gaps."""
    styles = {"clean": (CLEAN, "-"), BEST_ON_GAPS: (OUTPUT, "-"), "restored": (MEAN, "--")}
    others = cycle([(colour, line) for line in (":", "-.") for colour in (AGAINST, BLIND, CORRUPTED)])
    return [styles[name] if name in styles else next(others) for name in names]


def draw_room(folder: Path, facts: dict[str, Any], to: Path) -> None:
    """Plot the impulse response and its energy decay curve, with a line of the slope of its RT60."""
    import numpy as np
    import soundfile
    import torch

    response, rate = soundfile.read(folder / "rir.wav", dtype="float32")
    rt60 = facts["corruption"].get("rt60") or math.nan
    decay = energy_decay(torch.from_numpy(response)).numpy()
    time = np.arange(len(response)) / rate * 1000
    figure, (above, below) = new_figure(2)
    above.plot(time, response, color=OUTPUT, linewidth=0.7)
    above.set_ylabel("amplitude")
    below.plot(time, decay, color=OUTPUT, label="energy decay curve", linewidth=1)
    if math.isfinite(rt60):
        begin = time[decay < -5][0]
        line = np.array([-5.0, -65.0])
        label = f"RT60 {rt60:.3g} s (T30)"
        below.plot(begin + (-5 - line) / 60 * rt60 * 1000, line, "--", color=CORRUPTED, label=label, linewidth=1)
    below.set_ylim(-65, 3)
    below.set_ylabel("dB")
    below.set_xlabel("time (ms)")
    below.legend(fontsize="x-small")
    save(figure, to)


def gains(points: dict[str, list[tuple[float, float]]], metric: Measurement) -> Figure:
    """Plot the gain of each repetition against the metric of the corrupted clip, with a series per title."""
    figure, (axis,) = new_figure(1, height=3)
    for (title, pairs), (marker, colour) in zip(points.items(), (("o", OUTPUT), ("^", MEAN)), strict=False):
        axis.plot(*zip(*pairs, strict=True), marker, color=colour, label=title, alpha=0.7, markersize=5)
    axis.axhline(0, color=CORRUPTED, linestyle="--", linewidth=1)
    axis.set_xlabel(f"{metric.label} of the corrupted clip")
    axis.set_ylabel(f"gain ({metric.kind.unit})" if metric.kind.unit else "gain")
    axis.legend(fontsize="x-small")
    return figure


def best_epochs(epochs: dict[str, list[int]]) -> Figure:
    """Plot a histogram of the best epochs of all repetitions, with a series per title."""
    figure, (axis,) = new_figure(1, height=3)
    axis.hist(list(epochs.values()), bins=20, label=list(epochs), color=[OUTPUT, MEAN][: len(epochs)])
    axis.set_xlabel("epoch")
    axis.set_ylabel("repetitions")
    axis.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axis.legend(fontsize="x-small")
    return figure


def magnitudes(sounds: Iterable[NDArray[Any]], max_frames: int | None = None) -> list[NDArray[Any]]:
    """Return the STFT magnitudes ``[bins, frames]`` of sounds of equal length.

    With more than ``max_frames`` frames, each output frame is the maximum of several.
    """
    import torch

    sounds = list(sounds)
    samples = len(sounds[0])
    n_fft = min(N_FFT, samples)
    hop = max(1, n_fft * HOP // N_FFT)
    window = torch.hann_window(n_fft)
    pool = max(1, samples // hop // max_frames) if max_frames else 1

    def magnitude(sound: NDArray[Any]) -> NDArray[Any]:
        stft = torch.stft(torch.from_numpy(sound), n_fft, hop, window=window, pad_mode="constant", return_complex=True)
        pooled: NDArray[Any] = torch.nn.functional.max_pool1d(stft.abs(), pool, ceil_mode=True).numpy()
        return pooled

    return [magnitude(sound) for sound in sounds]


def decibels(magnitude: NDArray[Any], loudest: float) -> NDArray[Any]:
    """Convert magnitudes ``[...]`` to dB relative to ``loudest``."""
    import numpy as np

    level: NDArray[Any] = 20 * np.log10(np.maximum(magnitude, SMALLEST) / max(loudest, SMALLEST))
    return level


def _spectrogram(figure: Figure, axes: list[Axes], sounds: dict[str, tuple[NDArray[Any], int]]) -> None:
    spectra = magnitudes(samples for samples, _ in sounds.values())
    loudest = max(magnitude.max() for magnitude in spectra)
    for axis, magnitude, (samples, rate) in zip(axes, spectra, sounds.values(), strict=True):
        image = axis.imshow(
            decibels(magnitude, loudest),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-DYNAMIC_RANGE_DB,
            vmax=0,
            extent=(0, len(samples) / rate, 0, rate / 2000),
        )
        axis.set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=axes, label="dB relative to the maximum of all panels")


def spectrogram_pixels(magnitude: NDArray[Any], loudest: float) -> NDArray[Any]:
    """Return a spectrogram without axes as an image ``[bins, frames, 3]``, uint8, low frequencies at the bottom."""
    import numpy as np
    from matplotlib import colormaps

    values = 1 + decibels(magnitude, loudest)[::-1] / DYNAMIC_RANGE_DB
    pixels: NDArray[Any] = (colormaps["magma"](np.clip(values, 0, 1))[..., :3] * 255).astype(np.uint8)
    return pixels


def new_figure(
    panels: int,
    height: float = 2,
    sharex: bool = True,
    sharey: bool = False,
    layout: Literal["constrained"] | None = "constrained",
) -> tuple[Figure, list[Axes]]:
    """Create a figure with a column of panels; ``height`` is that of a panel in inches."""
    # Not a pyplot figure: those require a display backend and stay in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * panels + 0.6), layout=layout, dpi=150)
    return figure, list(figure.subplots(panels, 1, sharex=sharex, sharey=sharey, squeeze=False)[:, 0])


def save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read the columns of metrics.csv; empty fields become NaN."""
    import numpy as np

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    table = np.array([[float(field or "nan") for field in row] for row in rows]).reshape(len(rows), len(header))
    return {name: table[:, i] for i, name in enumerate(header)}


def measured(columns: dict[str, NDArray[Any]], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the epochs ``[N]`` and the values ``[N]`` of a column where the value is finite."""
    import numpy as np

    values = columns.get(name, np.full_like(columns["epoch"], np.nan))
    finite = np.isfinite(values)
    return columns["epoch"][finite], values[finite]
