"""Write the curves, spectrograms and sounds of a run for TensorBoard."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

from dawp.errors import BadInput
from dawp.report import pictures
from dawp.runs.folder import repetition_folders


def check_installed() -> None:
    """Check that the package tensorboard is installed.

    Raises:
        BadInput: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise BadInput(
            "tensorboard requires the package tensorboard: run pip install '.[tensorboard]'", code="missing_package"
        )


def write(folder: Path, to: Path) -> None:
    """Write a run to ``to/<task>/<run>/<repetition>`` and replace existing event files.

    Scalars are the columns of metrics.csv by epoch. Sounds and spectrograms are written at step 0, saved outputs at
    their epochs.
    """
    from torch.utils.tensorboard import SummaryWriter

    for repetition_dir in repetition_folders(folder):
        event_dir = to / folder.resolve().parent.name / folder.resolve().name / repetition_dir.name
        for old in event_dir.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(event_dir)) as writer:
            if (repetition_dir / "metrics.csv").is_file():
                columns = pictures.read_columns(repetition_dir / "metrics.csv")
                epochs = columns.pop("epoch")
                for name, values in columns.items():
                    for epoch, value in zip(epochs, values, strict=True):
                        if math.isfinite(value):
                            writer.add_scalar(name, value, int(epoch))
            loaded = pictures.load_sounds(repetition_dir)
            magnitudes = pictures.magnitudes([samples for samples, _ in loaded.values()]) if loaded else []
            loudest = max((float(magnitude.max()) for magnitude in magnitudes), default=1.0)
            for (path, (samples, rate)), magnitude in zip(loaded.items(), magnitudes, strict=True):
                is_output = path.parent != repetition_dir
                title = "output" if is_output else pictures.title_of(path.stem)
                epoch = int(path.stem.removeprefix("epoch_")) if is_output else 0
                writer.add_audio(title, samples[None], epoch, sample_rate=rate)
                pixels = pictures.spectrogram_pixels(magnitude, loudest)
                writer.add_image(title, pixels, epoch, dataformats="HWC")
