"""report.html in a real browser: Chromium, headless."""

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
        # Without the sandbox, which a container's root cannot have; nothing but our own page is opened.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report of each task, by its name; one recording has a name that wants to run."""
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
    """A page that is open, with all that it complained of and asked for."""

    def __init__(self, browser, place, **how):
        self.page = browser.new_context(viewport={"width": 1280, "height": 900}, **how).new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(place.as_uri())

    def check(self, place):
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("data:")] == [place.as_uri()]


@pytest.mark.parametrize("task", ["denoise", "dereverb", "inpaint"])
def test_it_opens_plays_and_moves(task, browser, reports):
    opened = Opened(browser, reports[task])
    tab = opened.page
    pictures = tab.locator("img")
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") > 20

    # By the keyboard: a sound plays, and another takes its place.
    first, second = tab.locator("audio").nth(0), tab.locator("audio").nth(1)
    for player in (first, second):
        player.focus()
        tab.keyboard.press("Space")
        tab.wait_for_function("(player) => !player.paused && player.currentTime > 0.05", arg=player.element_handle())
    assert first.evaluate("(player) => player.paused")

    # The epochs, by the keyboard as well: sound, picture, words and the mark on the curves change.
    journey = tab.locator(".journey").first
    slider, player, picture = (journey.locator(part) for part in ("input", "audio", "img"))

    def seen():
        return [
            *(part.get_attribute("src") for part in (player, picture)),
            journey.locator("output").inner_text(),
            slider.get_attribute("aria-valuetext"),
            tab.locator(".marker").first.get_attribute("style"),
        ]

    before = seen()
    slider.focus()
    tab.keyboard.press("ArrowRight")
    after = seen()
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert after[2] == "2"
    assert after[3].startswith("epoch 2")
    opened.check(reports[task])


def test_the_mark_stands_at_the_epoch(browser, reports):
    tab = Opened(browser, reports["denoise"]).page
    tab.locator(".journey input").first.fill("1")  # epoch 2 of 2: the right end of the axis
    width = tab.locator(".curves").first.bounding_box()["width"]
    mark = tab.locator(".marker").first.bounding_box()
    curves = tab.locator(".curves").first.bounding_box()
    from dawp.report.pictures import MARGINS, WIDTH

    assert (mark["x"] - curves["x"]) / width == pytest.approx(1 - MARGINS[1] / WIDTH, abs=0.01)


def test_levels_are_matched_or_true(browser, reports):
    tab = Opened(browser, reports["denoise"]).page
    volumes = "() => [...document.querySelectorAll('details.clip')[0].querySelectorAll('audio')].map((p) => p.volume)"
    matched = tab.evaluate(volumes)
    assert min(matched) < 1
    assert max(matched) == 1
    tab.uncheck("#matched")
    assert set(tab.evaluate(volumes)) == {1}
    tab.check("#matched")
    assert tab.evaluate(volumes) == matched


def test_the_table_is_sorted_by_numbers(browser, reports):
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
def test_nothing_sticks_out_at_the_side(width, browser, reports):
    for place in reports.values():
        tab = Opened(browser, place).page
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


def test_a_hundred_clips_open_with_their_sounds_beside_the_page(browser, reports, tmp_path):
    folder = shutil.copytree(reports["denoise"].parent, tmp_path / "run")
    (model, *others) = repetition_folders(folder)
    for other in others:
        shutil.rmtree(other)
    facts = json.loads((model / "result.json").read_text())
    for number in range(1, 100):
        repetition_dir = shutil.copytree(model, folder / f"{number:03d}_clip")
        (repetition_dir / "result.json").write_text(json.dumps({**facts, "repetition": number}))
    place = write_report(folder)
    opened = Opened(browser, place)
    assert opened.page.locator("details.clip").count() == 100
    assert "played from the folders beside it" in opened.page.inner_text("main")
    assert place.stat().st_size < 2 * assets.MAX_EMBEDDED
    player = opened.page.locator("audio").first
    player.focus()
    opened.page.keyboard.press("Space")
    opened.page.wait_for_function(
        "(player) => !player.paused && player.currentTime > 0.05", arg=player.element_handle()
    )
    assert opened.complaints == []
