"""Measure the size of a report, and the time to write it and to open it in Chromium, by number of clips.

python benchmarks/report_page.py --clips 10 100
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
from playwright.sync_api import sync_playwright

from dawp.config import Config
from dawp.io.sources import SAMPLES, find_recordings
from dawp.report.page import write_report
from dawp.report.pictures import draw_repetition
from dawp.runs import experiment
from dawp.runs.folder import repetition_folders


def main() -> None:
    """Run the benchmark."""
    flags = common.parser(__doc__)
    flags.add_argument("--clips", type=int, nargs="+", default=[10, 100], help="numbers of clips (default: 10 100)")
    flags.add_argument("--epochs", type=int, default=200, help="epochs of the fit (default: 200)")
    flags.add_argument("--turns", type=int, default=5, help="number of times to open each page (default: 5)")
    flags.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser (default: chromium)")
    given = flags.parse_args()
    if given.chromium is None:
        flags.error("--chromium must be the path of a browser, got none")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        source = SAMPLES / "speech.wav"
        config = Config.of("denoise", "fast", output_dir=folder, name="run", source=source, epochs=given.epochs)
        run = experiment.run(config, find_recordings(source), draw_repetition).folder
        if run is None:
            raise SystemExit("the run failed")
        browser = driver.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for clips in given.clips:
            _copy(run, clips)
            began = time.perf_counter()
            page = write_report(run)
            write_seconds = time.perf_counter() - began
            open_seconds = [_open(browser, page, clips) for _ in range(given.turns)]
            rows.append(
                {
                    "clips": clips,
                    "page MB": page.stat().st_size / 1e6,
                    "s to make": write_seconds,
                    "s to open, median": statistics.median(open_seconds),
                    "longest": max(open_seconds),
                }
            )
        version = f"Chromium {browser.version}"
        browser.close()
    common.report("report_page", common.machine(), rows, given.json, epochs=given.epochs, browser=version)


def _copy(run: Path, clips: int) -> None:
    """Copy the first repetition of a run until it has ``clips`` repetitions."""
    model = repetition_folders(run)[0]
    facts = json.loads((model / "result.json").read_text())
    for number in range(1, clips):
        repetition_dir = run / f"{number:03d}_clip"
        if not repetition_dir.exists():
            shutil.copytree(model, repetition_dir)
            (repetition_dir / "result.json").write_text(json.dumps({**facts, "repetition": number}))


def _open(browser: Any, page: Path, clips: int) -> float:
    """Return the seconds to load a page in a new window."""
    tab = browser.new_page()
    began = time.perf_counter()
    tab.goto(page.as_uri(), wait_until="load")
    seconds = time.perf_counter() - began
    if tab.locator("details.clip").count() != clips:
        raise SystemExit(f"the page must show {clips} clips, got {tab.locator('details.clip').count()}")
    tab.close()
    return seconds


if __name__ == "__main__":
    main()
