import csv
import shutil

import numpy as np
import pytest
import torch
from conftest import write_sound
from matplotlib.image import imread

from dawp.report import pictures
from dawp.report.pictures import WIDTH, draw_outputs, draw_repetition

FACTS = {
    "corruption": {},
    "restored": None,
    "input": {"si_snr": 2.5, "psnr": 30.0, "pesq": None},
    "best": {
        "si_snr": {"value": 5.0, "epoch": 3},
        "psnr": {"value": 33.0, "epoch": 3},
        "pesq": {"value": None, "epoch": None},
    },
}


@pytest.fixture
def folder(tmp_path):
    rng = torch.Generator().manual_seed(0)
    for name in ("clean", "corrupted", "best_si_snr", "outputs/epoch_00002"):
        write_sound(tmp_path / f"{name}.wav", 0.1 * torch.randn(8000, generator=rng))
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "si_snr", "psnr", "pesq", "ema_si_snr", "si_snr_vs_corrupted"])
        writer.writerows(
            [[e, 1 / e, e - 40 * (e == 1), 30 + e, "nan" if e == 1 else "", e / 2, e] for e in range(1, 6)]
        )
    return tmp_path


def test_every_picture_is_drawn_from_the_files(folder):
    draw_repetition(folder, FACTS)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert names == [
        "curves.png",
        "outputs.png",
        "outputs/epoch_00002_spectrograms.png",
        "outputs/epoch_00002_waveforms.png",
        "spectrograms.png",
    ]
    for picture in names:
        image = imread(folder / picture)
        assert image.shape[0] > 300
        assert image.std() > 0.05  # not blank


def test_the_first_gaps_are_drawn(folder):
    write_sound(folder / "restored.wav", 0.1 * torch.randn(8000))
    for gaps in ([[0.1, 0.002]], [[0.0, 0.001], *([0.01 * i, 0.002] for i in range(1, 9)), [0.499, 0.001]]):
        draw_repetition(folder, {**FACTS, "corruption": {"gaps": gaps}})
        image = imread(folder / "gaps.png")
        assert image.std() > 0.05
        assert (image.shape[0] > 1000) == (len(gaps) > 1)


def test_a_repetition_without_a_clean_clip_is_drawn(folder):
    for name in ("clean", "best_si_snr"):
        (folder / f"{name}.wav").unlink()
    (folder / "metrics.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    draw_repetition(folder, {"corruption": {"gaps": [[0.1, 0.01]]}, "input": {}, "best": {}, "restored": {"epoch": 2}})
    assert {path.name for path in folder.glob("*.png")} == {"curves.png", "spectrograms.png", "outputs.png", "gaps.png"}


@pytest.mark.parametrize(("saved", "panels"), [(1, 2), (3, 4), (9, 6)])
def test_the_picture_of_the_outputs_has_at_most_five(folder, saved, panels):
    (folder / "clean.wav").unlink()
    for epoch in range(3, 2 + saved):
        shutil.copy(folder / "outputs" / "epoch_00002.wav", folder / "outputs" / f"epoch_{epoch:05}.wav")
    draw_outputs(folder, folder / "outputs.png")
    height, width = imread(folder / "outputs.png").shape[:2]
    assert (height / width * WIDTH - 0.6) / 2 == pytest.approx(panels, abs=0.01)


def test_only_curves_are_drawn_during_a_fit(folder):
    (folder / "best_si_snr.wav").unlink()
    (folder / "outputs" / "epoch_00002.wav").unlink()
    draw_repetition(folder, {})
    assert [path.name for path in folder.rglob("*.png")] == ["curves.png"]


def test_labels_of_curves_lie_in_the_picture_and_rules_without_values_have_no_panel(folder, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, to: figures.append(figure))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "si_snr", "wmv", "holdout"])
        writer.writerows([[e, 3.6e-4 + 1e-7 * e, -12345.678 * e, "", 1e-5] for e in range(1, 6)])
    pictures.draw_curves(folder, {}, folder / "curves.png")
    (figure,) = figures
    figure.canvas.draw()
    assert [axis.get_ylabel() for axis in figure.axes] == ["SI-SNR (dB)", "loss", "held-out error"]
    for axis in figure.axes:
        label = axis.yaxis.label.get_window_extent()
        ticks = [tick.label1.get_window_extent() for tick in axis.yaxis.get_major_ticks()]
        assert label.x0 >= 0
        assert all(label.x1 < tick.x0 for tick in ticks if tick.width)


def test_curves_show_the_corrupted_level_and_the_best_epoch(folder):
    draw_repetition(folder, {})
    without = imread(folder / "curves.png")
    draw_repetition(folder, FACTS)
    assert not np.array_equal(without, imread(folder / "curves.png"))


def test_spectrograms_have_a_common_scale(folder):
    """A clip 40 dB below the others must be darker."""
    write_sound(folder / "clean.wav", 1e-3 * torch.randn(8000))
    draw_repetition(folder, FACTS)
    image = imread(folder / "spectrograms.png")[..., :3].mean(axis=2)
    height, width = image.shape
    upper, lower = (
        image[int(height * a) : int(height * b), width // 4 : width // 2] for a, b in ((0.1, 0.28), (0.75, 0.9))
    )
    assert np.median(upper) > np.median(lower) + 0.15


def test_a_clip_of_minimum_length_can_be_drawn(folder):
    for name in ("clean", "corrupted", "best_si_snr"):
        write_sound(folder / f"{name}.wav", 0.1 * torch.randn(64))
    draw_repetition(folder, FACTS)
    assert (folder / "spectrograms.png").exists()


def test_pyplot_is_not_used(folder):
    import matplotlib.pyplot as plt

    draw_repetition(folder, FACTS)
    assert plt.get_fignums() == []
