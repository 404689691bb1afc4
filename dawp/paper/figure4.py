"""Figure 4: spectrograms of a clip before and after denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawp.paper import figure2
from dawp.paper.study import Found, Study
from dawp.report import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(study: Study, found: Found) -> Figure:
    """Plot spectrograms of the first clip (corrupted, best, clean) on a common dB scale."""
    import librosa
    import soundfile

    (cell,) = study.cells
    paths = found[cell][0].files("corrupted.wav", "best_si_snr.wav", "clean.wav")
    loaded = {pictures.title_of(p.stem): soundfile.read(p, dtype="float32") for p in paths}
    spectra = pictures.magnitudes(sound for sound, _ in loaded.values())
    loudest = max(float(magnitude.max()) for magnitude in spectra)
    figure, axes = pictures.new_figure(len(spectra), sharey=True)
    for axis, (title, (_, rate)), magnitude in zip(axes, loaded.items(), spectra, strict=True):
        levels = pictures.decibels(magnitude, loudest)
        frames = {"sr": rate, "hop_length": pictures.HOP, "n_fft": pictures.N_FFT}
        mesh = librosa.display.specshow(levels, **frames, x_axis="time", y_axis="linear", ax=axis)
        mesh.set_cmap("magma")
        mesh.set_clim(-pictures.DYNAMIC_RANGE_DB, 0)
        axis.set_title(title, fontsize="small", loc="left")
        axis.set(xlabel="time (s)", ylabel="frequency (Hz)")
        axis.label_outer()
    figure.colorbar(mesh, ax=axes, label="dB relative to the maximum of all panels")
    return figure


STUDY = Study(
    name="figure4",
    title="Figure 4: spectrograms before and after denoising",
    cells=figure2.STUDY.cells,
    measures=figure2.STUDY.measures,
    clips=1,
    draw=draw,
    notes=("The paper does not state the clip and noise of this figure. This run uses those of Figure 2.",),
)
