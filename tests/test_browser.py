"""Tests of report.html in headless Chromium."""

import json
import shutil

import pytest
from conftest import SAMPLES, TINY, write_sound

from dawp.config import Config
from dawp.io.sources import find_recordings
from dawp.report import assets
from dawp.report.page import write_report
from dawp.report.pictures import draw_nothing
from dawp.runs import experiment
from dawp.runs.folder import repetition_folders

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (on Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # The sandbox does not work for root in a container; only our own pages are opened.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Return a report of each task by its name; the name of one recording contains a script."""
    folder = tmp_path_factory.mktemp("reports")
    write_sound(folder / "in" / "<img src=x onerror=console.error(1)>.wav")
    speech = folder / "in" / "speech.wav"
    shutil.copy(SAMPLES / "speech.wav", speech)
    found = {}
    for task, source in (("denoise", folder / "in"), ("dereverb", speech), ("inpaint", speech)):
        settings = {"output_dir": folder, "name": "run", "source": source, "save_outputs": True, "show_every": 1}
        config = Config.of(task, **{**TINY, **settings, "epochs": 2, "pesq_every": 2})
        found[task] = write_report(experiment.run(config, find_recordings(source), draw_nothing).folder)
    return found


class Opened:
    """An open page, with its console messages, errors and requests."""

    def __init__(self, browser, path):
        self.page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        self.errors, self.requests = [], []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def check(self, path):
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.parametrize("task", ["denoise", "dereverb", "inpaint"])
def test_pictures_load_sounds_play_and_the_epoch_slider_works(task, browser, reports):
    opened = Opened(browser, reports[task])
    tab = opened.page
    pictures = tab.locator("img")
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") > 20

    # With the keyboard: play a sound, then another one, which stops the first.
    first, second = tab.locator("audio").nth(0), tab.locator("audio").nth(1)
    for player in (first, second):
        player.focus()
        tab.keyboard.press("Space")
        tab.wait_for_function("(player) => !player.paused && player.currentTime > 0.05", arg=player.element_handle())
    assert first.evaluate("(player) => player.paused")

    # With the keyboard: select another epoch, which changes sound, picture, text and the marker on the curves.
    panel = tab.locator(".epochs").first
    slider, player, picture = (panel.locator(part) for part in ("input", "audio", "img"))

    def state():
        return [
            *(part.get_attribute("src") for part in (player, picture)),
            panel.locator("output").inner_text(),
            slider.get_attribute("aria-valuetext"),
            tab.locator(".marker").first.get_attribute("style"),
        ]

    before = state()
    slider.focus()
    tab.keyboard.press("ArrowRight")
    after = state()
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert after[2] == "2"
    assert after[3].startswith("epoch 2")
    opened.check(reports[task])


def test_the_marker_is_at_the_selected_epoch(browser, reports):
    tab = Opened(browser, reports["denoise"]).page
    tab.locator(".epochs input").first.fill("1")  # epoch 2 of 2: the right end of the axis
    width = tab.locator(".curves").first.bounding_box()["width"]
    mark = tab.locator(".marker").first.bounding_box()
    curves = tab.locator(".curves").first.bounding_box()
    from dawp.report.pictures import MARGINS, WIDTH

    assert (mark["x"] - curves["x"]) / width == pytest.approx(1 - MARGINS[1] / WIDTH, abs=0.01)


def test_levels_are_matched_or_original(browser, reports):
    tab = Opened(browser, reports["denoise"]).page
    volumes = "() => [...document.querySelectorAll('details.clip')[0].querySelectorAll('audio')].map((p) => p.volume)"
    matched = tab.evaluate(volumes)
    assert min(matched) < 1
    assert max(matched) == 1
    tab.uncheck("#matched")
    assert set(tab.evaluate(volumes)) == {1}
    tab.check("#matched")
    assert tab.evaluate(volumes) == matched


def test_the_table_is_sorted_numerically(browser, reports):
    folder = reports["denoise"].parent
    facts = [json.loads((repetition_dir / "result.json").read_text()) for repetition_dir in repetition_folders(folder)]
    values = [fact["best"]["psnr"]["gain"] for fact in facts]
    tab = Opened(browser, reports["denoise"]).page
    heading = tab.locator(".sortable th", has=tab.get_by_text("PSNR gain", exact=True))
    column = heading.evaluate("(cell) => cell.cellIndex")
    for press, sort in (("Enter", "ascending"), ("Space", "descending")):
        heading.locator("button").press(press)
        assert heading.get_attribute("aria-sort") == sort
        assert tab.locator(".sortable [aria-sort]").count() == 1
        rows = tab.locator(".sortable tbody tr")
        shown = [float(row.locator("th, td").nth(column).get_attribute("data-value")) for row in rows.all()]
        assert shown == pytest.approx(sorted(values, reverse=sort == "descending"))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_horizontally(width, browser, reports):
    for path in reports.values():
        tab = Opened(browser, path).page
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_every_control_has_a_name(browser, reports):
    tab = Opened(browser, reports["denoise"]).page
    tab.click("#open-all")
    for control in tab.locator("audio, input, button, summary, a, [role=region]").all():
        name = control.evaluate(
            "(e) => e.ariaLabel || e.innerText || [...(e.labels || [])].map((l) => l.innerText).join() ||"
            " document.getElementById(e.getAttribute('aria-labelledby'))?.innerText"
        )
        assert name and name.strip(), control.evaluate("(e) => e.outerHTML.slice(0, 200)")


def test_a_report_of_a_hundred_clips_links_its_sounds(browser, reports, tmp_path):
    folder = shutil.copytree(reports["denoise"].parent, tmp_path / "run")
    (model, *others) = repetition_folders(folder)
    for other in others:
        shutil.rmtree(other)
    facts = json.loads((model / "result.json").read_text())
    for number in range(1, 100):
        repetition_dir = shutil.copytree(model, folder / f"{number:03d}_clip")
        (repetition_dir / "result.json").write_text(json.dumps({**facts, "repetition": number}))
    path = write_report(folder)
    opened = Opened(browser, path)
    assert opened.page.locator("details.clip").count() == 100
    assert "keep the page there" in opened.page.inner_text("main")
    assert path.stat().st_size < 2 * assets.MAX_EMBEDDED
    player = opened.page.locator("audio").first
    player.focus()
    opened.page.keyboard.press("Space")
    opened.page.wait_for_function(
        "(player) => !player.paused && player.currentTime > 0.05", arg=player.element_handle()
    )
    assert opened.errors == []
