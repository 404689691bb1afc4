"""Settings of the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dawp.settings import Settings, setting


@dataclass(frozen=True)
class ReportConfig(Settings):
    """Report: which outputs describe a run."""

    report: bool = setting(
        True, "write report.html into the run's folder: all sounds, pictures and numbers on one page"
    )
    pictures: bool = setting(
        True, "draw the pictures in the folders of the repetitions, which takes one or two seconds each"
    )
    tensorboard: Path | None = setting(
        None,
        "folder to write curves, spectrograms and sounds to for TensorBoard (extra tensorboard)",
        none="disabled",
    )
    quiet: bool = setting(
        False,
        "print no progress bars, notices and tables: only warnings, errors and, to standard output, the path of the "
        "results",
        short="-q",
        brief="print only warnings, errors and the path of the results",
    )
    json: bool = setting(
        False,
        "instead of the table print one JSON object to standard output: folder, failures with their codes, and summary",
        brief="print one JSON object",
    )
