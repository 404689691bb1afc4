"""How long a run's report takes to make and to open in Chromium, and how large it is, against the number of clips.

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
    """Measure and print."""
    flags = common.parser(__doc__)
    flags.add_argument("--clips", type=int, nargs="+", default=[10, 100], help="numbers of clips (default: 10 100)")
    flags.add_argument("--epochs", type=int, default=200, help="epochs of the fit that is shown (default: 200)")
    flags.add_argument("--turns", type=int, default=5, help="times that each page is opened (default: 5)")
    flags.add_argument("--chromium", default=shutil.which("chromium"), help="the browser (default: chromium)")
    given = flags.parse_args()
    if given.chromium is None:
        flags.error("no chromium on this machine; --chromium names a browser")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        source = SAMPLES / "speech.wav"
        config = Config.of("denoise", "fast", output_dir=folder, name="run", source=source, epochs=given.epochs)
        run = experiment.run(config, find_recordings(source), draw_repetition).folder
        if run is None:
            raise SystemExit("the run that is to be shown could not be made")
        browser = driver.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for clips in given.clips:
            _copy(run, clips)
            began = time.perf_counter()
            page = write_report(run)
            made = time.perf_counter() - began
            opened = [_opened(browser, page, clips) for _ in range(given.turns)]
            rows.append(
                {
                    "clips": clips,
                    "page MB": page.stat().st_size / 1e6,
                    "s to make": made,
                    "s to open, median": statistics.median(opened),
                    "longest": max(opened),
                }
            )
        version = f"Chromium {browser.version}"
        browser.close()
    common.tell("report_page", common.machine(), rows, given.json, epochs=given.epochs, browser=version)


def _copy(run: Path, clips: int) -> None:
    """Fill a run of one clip up to so many."""
    model = repetition_folders(run)[0]
    facts = json.loads((model / "result.json").read_text())
    for number in range(1, clips):
        repetition_dir = run / f"{number:03d}_clip"
        if not repetition_dir.exists():
            shutil.copytree(model, repetition_dir)
            (repetition_dir / "result.json").write_text(json.dumps({**facts, "repetition": number}))


def _opened(browser: Any, page: Path, clips: int) -> float:
    """Seconds until a page is loaded, with everything that it shows at first, in a window of its own."""
    tab = browser.new_page()
    began = time.perf_counter()
    tab.goto(page.as_uri(), wait_until="load")
    seconds = time.perf_counter() - began
    if tab.locator("details.clip").count() != clips:
        raise SystemExit(f"the page does not show its {clips} clips")
    tab.close()
    return seconds


if __name__ == "__main__":
    main()
