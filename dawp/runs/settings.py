"""Settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dawp.errors import BadInput, printable
from dawp.io.files import safe_name
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class RunConfig(Settings):
    """Run: sources, repetitions and the folder of the results."""

    source: Path | None = setting(
        None,
        "sound file, folder (searched recursively), text list of files, text list of clean,corrupted pairs, or panel: "
        "a CSV file with a file and its settings in each row",
        none="the bundled clips",
        brief="sound file, folder, text list of files or pairs, or panel",
    )
    experiment_repetition: int | None = setting(
        None,
        "number of repetitions, cycling through the recordings",
        at_least=1,
        at_most=10**6,
        none="each recording once",
    )
    output_dir: Path = setting(
        Path("evals"), "folder for the results of all runs", brief="folder for the results of experiments"
    )
    name: str | None = setting(None, "name of this run's folder", none="derived from the settings")
    overwrite: bool = setting(
        False,
        "delete the earlier results of this run and restart; with --restore, replace existing output files",
        brief="replace existing results",
    )
    show_every: int = setting(250, "epochs between updates of metrics.csv and curves.png", at_least=1, at_most=10**9)
    save_outputs: bool = setting(
        False, "also save the output every --show_every epochs: sound, waveform and spectrogram"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name != safe_name(self.name, longest=100)):
            raise BadInput(
                "name must be a plain folder name of at most 100 letters, digits, dots, dashes and underscores "
                f"with a letter or digit at both ends, got {printable(self.name)}"
            )
